"""What a report says before its figures: which sweep, how far it has come, what varies, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.labels import NULLS
from orchestrator.report.lines import natural
from orchestrator.status import FINAL, Failure, status
from orchestrator.store import ResultStore
from workers.spec import spec_columns

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

MOST_VALUES = 8


@dataclass(frozen=True)
class Summary:
    """The head of the page."""

    name: str
    description: str
    finished: int
    planned: int | None  # with those that the sweep file no longer has; None where that cannot be read here
    counts: Mapping[str, int]  # by status, of those that there are
    varies: Mapping[str, str]  # parameter to its values, in words
    failures: Sequence[Failure]
    damaged: Sequence[str]  # files that are not in it

    @property
    def progress(self) -> str:
        """How many trials of how many are in the report.

        >>> Summary("x", "", 3, 4, {"completed": 2, "diverged": 1}, {}, [], []).progress
        '3 of 4 trials are finished: 2 completed, 1 diverged'
        """
        of = "" if self.planned is None else f" of {self.planned}"
        states = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        one = self.finished == 1 and not of
        return f"{self.finished}{of} {'trial is' if one else 'trials are'} finished: {states}"


def summarise(stored: Stored) -> Summary:
    """The summary of results that have at least one finished trial. Raises StoreError."""
    found = status(stored.path)
    trials = stored.trials
    left = None if found.pending is None else found.pending + len(found.running)
    return Summary(
        name=found.name,
        description=ResultStore(stored.path).description(),
        finished=len(trials),
        planned=None if left is None else sum(found.finished.values()) + left,
        counts={str(name): count for name in FINAL if (count := int((trials.status == name).sum()))},
        varies={
            name: _words(name, trials[name].tolist())
            for name in spec_columns()
            if name in trials
            and (name != "measure" or name in stored.groups.keys)
            and trials[name].nunique(dropna=False) > 1
        },
        failures=found.failures,
        damaged=found.damaged,
    )


def _words(name: str, values: Sequence[Any]) -> str:
    """The different values, in order; of many only the ends."""
    given = {value for value in values if value == value and value is not None}
    texts = [_text(value) for value in sorted(given, key=natural)]
    texts += [] if len(given) == len(set(values)) else [NULLS.get(name, "none")]
    if len(texts) > MOST_VALUES:
        return f"{len(texts)} values from {texts[0]} to {texts[-1]}"
    return ", ".join(texts)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
