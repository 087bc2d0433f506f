"""How the trials of a search ended, read from stored results: what the sampler is told. Imports no optuna."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import tables
from orchestrator.files import reason
from orchestrator.search_record import Asked, read
from orchestrator.search_space import OutsideError
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep_search import Method, Search
from workers.result import Row, TrialStatus


@dataclass(frozen=True)
class Ending:
    """The status of a finished trial and the metric by step, where it was measured."""

    status: TrialStatus
    by_step: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, status: TrialStatus, rows: Iterable[Row], metric: str) -> Ending:
        """From the trial's rows."""
        found = {row["step"]: row[metric] for row in rows if row.get(metric) is not None}
        return cls(status, dict(sorted(found.items())))

    def value(self, maximize: bool) -> float | None:
        """What the trial is worth: the last value of one that completed, the worst there is of one that diverged.

        None of others, and where the metric was never measured or is not finite.

        >>> Ending(TrialStatus.COMPLETED, {0: 0.1, 50: 0.9}).value(maximize=True)
        0.9
        >>> Ending(TrialStatus.DIVERGED, {0: 0.1}).value(maximize=True)
        -inf
        """
        if self.status is TrialStatus.DIVERGED:
            return -math.inf if maximize else math.inf
        if self.status is not TrialStatus.COMPLETED or not self.by_step:
            return None
        last = list(self.by_step.values())[-1]
        return last if math.isfinite(last) else None


def endings(store: ResultStore, metric: str, statuses: Mapping[str, TrialStatus]) -> dict[str, Ending]:
    """By trial_id, of the trials that have a status here. Raises StoreError."""
    try:
        rows = tables.read(store.folder, store.MEASUREMENTS, ["trial_id", "step", metric], tables.ignore)
    except OSError as error:
        raise StoreError(f"{store}: cannot be read: {reason(error)}") from error
    by_trial: dict[str, list[Row]] = {}
    for row in rows.to_pylist():
        by_trial.setdefault(row["trial_id"], []).append(row)
    return {
        trial_id: Ending.of(status, by_trial.get(trial_id, ()), metric)
        for trial_id, status in statuses.items()
    }


def belongs(search: Search, asked: Asked) -> bool:
    """Whether the search as it is now could ask this: its space has the parameters, and they mean that trial."""
    try:
        return search.spec(asked.parameters).trial_id == asked.trial_id
    except OutsideError:
        return False


@dataclass(frozen=True)
class Best:
    """The best completed trial."""

    trial_id: str
    number: int  # of the question
    value: float
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """How far one search has come. `best` is None where no trial has completed yet."""

    name: str
    trials: int  # that it is to have
    asked: int  # different trials asked for so far
    finished: Mapping[str, int]  # of these, by status
    metric: str
    direction: str
    best: Best | None

    @property
    def line(self) -> str:
        """In one line."""
        of = f" of {self.name}" if self.name else ""
        if self.best is None:
            done = self.finished.get("completed", 0)
            why = f"it has no finite value in any of {done} completed trials" if done else "none yet"
            return f"best {self.metric}{of}: {why}"
        values = " ".join(f"{name}={_short(value)}" for name, value in self.best.parameters.items())
        return f"best {self.metric}{of}: {self.best.value:.6g}, trial {self.best.trial_id}: {values}"


def found(search: Search, asked: Iterable[Asked], ended: Mapping[str, Ending]) -> Found:
    """How far a search has come, from what it asked and how its trials ended."""
    first: dict[str, Asked] = {}
    for one in asked:
        if belongs(search, one):
            first.setdefault(one.trial_id, one)
    method, statuses = search.method, [ended[key].status for key in first if key in ended]
    return Found(
        search.name,
        method.trials,
        len(first),
        {str(status): statuses.count(status) for status in dict.fromkeys(statuses)},
        method.metric,
        method.direction,
        _best(method, first.values(), ended),
    )


def _best(method: Method, asked: Iterable[Asked], ended: Mapping[str, Ending]) -> Best | None:
    best: Best | None = None
    for one in asked:
        value = ended[one.trial_id].value(method.maximize) if one.trial_id in ended else None
        if value is None or not math.isfinite(value):
            continue
        if best is None or (value > best.value if method.maximize else value < best.value):
            best = Best(one.trial_id, one.number, value, one.parameters)
    return best


def found_all(store: ResultStore, searches: Sequence[Search]) -> list[Found]:
    """How far each search of a sweep has come. Raises StoreError."""
    ended = endings(store, searches[0].method.metric, store.finished())
    return [found(search, read(store, search.key), ended) for search in searches]


def _short(value: object) -> str:
    """
    >>> _short(0.123456789), _short([16, 16])
    ('0.123457', '[16,16]')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace(" ", "")
