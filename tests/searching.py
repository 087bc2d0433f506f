"""Searches over trials that cost nothing: a bowl whose bottom is known, one after another or side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.driver import Outcome, run_sweep
from orchestrator.events import Event, Failed, Finished, TrialFunction, cancelled, trial_events
from orchestrator.executors import EngineLost
from orchestrator.files import Folder
from orchestrator.search_record import Asked, read
from orchestrator.store import ResultStore
from orchestrator.sweep import Resources, Sweep, Trial, load_sweep
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext

HERE = Path(__file__).parent

SPACE = (
    "{learning_rate: {log_uniform: [0.001, 1.0]}, batch_size: {int: [1, 64]}, loss_bound: {uniform: [1, 9]}}"
)

COUNTED = "{batch_size: {choice: [1, 2, 4]}, optimizer: {choice: [{name: sgd, momentum: {choice: [0, 0.5]}}, adam]}}"
"""Nine points: for each batch size two momenta of SGD, and Adam."""


def sweep(folder: Path, search: str, more: str = "") -> Sweep:
    """A sweep file with this `search`, on trials that only `bowl` can run."""
    file = folder / "s.yaml"
    file.write_text(
        "name: s\ntrial: {architecture: mlp, dataset: digits, steps: 10}\n"
        f"measure: {{loss: {{every: 5}}}}\n{more}\nsearch: {search}\n"
    )
    return load_sweep(file)


def bowl(spec: TrialSpec, context: TrialContext | None = None) -> Iterator[Row | TrialResult]:
    """`train_loss` falls to 0.01 and the squared distance from learning rate 0.03 and batch size 20."""
    size = 20 if spec.batch_size == "full" else spec.batch_size
    best = 0.01 + math.log10(spec.learning_rate / 0.03) ** 2 + (math.log2(size / 20) / 4) ** 2
    for step in (0, 5, 10):
        yield {"step": step, "train_loss": best + (10 - step) / 10}
    yield TrialResult(status=TrialStatus.COMPLETED, steps_done=10)


class Counted:
    """A trial that counts how often each was begun and, after so many, takes the engine with it."""

    def __init__(self, trial: TrialFunction = bowl, dies_at: int | None = None) -> None:
        self.trial, self.dies_at = trial, dies_at
        self.begun: Counter[str] = Counter()

    def __call__(self, spec: TrialSpec, context: TrialContext) -> Any:
        self.begun[spec.trial_id] += 1
        return self.trial(spec, context)

    @property
    def dead(self) -> bool:
        return self.dies_at is not None and self.begun.total() >= self.dies_at


class Killed(BaseException):
    """The driver is no more."""


@contextmanager
def killed_before(name: str, times: int) -> Iterator[None]:
    """As by SIGKILL just before it writes a file whose name begins so for the so-manieth time: nothing is written after."""
    begun, dead = Counter[str](), False
    write, remove = Folder.write, Folder.remove

    def die(self: Folder, file: str, content: Any) -> None:
        nonlocal dead
        begun[name] += file.startswith(name)
        dead = dead or begun[name] == times
        if dead and file != ResultStore.HEARTBEAT:  # which is no more than a courtesy
            raise Killed
        if not dead:
            write(self, file, content)

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(Folder, "write", die)
        patch.setattr(Folder, "remove", lambda self, file: None if dead else remove(self, file))
        yield
    assert dead


class SideBySide:
    """An executor that takes several trials in turn, an event of each."""

    def __init__(self, trial: Counted, slots: int) -> None:
        self.trial, self.slots = trial, slots
        self.running: dict[str, Iterator[Event]] = {}
        self.most = 0

    def admit(self, resources: Resources) -> None: ...

    def has_room(self, resources: Resources) -> bool:
        return len(self.running) < self.slots

    def submit(self, trial: Trial) -> None:
        assert trial.spec.trial_id not in self.running, "begun while it runs"
        made = trial_events(
            trial.spec, data=HERE, folder=None, device="cpu", cpus=1, trial_function=self.trial
        )
        self.running[trial.spec.trial_id] = made
        self.most = max(self.most, len(self.running))

    def events(self, timeout: float) -> list[Event]:
        told = [next(events) for events in self.running.values()]
        for event in told:
            if isinstance(event, Finished | Failed):
                del self.running[event.trial_id]
        if self.trial.dead:
            raise EngineLost("gone")
        return told

    def cancel(self, trial_id: str) -> None:
        if trial_id in self.running:
            self.running[trial_id] = cancelled(trial_id)

    def close(self) -> None: ...


def run(some: Sweep, store: ResultStore, how: Any = bowl, slots: int = 1, **more: Any) -> Outcome:
    """`how` is a trial, a counted one, or an executor."""
    if not isinstance(how, SideBySide):
        how = SideBySide(how if isinstance(how, Counted) else Counted(how), slots)
    return run_sweep(some, store=store, executor=how, pace=0.01, **more)


def asked(some: Sweep, store: ResultStore) -> list[Asked]:
    """What the sweep's only search has asked for."""
    return read(store, some.searches[0].key)
