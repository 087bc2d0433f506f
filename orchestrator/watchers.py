"""Who is told what happens to a sweep: MLflow's mirror, Ray's metrics, and people."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.faults import Fault
from orchestrator.sweep import Sweep, Trial
from workers.result import Row, TrialResult


class Watcher(Protocol):
    """Who is told what happens to a sweep, as the mirror is. No method raises, and none waits."""

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        """Of the sweep's trials, these are left to run; the store is ready."""

    def started(self, trial: Trial) -> None:
        """An attempt begins; those before it, and their rows, no longer count."""

    def row(self, trial_id: str, row: Row) -> None: ...

    def faulted(self, trial_id: str, fault: Fault) -> None:
        """An attempt came to a fault. Another begins after a pause, or the trial is finished, as failed."""

    def finished(self, trial_id: str, result: TrialResult) -> None:
        """The result is committed."""


class Several:
    """Watchers that are told the same, as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        for watcher in self._watchers:
            watcher.begin(sweep, left)

    def started(self, trial: Trial) -> None:
        for watcher in self._watchers:
            watcher.started(trial)

    def row(self, trial_id: str, row: Row) -> None:
        for watcher in self._watchers:
            watcher.row(trial_id, row)

    def faulted(self, trial_id: str, fault: Fault) -> None:
        for watcher in self._watchers:
            watcher.faulted(trial_id, fault)

    def finished(self, trial_id: str, result: TrialResult) -> None:
        for watcher in self._watchers:
            watcher.finished(trial_id, result)


class Display(Watcher, Protocol):
    """A watcher for people."""

    def reached(self, trial_id: str, step: int) -> None:
        """Between rows: the step that a trial has come to."""

    def note(self, text: str, trial_id: str | None = None) -> None:
        """One line, about a trial or about the run."""
