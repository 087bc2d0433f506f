"""Which trial comes next, and how many fit on a cluster."""

from collections import Counter
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.attempt import Attempt
from orchestrator.cost import UNKNOWN, Cost
from orchestrator.room import Shape, fits, shape_of
from orchestrator.sweep import Resources, Trial
from orchestrator.waiting import Waiting
from workers.result import TrialResult, TrialStatus
from workers.spec import Component, TrialSpec

MLP, RESNET, DIGITS = Component("mlp"), Component("resnet18"), Component("digits")


def trial(
    gradients: float | None = 100, seed: int = 0, resources: Resources | None = None, what: Component = MLP
) -> Trial:
    """A trial that takes so many gradients of one sample."""
    spec = TrialSpec(architecture=what, dataset=DIGITS, steps=1, seed=seed)
    cost = UNKNOWN if gradients is None else Cost(1, 1, 1, 1.0, 1.0, gradients)
    return Trial(spec, resources or Resources(), cost)


def took(seconds: float, status: TrialStatus = TrialStatus.COMPLETED) -> TrialResult:
    return TrialResult(status=status, steps_done=1, seconds=seconds)


def order(waiting: Waiting) -> list[Trial]:
    found = []
    while attempt := waiting.take(lambda _: True):
        found.append(attempt.trial)
    return found


def test_long_ones_first_and_equal_ones_in_the_sweeps_order() -> None:
    trials = [trial(10, seed=0), trial(30, seed=1), trial(10, seed=2), trial(30, seed=3)]
    waiting = Waiting(trials)
    assert len(waiting) == 4
    assert [t.spec.seed for t in order(waiting)] == [1, 3, 0, 2]
    assert len(waiting) == 0
    assert not waiting


def test_those_that_ask_for_more_come_before_longer_ones() -> None:
    half, whole, wide = Resources(gpus=0.5), Resources(gpus=1), Resources(cpus=4)
    trials = [trial(9), trial(5, resources=wide), trial(2, resources=half), trial(1, resources=whole)]
    assert [t.resources for t in order(Waiting(trials))] == [whole, half, wide, Resources()]
    large = Resources(memory_gib=8)
    assert [t.resources for t in order(Waiting([trial(9), trial(1, resources=large)]))] == [
        large,
        Resources(),
    ]


def test_one_of_each_kind_is_begun_before_a_second() -> None:
    trials = [trial(10, seed, what=what) for what in (MLP, RESNET) for seed in range(3)]
    first, second, *_ = order(Waiting(trials))
    assert [first.spec.architecture, second.spec.architecture] == [MLP, RESNET]


def test_how_long_a_kind_took_outweighs_the_plan() -> None:
    trials = [trial(100, seed) for seed in range(3)] + [trial(50, seed, what=RESNET) for seed in range(3)]
    waiting = Waiting(trials)
    begun = [waiting.take(lambda _: True) for _ in range(2)]
    for attempt in begun:
        assert attempt is not None
        waiting.learn(attempt.trial, took(1.0 if attempt.trial.spec.architecture is MLP else 60.0))
    assert [t.spec.architecture for t in order(waiting)] == [RESNET, RESNET, MLP, MLP]


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.DIVERGED, TrialStatus.PRUNED])
def test_trials_that_ended_early_teach_nothing(status: TrialStatus) -> None:
    waiting = Waiting([trial(100, 0), trial(100, 1), trial(50, 2, what=RESNET), trial(50, 3, what=RESNET)])
    for _ in range(2):
        attempt = waiting.take(lambda _: True)
        assert attempt is not None
        waiting.learn(attempt.trial, took(1e6 if attempt.trial.spec.architecture is RESNET else 1.0, status))
    assert [t.spec.architecture for t in order(waiting)] == [MLP, RESNET]


def test_what_has_no_room_waits_and_others_go() -> None:
    gpu, cpu = Resources(gpus=1), Resources()
    waiting = Waiting([trial(resources=gpu), trial(resources=cpu)])
    attempt = waiting.take(lambda resources: resources == cpu)
    assert attempt is not None
    assert attempt.trial.resources == cpu
    assert waiting.take(lambda resources: resources == cpu) is None
    assert len(waiting) == 1


def test_a_trial_that_is_tried_again_goes_first_where_it_has_room() -> None:
    waiting = Waiting([trial(100, seed=1)])
    again = Attempt(trial(1, seed=2, resources=Resources(cpus=2)))
    waiting.put_back(again)
    assert len(waiting) == 2
    assert waiting.kinds == {again.kind}  # seeds and sizes make no kind
    other = waiting.take(lambda resources: resources.cpus == 1)
    assert other is not None
    assert other.trial.spec.seed == 1
    assert waiting.take(lambda _: True) is again
    assert waiting.kinds == set()


def test_preferred_kinds_go_before_all_others() -> None:
    waiting = Waiting([trial(100, resources=Resources(gpus=1)), trial(1, what=RESNET)])
    attempt = waiting.take(lambda _: True, lambda kind: "resnet18" in kind)
    assert attempt is not None
    assert attempt.trial.spec.architecture is RESNET


def test_an_unknown_cost_counts_as_long() -> None:
    trials = [trial(10, seed=0), trial(None, seed=1)]
    assert {t.spec.seed for t in order(Waiting(trials))} == {0, 1}


# --- room ---

UNITS = Shape(1, 1, 1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.lists(st.integers(1, 6), max_size=8))
def test_as_many_fit_as_nodes_of_one_size_hold(nodes: list[int], running: list[int]) -> None:
    """Trials of equal size: each node holds its own CPUs over theirs, whatever order they came in."""
    size = running[0] if running else 1
    room = sum(node // size for node in nodes)
    found = [Shape(0, node) for node in nodes]
    for count in range(room + 2):
        assert fits(found, Counter({Shape(0, size): count} if count else {}), Shape(0, size)) is (
            count < room
        )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.lists(st.integers(1, 4), max_size=4))
def test_what_fits_really_fits(nodes: list[int], running: list[int]) -> None:
    """Against every way to place them: a yes is always right; a no may be wrong, since large ones are placed first."""

    def possible(left: list[int], sizes: list[int]) -> bool:
        if not sizes:
            return True
        size, *rest = sizes
        return any(
            left[i] >= size and possible([*left[:i], left[i] - size, *left[i + 1 :]], rest)
            for i in range(len(left))
        )

    taken = Counter(Shape(0, size) for size in running)
    for size in (1, 2, 3):
        if fits([Shape(0, node) for node in nodes], taken, Shape(0, size)):
            assert possible(nodes, [*running, size])


def test_every_resource_counts() -> None:
    node = Shape(gpus=1, cpus=4, memory=8 * 2**30)
    for resources, room in [
        (Resources(cpus=1), 4),
        (Resources(cpus=1, gpus=0.5), 2),
        (Resources(cpus=1, gpus=1 / 3), 3),
        (Resources(cpus=1, memory_gib=3), 2),
    ]:
        shape = shape_of(resources)
        assert [fits([node], Counter({shape: n} if n else {}), shape) for n in range(6)] == [
            n < room for n in range(6)
        ]
    assert all(a.within(b) == (a <= b) for a, b in combinations_with_replacement([UNITS, Shape(2, 2, 2)], 2))
