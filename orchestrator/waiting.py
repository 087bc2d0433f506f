"""Which of the trials that wait comes next: the one that takes longest, so that none is left over at the end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.alike import kind_of
from orchestrator.attempt import Attempt
from orchestrator.sweep import Resources, Trial
from workers.result import TrialResult, TrialStatus

RESTING = 0.5
"""How much of a pace that is known already stays when a further trial has ended."""

Pace = tuple[Any, ...]
"""What decides how long the gradient of one sample takes."""


@dataclass
class Group:
    """Trials that cost the same, in the sweep's order."""

    resources: Resources
    gradients: float  # of one sample, in each trial
    pace: Pace
    trials: deque[Trial] = field(default_factory=deque)

    @cached_property
    def kind(self) -> str:
        return kind_of(self.trials[0].spec)


class Waiting:
    """The trials of a sweep that are left.

    Next is one of those that ask for the most, GPUs before CPUs before memory: small ones fit in beside them. Of these it
    is one of a kind that was never begun; then one that takes longest, by the seconds that trials of its kind have taken for
    each gradient of the plan, where those of a kind that none has finished count as longest; then the first in the sweep's
    order. A trial that is tried again goes before all others.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._again: deque[Attempt] = deque()
        self._groups: dict[tuple[Any, ...], Group] = {}
        self._begun: set[Pace] = set()
        self._seconds: dict[Pace, float] = {}  # for each gradient of one sample
        self._count = 0
        for trial in trials:
            pace, gradients = _pace(trial), float(trial.cost.sample_gradients or 0)
            key = (*pace, trial.spec.initialization, gradients)
            if key not in self._groups:
                self._groups[key] = Group(trial.resources, gradients, pace)
            self._groups[key].trials.append(trial)
            self._count += 1

    def __len__(self) -> int:
        return self._count + len(self._again)

    @property
    def kinds(self) -> set[str]:
        """The kinds of trials that wait, as `kind_of`."""
        return {g.kind for g in self._groups.values()} | {attempt.kind for attempt in self._again}

    def take(
        self, has_room: Callable[[Resources], bool], preferred: Callable[[str], bool] = lambda _: False
    ) -> Attempt | None:
        """The next trial for which there is room, no longer waiting; None where there is none. `preferred` kinds first."""
        known: dict[Resources, bool] = {}

        def room(resources: Resources) -> bool:
            if resources not in known:
                known[resources] = has_room(resources)
            return known[resources]

        for attempt in self._again:
            if room(attempt.trial.resources):
                self._again.remove(attempt)
                return attempt
        keys = [key for key, group in self._groups.items() if room(group.resources)]
        if not keys:
            return None
        key = max(keys, key=lambda k: (preferred(self._groups[k].kind), *self._rank(self._groups[k])))
        group = self._groups[key]
        trial = group.trials.popleft()
        if not group.trials:
            del self._groups[key]
        self._begun.add(group.pace)
        self._count -= 1
        return Attempt(trial)

    def put_back(self, attempt: Attempt) -> None:
        """This one is to be tried again, before others."""
        self._again.append(attempt)

    def learn(self, trial: Trial, result: TrialResult) -> None:
        """How long a trial took, for those like it."""
        gradients = trial.cost.sample_gradients
        if not gradients or result.status is not TrialStatus.COMPLETED:
            return
        pace, seconds = _pace(trial), result.seconds / gradients
        known = self._seconds.get(pace, seconds)
        self._seconds[pace] = RESTING * known + (1 - RESTING) * seconds

    def _rank(self, group: Group) -> tuple[Any, ...]:
        wanted = group.resources
        pace = self._seconds.get(group.pace)
        return (
            (wanted.gpus, wanted.cpus, wanted.memory_gib),
            group.pace not in self._begun,
            pace * group.gradients if pace and group.gradients else math.inf,
            group.gradients,
        )


def _pace(trial: Trial) -> Pace:
    """Trials of a sweep share what is the same in them, so that a component is known by where it is."""
    spec = trial.spec
    parts = (id(spec.architecture), id(spec.dataset), id(spec.optimizer))
    return (*parts, spec.loss, spec.precision, spec.batch_norm, spec.batch_size, trial.resources)
