"""How well slots are used: from the process that ran each trial, and when it began and ended there."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Span:
    """One trial on one slot; times are seconds of one clock."""

    slot: str
    begun: float
    ended: float


def spans_of(results: str | Path) -> list[Span]:
    """The trials of a sweep whose results were stamped (stamped.py), or whose hosts have one slot each."""
    from orchestrator import results as stored

    found = stored.trials(results)
    columns = (found["host"], found["started_at"], found["finished_at"])
    return [
        Span(slot, begun.timestamp(), ended.timestamp()) for slot, begun, ended in zip(*columns, strict=True)
    ]


def gaps(spans: Iterable[Span]) -> list[float]:
    """Seconds from the end of each trial to the begin of the next on the same slot.

    >>> gaps([Span("a", 0, 1), Span("b", 0, 2), Span("a", 1.5, 3)])
    [0.5]
    """
    by_slot: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.begun):
        by_slot[span.slot].append(span)
    return [after.begun - before.ended for row in by_slot.values() for before, after in pairwise(row)]


def busy_share(spans: Iterable[Span], slots: int, begin: float, end: float) -> float:
    """The share of `slots` slots' time between two moments in which they ran a trial; nan where nothing is between.

    >>> busy_share([Span("a", 0, 1), Span("b", 0, 2)], slots=2, begin=0, end=2)
    0.75
    """
    if end <= begin:
        return math.nan
    busy = sum(max(0.0, min(span.ended, end) - max(span.begun, begin)) for span in spans)
    return busy / (slots * (end - begin))


def ends_per_second(spans: Iterable[Span], begin: float, end: float) -> float:
    """How many trials ended between two moments, a second; nan where nothing is between.

    >>> ends_per_second([Span("a", 0, 1), Span("b", 0, 3)], begin=0, end=2)
    0.5
    """
    return sum(begin < span.ended < end for span in spans) / (end - begin) if end > begin else math.nan


def full_time(spans: Iterable[Span], slots: int) -> tuple[float, float]:
    """From when the last of the slots began its first trial to when the last trial begins: there is work for all.

    >>> full_time([Span("a", 0, 1), Span("b", 0.5, 2), Span("a", 1.5, 3)], slots=2)
    (0.5, 1.5)
    """
    first: dict[str, float] = {}
    for span in (spans := sorted(spans, key=lambda span: span.begun)):
        first.setdefault(span.slot, span.begun)
    return sorted(first.values())[slots - 1], spans[-1].begun


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median and 95th percentile."""
    return {"median": median(seconds), "p95": quantiles(seconds, n=20)[-1]}
