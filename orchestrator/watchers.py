"""Who is told what happens to a sweep: MLflow's mirror, and people."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.sweep import Sweep, Trial
from workers.result import Row, TrialResult


class Watcher(Protocol):
    """Who is told what happens to a sweep, as the mirror is. No method raises, and none waits."""

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        """Of the sweep's trials, these are left to run; the store is ready."""

    def started(self, trial: Trial) -> None:
        """An attempt begins; those before it, and their rows, no longer count."""

    def row(self, trial_id: str, row: Row) -> None: ...

    def finished(self, trial_id: str, result: TrialResult) -> None:
        """The result is committed."""


class Display(Watcher, Protocol):
    """A watcher for people."""

    def reached(self, trial_id: str, step: int) -> None:
        """Between rows: the step that a trial has come to."""

    def note(self, text: str, trial_id: str | None = None) -> None:
        """One line, about a trial or about the run."""
