"""A trial's identity: what changes its id, and that what must not change it does not."""

import dataclasses

import pytest

from workers import spec as spec_module
from workers.spec import DEFAULT_MEASURE, Component, Request, TrialSpec, plain, spec_columns


def make(**changes: object) -> TrialSpec:
    given = {"architecture": Component("mlp"), "dataset": Component("mnist5k"), "steps": 100} | changes
    return TrialSpec(**given)


# A finished trial is found again by its id: an id on this page may change only together with SCIENCE_VERSION.
GOLDEN = [
    (make(), "ecef2f9a57a3e65c"),
    (make(seed=1), "94446458eab96601"),
    (make(learning_rate=0.01, batch_size=256), "eaa2decd79c4ed12"),
    (make(steps=None, epochs=3, precision="float64"), "1c74c6c4db2533d9"),
    (make(architecture=Component("mlp", {"widths": [200, 200], "activation": "tanh"})), "811ac08ac9a7d039"),
    (
        make(dataset=Component("mnist", {"classes": 5}), optimizer=Component("sgd", {"momentum": 0.9})),
        "3a2b736597ba5732",
    ),
    (make(measure={"top_eigenpairs": Request(at=(0, 50), options={"count": 20})}), "ec7423a697a70abc"),
    (make(measure={"loss": Request(every=10)}, measurement_samples=1000, loss="mse"), "6a72d6d5dbe733bd"),
]


@pytest.mark.parametrize(("spec", "trial_id"), GOLDEN)
def test_ids_stay(spec: TrialSpec, trial_id: str) -> None:
    assert spec.trial_id == trial_id


def test_defaults_stay() -> None:
    """A default is part of every id that does not mention it."""
    defaults = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(TrialSpec)
    }
    assert defaults == {
        "architecture": dataclasses.MISSING,
        "dataset": dataclasses.MISSING,
        "optimizer": Component("sgd"),
        "learning_rate": 0.1,
        "batch_size": 64,
        "steps": None,
        "epochs": None,
        "seed": 0,
        "loss": "cross_entropy",
        "precision": "float32",
        "initialization": "glorot",
        "measurement_samples": None,
        "batch_norm": "eval",
        "loss_bound": None,
        "measure": {
            "loss": Request(),
            "hessian_gradient_overlap": Request(),
            "top_eigenpairs": Request(),
            "gradient_overlap": Request(),
        },
    }


def test_a_new_parameter_at_its_default_changes_no_id() -> None:
    """The id is made of what differs from the defaults, so a field that nobody sets is not in it."""
    assert make().changed() == {"architecture": "mlp", "dataset": "mnist5k", "steps": 100}
    written_out = make(
        seed=0, learning_rate=0.1, optimizer=Component("sgd", {}), measure=dict(DEFAULT_MEASURE)
    )
    assert written_out.trial_id == make().trial_id


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrialSpec)])
def test_every_field_changes_the_id(name: str) -> None:
    other = {
        "architecture": Component("convnet"),
        "dataset": Component("mnist5k", {"classes": 2}),
        "optimizer": Component("adam"),
        "learning_rate": 0.2,
        "batch_size": 1,
        "steps": 101,
        "epochs": 1,
        "seed": 1,
        "loss": "mse",
        "precision": "float64",
        "initialization": "torch",
        "measurement_samples": 10,
        "batch_norm": "train",
        "loss_bound": 100.0,
        "measure": {"loss": Request()},
    }
    assert make(**{name: other[name]}).trial_id != make().trial_id


def test_the_order_of_options_and_measurements_is_no_part_of_the_id() -> None:
    one = make(measure={"loss": Request(), "top_eigenpairs": Request(options={"count": 4, "tol": 0.1})})
    other = make(measure={"top_eigenpairs": Request(options={"tol": 0.1, "count": 4}), "loss": Request()})
    assert one.trial_id == other.trial_id


def test_science_version_changes_every_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make().trial_id
    monkeypatch.setattr(spec_module, "SCIENCE_VERSION", spec_module.SCIENCE_VERSION + 1)
    assert make().trial_id != before


def test_columns_are_those_declared() -> None:
    row = make(architecture=Component("mlp", {"widths": [5]})).columns()
    assert row.keys() == spec_columns().keys()
    assert (row["architecture"], row["architecture_options"]) == ("mlp", '{"widths": [5]}')


def test_plain_is_the_shortest_form() -> None:
    assert plain(Component("mlp")) == "mlp"
    assert plain(Request(every=5, options={"count": 3})) == {"every": 5, "count": 3}
