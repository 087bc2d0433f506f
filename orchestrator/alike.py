"""A sweep whose every trial fails in the same way is stopped early: the rest would fail too."""

import json
import re
from collections.abc import Iterable

from orchestrator.run_content import last_line
from workers.spec import TrialSpec, plain

ENOUGH = 5
"""Trials that must have failed alike before the rest is given up."""

MOST = 25
"""Trials that fail alike after which no further kind is tried."""

KIND = (
    "architecture",
    "dataset",
    "optimizer",
    "loss",
    "precision",
    "batch_norm",
    "initialization",
    "measure",
)
"""Fields that tell kinds of trials apart: of the others, one is as good as another."""


class FailingAlike:
    """What the finished trials of a sweep have in common, as long as all of them failed.

    >>> from workers.spec import Component
    >>> kind = kind_of(TrialSpec(architecture=Component("mlp"), dataset=Component("sine")))
    >>> alike = FailingAlike()
    >>> for _ in range(5):
    ...     alike.failed(kind, "KeyError", "KeyError: 'x'")
    >>> alike.verdict([kind, kind])
    "all 5 trials so far failed alike: KeyError: 'x'"
    """

    def __init__(self) -> None:
        self._other, self._failures = False, 0
        self._reason: str | None = None
        self._said = ""
        self._kinds: set[str] = set()

    def ended(self) -> None:
        """A trial came to an end other than a failure."""
        self._other = True

    def failed(self, kind: str, error_type: str, error: str) -> None:
        said = last_line(error, error_type) or error_type
        reason = f"{error_type} {re.sub(r'[0-9.]+', '#', said)}"
        self._other |= self._reason not in (None, reason)
        self._reason, self._said = reason, said
        self._kinds.add(kind)
        self._failures += 1

    def verdict(self, waiting: Iterable[str]) -> str | None:
        """Why the rest need not be tried, or None: five failed, all alike, and at least one of every kind that waits."""
        if not self.suspicious:
            return None
        if self._failures < MOST and not self._kinds.issuperset(waiting):
            return None
        return f"all {self._failures} trials so far failed alike: {self._said}"

    @property
    def suspicious(self) -> bool:
        """Whether enough have failed, and all alike, to look for a kind of trial that may fare better."""
        return not self._other and self._failures >= ENOUGH

    def untried(self, kind: str) -> bool:
        """Whether no trial of this kind has failed yet."""
        return kind not in self._kinds


def kind_of(spec: TrialSpec) -> str:
    """What a trial has in common with those that fail as it does."""
    return json.dumps({name: plain(getattr(spec, name)) for name in KIND}, sort_keys=True)
