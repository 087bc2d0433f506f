"""Optuna: ask, tell, prune. The only file that imports it; the study is in memory, made anew from stored results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search_endings import Ending
from orchestrator.search_record import Asked
from orchestrator.search_space import Choice, Distribution, Parameters
from orchestrator.sweep_search import Method
from workers.result import TrialStatus

WARM_UP = 10
"""The median prunes nothing in the first so-manieth part of a trial, where what it learned is noise still."""

LEAST_SHARE = 27
"""Hyperband looks first after that part of a trial, then after 3, 9 and 27 times as much."""

RUNG = "completed_rung_"
"""How Optuna names what hyperband notes by a trial."""

LEAST_TRIALS = 10
"""Completed trials, fewer of which say nothing of importance."""

STATES = {
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.DIVERGED: TrialState.COMPLETE,
    TrialStatus.PRUNED: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.FAIL,
}


class Study:
    """One search as Optuna sees it. Trials are named by their number in the record.

    For each question there is a fresh sampler, seeded by the search's seed and the question's number, so that the
    answer follows from these and what has been told: a search that was killed goes on as if nothing had happened.
    """

    def __init__(self, method: Method, key: str, longest: int | None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._method = method
        self._storage = optuna.storages.InMemoryStorage()
        with quiet():
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=key,  # hyperband takes a trial's bracket from it and the number
                direction=method.direction,
                pruner=_pruner(method, longest),
            )
        self._study_id = self._storage.get_study_id_from_name(key)
        self._ids: dict[int, int] = {}  # Optuna's number for each trial, by ours
        self._points = method.space.points() if method.sampler == "grid" else iter(())

    def add(self, asked: Asked, ending: Ending | None) -> None:
        """A trial that was asked for before, and how it ended, if it has."""
        self._add(asked.number, asked.parameters, system_attrs=asked.notes)
        if ending is None:
            return
        if self._method.pruner == "hyperband" and not any(note.startswith(RUNG) for note in asked.notes):
            # the driver was killed when the result was stored, and what hyperband noted on the way was not
            any(self.report(asked.number, step, value) for step, value in ending.by_step.items())
        self.tell(asked.number, ending)

    @property
    def prunes(self) -> bool:
        return self._method.pruner != "none"

    def ask(self, number: int, new: Callable[[Parameters], bool]) -> Parameters | None:
        """The next parameters to try, which may come again; None where there are no more. `new`: not asked before."""
        match self._method.sampler:
            case "grid":
                return self._first(number, self._points, new)
            case "qmc":
                return self._first(number, [self._sobol(number)], lambda _: True)
        with quiet():
            self._study.sampler = _sampler(self._method, _seed(self._method.seed, number))
            trial = self._study.ask()
            parameters, _ = self._method.space.draw(partial(_suggested, trial))
        self._ids[number] = trial.number
        return parameters

    def ask_at_random(self, number: int, new: Callable[[Parameters], bool], tries: int) -> Parameters | None:
        """New parameters: drawn at random or, after so many tries, the first of a finite space. None: there are none."""
        random, space = np.random.default_rng((self._method.seed, number)), self._method.space
        drawn = (
            space.draw(lambda _, distribution: distribution.at(random.random()))[0] for _ in range(tries)
        )
        return self._first(number, chain(drawn, space.points() if space.size is not None else ()), new)

    def _first(
        self, number: int, points: Iterable[Parameters], wanted: Callable[[Parameters], bool]
    ) -> Parameters | None:
        point = next(filter(wanted, points), None)
        if point is not None:
            self._add(number, point)
        return point

    def notes(self, number: int) -> dict[str, Any]:
        """What sampler and pruner remember by a trial, in JSON's types: to be stored, and given back with `add`."""
        return dict(self._trial(number).system_attrs)

    def report(self, number: int, step: int, value: float) -> bool:
        """Tell an intermediate value, once for each step; whether the trial is to be pruned."""
        if not self._learn(number, step, value):
            return False
        with quiet():
            return bool(self._study.pruner.prune(self._study, self._trial(number)))

    def tell(self, number: int, ending: Ending) -> None:
        """How a trial ended, with the values that were not reported; one without a value counts as failed."""
        for step, known in ending.by_step.items() if self.prunes else ():
            self._learn(number, step, known)
        state, value = STATES[ending.status], ending.value(self._method.maximize)
        if state is TrialState.COMPLETE and value is None:
            state = TrialState.FAIL
        with quiet():
            self._study.tell(self._ids[number], value, state=state)

    def _learn(self, number: int, step: int, value: float) -> bool:
        """Whether this value was not known yet."""
        if step in self._trial(number).intermediate_values:
            return False
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._ids[number])
        self._storage.set_trial_intermediate_value(trial_id, step, value)
        return True

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._ids[number]]

    def _add(self, number: int, parameters: Mapping[str, Any], **more: Any) -> None:
        """One that runs."""
        known = self._method.space.parameters
        distributions = {name: _distribution(known[name]) for name in parameters}
        values = {name: _category(known[name], value) for name, value in parameters.items()}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=values, distributions=distributions, **more
        )
        self._ids[number] = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(trial)

    def _sobol(self, number: int) -> Parameters:
        """Point `number` of a scrambled Sobol' sequence, a dimension for every parameter that there may be.

        Optuna's own sampler draws the first points, and every choice, at random, and counts on being told in order.
        """
        from scipy.stats import qmc

        names = list(self._method.space.parameters)
        sequence = qmc.Sobol(len(names), rng=self._method.seed)
        if number:
            sequence.fast_forward(number)
        place = dict(zip(names, sequence.random()[0], strict=True))
        return self._method.space.draw(lambda name, distribution: distribution.at(float(place[name])))[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental, or samples a choice by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _sampler(method: Method, seed: int) -> optuna.samplers.BaseSampler:
    match method.sampler:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "cmaes":
            # as Optuna advises: what hyperband stops early has still something to say
            return optuna.samplers.CmaEsSampler(
                seed=seed,
                warn_independent_sampling=False,
                consider_pruned_trials=method.pruner == "hyperband",
            )
    conditional = method.space.always.keys() != method.space.parameters.keys()
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True, group=conditional)


def _pruner(method: Method, longest: int | None) -> optuna.pruners.BasePruner:
    match method.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_warmup_steps=max(1, (longest or 0) // WARM_UP))
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=max(1, (longest or 0) // LEAST_SHARE), max_resource=longest or "auto"
            )
    return optuna.pruners.NopPruner()


def _distribution(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(_texts(distribution))
    if distribution.step is None:
        return FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    return IntDistribution(
        int(distribution.low), int(distribution.high), log=distribution.log, step=distribution.step
    )


def _texts(choice: Choice) -> list[str]:
    """Categories as text: Optuna's own can be no lists."""
    return [json.dumps(value, sort_keys=True) for value in choice.values]


def _category(distribution: Distribution, value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(distribution, Choice) else value


def _suggested(trial: optuna.Trial, name: str, distribution: Distribution) -> Any:
    match _distribution(distribution):
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
    assert isinstance(distribution, Choice)
    texts = _texts(distribution)
    return distribution.values[texts.index(trial.suggest_categorical(name, texts))]


def importances(
    space: Mapping[str, Distribution], trials: Iterable[tuple[Parameters, float]], direction: str
) -> dict[str, float]:
    """How much each parameter decides between good trials and others, largest first; they add up to 1.

    PED-ANOVA (Watanabe et al., arXiv:2304.10255; for options that only some choices have, arXiv:2601.20800), Optuna's
    default: how far the distribution of a parameter in the best tenth of the trials is from that in all. Trials outside
    of `space` are left out. Empty where there are no two parameters to compare, or too few trials.
    """
    with quiet():
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize" if direction == "maximize" else "minimize")
        for parameters, value in trials:
            if all(name in space and known in space[name] for name, known in parameters.items()):
                told = {name: _category(space[name], known) for name, known in parameters.items()}
                distributions = {name: _distribution(space[name]) for name in parameters}
                study.add_trial(
                    optuna.trial.create_trial(params=told, distributions=distributions, value=value)
                )
        if len(study.get_trials(deepcopy=False)) < LEAST_TRIALS:
            return {}
        found = optuna.importance.get_param_importances(study)
    if len(found) < 2 or not sum(found.values()) > 0:
        return {}
    return {name: float(found[name]) for name in sorted(found, key=lambda name: (-found[name], name))}
