"""Where trials run: what every executor promises, and the one that runs them in this process."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.events import (
    Event,
    Failed,
    Finished,
    TrialFunction,
    cancelled,
    gpu_count,
    make_importable,
    trial_events,
)
from orchestrator.room import shape_of, shortage

if TYPE_CHECKING:
    from orchestrator.checkpoints import CheckpointPlace
    from orchestrator.sweep import Resources, Trial


class PlacementError(ValueError):
    """A trial asks for more than any node has; one line."""


class EngineLost(RuntimeError):
    """What runs trials has died and does not come back by itself; one line."""


class Executor(Protocol):
    """Runs trials somewhere and tells what becomes of them. Every executor keeps these promises.

    - Each submitted trial ends in exactly one `Finished` or `Failed`, after which nothing more of it comes.
      `Started` comes before its first `Measured`; it is missing where the trial never began.
    - Events of one trial come in the order in which they happened, none left out. Rows that arrived before a
      process died come before the `Failed` that tells of the death; those of its last moment may be lost, as
      may those of a trial that is cancelled.
    - Nothing is run twice: a retry is a new `submit`.
    - What a trial raises is told in an event and never raised here.
    """

    def admit(self, resources: Resources) -> None:
        """Raise PlacementError if a trial with these resources could never be placed."""

    def has_room(self, resources: Resources) -> bool:
        """Whether a trial submitted now would begin without waiting for another to end. May raise EngineLost."""

    def submit(self, trial: Trial) -> None:
        """Begin a trial as soon as it has a place. Returns at once. One that has ended may come again."""

    def events(self, timeout: float) -> list[Event]:
        """What has happened since the last call, waiting at most about `timeout` seconds for the first event.

        Empty, at once, where no trial is on its way. An executor that runs trials in the caller's own thread
        returns when the trial has something to tell: within about a second, or when a measurement is done.
        May raise EngineLost.
        """

    def cancel(self, trial_id: str) -> None:
        """Stop a trial at the next thing it tells, when it has saved a checkpoint.

        It ends in `Failed` with Fault.CANCELLED. Nothing if it has ended.
        """

    def close(self) -> None:
        """Stop whatever still runs, at once and without an event, and free everything held."""


class LocalExecutor:
    """Runs trials one after another in this process, so that breakpoints work.

    `data` and `folder` are those of TrialContext; without `checkpoints` none are saved. With `debug` an
    exception of a trial is raised out of `events`, for a debugger to look at, instead of becoming an event.
    """

    def __init__(
        self,
        data: Path,
        folder: Path | None = None,
        *,
        checkpoints: CheckpointPlace | None = None,
        trial_function: TrialFunction | None = None,
        debug: bool = False,
    ) -> None:
        self._data, self._folder, self._checkpoints, self._debug = data, folder, checkpoints, debug
        self._trial_function = trial_function
        self._running: tuple[str, Generator[Event, None, None]] | None = None
        make_importable(folder)

    def admit(self, resources: Resources) -> None:
        # with fewer CPUs than asked for a trial is slower, and no other waits for them
        here = shape_of(resources)._replace(gpus=gpu_count() if resources.gpus else 0)
        lacking = shortage(resources, [here])
        if lacking:
            raise PlacementError(lacking.replace("the largest node", "this machine"))

    def has_room(self, resources: Resources) -> bool:  # noqa: ARG002
        return self._running is None

    def submit(self, trial: Trial) -> None:
        if self._running:
            raise RuntimeError(f"{self._running[0]} still runs; has_room() says when there is room")
        device = "cuda" if trial.resources.gpus and gpu_count() else "cpu"
        events = trial_events(
            trial.spec,
            data=self._data,
            folder=self._folder,
            device=device,
            cpus=trial.resources.cpus,
            checkpoints=self._checkpoints,
            trial_function=self._trial_function,
            debug=self._debug,
        )
        self._running = trial.spec.trial_id, events

    def events(self, timeout: float) -> list[Event]:  # noqa: ARG002
        if not self._running:
            return []
        running, self._running = self._running, None
        event = next(running[1])
        if not isinstance(event, Finished | Failed):
            self._running = running
        return [event]

    def cancel(self, trial_id: str) -> None:
        if self._running and self._running[0] == trial_id:
            self._running[1].close()
            self._running = trial_id, cancelled(trial_id)

    def close(self) -> None:
        if self._running:
            self.cancel(self._running[0])
            self._running = None
