"""Names of trials: short, deterministic, and each one's own."""

import itertools

import pytest
import samples

from orchestrator.labels import labels
from workers.spec import Component, Request


def named(*specs):
    return labels([{"trial_id": spec.trial_id, **spec.columns()} for spec in specs])


def test_architecture_data_set_and_seed_are_always_there():
    assert named(samples.spec()) == ["mlp mnist5k seed=0"]


def test_no_trials_have_no_names():
    assert labels([]) == []


def test_what_differs_is_shown_with_the_seed_last():
    grid = itertools.product([0.1, 0.01], [0, 1])
    assert named(*(samples.spec(learning_rate=rate, seed=seed, batch_size=64) for rate, seed in grid)) == [
        "mlp mnist5k lr=0.1 seed=0",
        "mlp mnist5k lr=0.1 seed=1",
        "mlp mnist5k lr=0.01 seed=0",
        "mlp mnist5k lr=0.01 seed=1",
    ]


def test_null_is_told_where_it_stands_for_something():
    full, part = (samples.spec(batch_size=b, measurement_samples=m) for b, m in (("full", None), (16, 500)))
    assert named(full, part) == [
        "mlp mnist5k bs=full measurement_samples=all seed=0",
        "mlp mnist5k bs=16 measurement_samples=500 seed=0",
    ]
    assert named(full) == ["mlp mnist5k seed=0"]
    assert named(samples.spec(loss_bound=9.0), samples.spec())[1] == "mlp mnist5k seed=0"


def test_options_are_shown_where_they_are_given_and_differ():
    narrow, wide = (Component("mlp", {"widths": [w, w], "activation": "relu"}) for w in (100, 200))
    assert named(
        samples.spec(architecture=narrow), samples.spec(architecture=wide), samples.spec(batch_size=32)
    ) == [
        "mlp mnist5k activation=relu widths=[100,100] bs=64 seed=0",
        "mlp mnist5k activation=relu widths=[200,200] bs=64 seed=0",
        "mlp mnist5k bs=32 seed=0",
    ]


def test_an_optimiser_that_differs_is_shown_by_its_name():
    found = named(samples.spec(), samples.spec(optimizer=Component("adam")))
    assert found == ["mlp mnist5k sgd seed=0", "mlp mnist5k adam seed=0"]


def test_options_of_the_same_name_say_whose_they_are():
    one = samples.spec(architecture=Component("mlp", {"size": 1}), dataset=Component("mnist5k", {"size": 2}))
    assert named(one, samples.spec())[0] == "mlp mnist5k architecture.size=1 dataset.size=2 seed=0"


@pytest.mark.parametrize(
    ("rates", "texts"),
    [
        ([0.00031622776601683794, 0.001], ["0.000316", "0.001"]),
        ([0.12345678, 0.12345679], ["0.12345678", "0.12345679"]),
        ([1, 1.5], ["1", "1.5"]),
    ],
)
def test_numbers_are_as_short_as_tells_them_apart(rates, texts):
    found = named(*(samples.spec(learning_rate=rate) for rate in rates))
    assert [name.split("lr=")[1].split()[0] for name in found] == texts


def test_whole_and_floating_numbers_that_are_equal_do_not_differ():
    assert named(samples.spec(learning_rate=1, seed=0), samples.spec(learning_rate=1.0, seed=1)) == [
        "mlp mnist5k seed=0",
        "mlp mnist5k seed=1",
    ]


def test_trials_that_differ_in_what_is_measured_alone_get_the_start_of_their_id():
    specs = [samples.spec(), samples.spec(measure={"loss": Request(every=5)})]
    assert named(*specs) == [f"mlp mnist5k seed=0 {spec.trial_id[:6]}" for spec in specs]
    assert labels([spec.columns() for spec in specs]) == ["mlp mnist5k seed=0 #1", "mlp mnist5k seed=0 #2"]


def test_a_row_of_trials_has_the_same_name_as_its_spec_whatever_its_outcome():
    rows = [samples.spec(seed=seed).columns() for seed in (0, 1)]
    outcomes = [{"seconds": 1.0, "status": "failed", "started_at": samples.START}, {"seconds": 2.0}]
    assert labels([row | more for row, more in zip(rows, outcomes, strict=True)]) == labels(rows)


def test_a_large_sweep_has_as_many_names_as_trials_in_any_order():
    values = itertools.product([0.1, 0.03, 0.01], ["float32", "float64"], [None, 1000], range(5))
    specs = [
        samples.spec(learning_rate=rate, precision=precision, measurement_samples=count, seed=seed)
        for rate, precision, count, seed in values
    ]
    names = named(*specs)
    assert len(set(names)) == len(specs)
    assert not [name for name, spec in zip(names, specs, strict=True) if spec.trial_id[:6] in name]
    assert named(*reversed(specs)) == names[::-1]
