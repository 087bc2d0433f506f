"""What a driver asks of a search."""

from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.sweep import Resources, Trial
from workers.result import Row, TrialStatus


class Supply(Protocol):
    """Where trials come from one by one, as those do that follow from the results of others."""

    @property
    def more(self) -> bool:
        """Whether there may be a trial to run still, now or later."""

    @property
    def kinds(self) -> set[str]:
        """The kinds of trials that may come, as `kind_of`."""

    def next(self, has_room: Callable[[Resources], bool]) -> Trial | None:
        """A trial to run now, for which there is room; None where there is none. Raises StoreError; try again then."""

    def row(self, trial_id: str, row: Row) -> bool:
        """A trial has told a row; whether it is to be pruned."""

    def ended(self, trial_id: str, status: TrialStatus, rows: Iterable[Row]) -> None:
        """A trial's result is stored."""
