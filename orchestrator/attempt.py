"""One trial between its first start and its commit."""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from orchestrator.alike import kind_of
from orchestrator.events import Started
from orchestrator.faults import POLICIES, Fault
from orchestrator.sweep import Trial
from orchestrator.versions import code_version
from workers.result import Row, TrialResult, TrialStatus


@dataclass
class Attempt:
    """A trial that is not finished, and what its latest attempt has told so far."""

    trial: Trial
    number: int = 0  # attempts begun
    due: float = 0.0  # not before this time.monotonic()
    begun: float = 0.0
    started_at: datetime | None = None
    place: Started | None = None
    rows: list[Row] = field(default_factory=list)
    step: int | None = None  # where it is, as far as is known
    faults: Counter[Fault] = field(default_factory=Counter)  # of the attempts before
    pruned: bool = False  # it is being cancelled, for there is little to hope for

    @cached_property
    def kind(self) -> str:
        return kind_of(self.trial.spec)

    def begin(self) -> None:
        self.number += 1
        self.begun, self.started_at, self.place = time.monotonic(), datetime.now(UTC), None
        self.rows, self.step = [], None

    def exhausted(self, retries: int, most_losses: int) -> bool:
        """Whether there were more faults than a trial may have, of those that count or of those that do not."""
        counted = sum(times for fault, times in self.faults.items() if POLICIES[fault].counted)
        return counted > retries or self.faults.total() - counted > most_losses

    def placed(self, place: Started) -> None:
        """Waiting for a place is no part of the trial's time."""
        self.begun, self.started_at, self.place = time.monotonic(), datetime.now(UTC), place

    def complete(self, result: TrialResult) -> TrialResult:
        """The result with what only the driver knows."""
        return replace(
            result,
            attempts=self.number,
            code_version=result.code_version or code_version(),
            host=result.host or (self.place.host if self.place else None),
            device=result.device or (self.place.device if self.place else None),
            started_at=result.started_at or self.started_at,
            finished_at=result.finished_at or datetime.now(UTC),
        )

    def failure(self, error_type: str, error: str, fault: Fault) -> TrialResult:
        """The result of a trial that could not give one itself."""
        return TrialResult(
            status=TrialStatus.FAILED,
            steps_done=self.step or 0,
            fault=fault,
            error_type=error_type,
            error=error,
            seconds=time.monotonic() - self.begun,
        )

    def cut_short(self) -> TrialResult:
        """The result of a trial that was pruned, as far as its rows tell it."""
        return TrialResult(
            status=TrialStatus.PRUNED,
            steps_done=self.step or 0,
            seconds=time.monotonic() - self.begun,
            hessian_products=sum(row.get("hessian_products") or 0 for row in self.rows),
        )
