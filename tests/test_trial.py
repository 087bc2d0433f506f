"""A trial: reproducible to the bit, untouched by what is measured on it, and right about when it diverges."""

import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workers import find, trial
from workers.curvature import HessianOperator
from workers.result import TrialResult, TrialStatus, measurement_columns
from workers.spec import Component, Request, SpecError, TrialSpec
from workers.training import Training, check_last_batch
from workers.trial import TrialContext, in_order, run_trial

EVERYTHING = {
    "loss": Request(every=2),
    "hessian_gradient_overlap": Request(every=3),
    "top_eigenpairs": Request(at=(0, 4, 6), options={"count": 12}),
    "gradient_overlap": Request(),
    "subspace_overlap": Request(options={"since": [0, 4]}),
    # at a step that others follow, so that training could notice
    "spectral_density": Request(at=(4,), options={"probes": 2, "lanczos_steps": 5}),
    "smallest_eigenvalue": Request(at=(4,)),
    "gauss_newton": Request(at=(4,), options={"count": 5}),
    "hessian_residual": Request(at=(4,)),
    "layer_hessians": Request(at=(4,)),
    "gradient_covariance": Request(at=(4,), options={"count": 5}),
    "class_means": Request(at=(4,)),
    "test_set": Request(at=(4,)),
    "batch_sharpness": Request(at=(4,), options={"batches": 3}),
    "random_vectors": Request(at=(4,), options={"vectors": 3}),
    "layer_mass": Request(at=(4,)),
    "switch": Request(at=(4,)),
}
SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [8]}),
    dataset=Component("digits", {"classes": 5, "samples": 200}),
    batch_size=32,
    steps=6,
    measure=EVERYTHING,
)


def run(spec: TrialSpec) -> tuple[list[dict[str, Any]], TrialResult]:
    *told, result = run_trial(spec, TrialContext(data=Path("absent")))
    assert isinstance(result, TrialResult)
    return [item for item in told if isinstance(item, dict)], result


@pytest.fixture(scope="module")
def finished() -> tuple[list[dict[str, Any]], TrialResult]:
    return run(SPEC)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Every Training that run_trial makes, to look at its final weights."""
    made: list[Training] = []

    class Kept(Training):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(trial, "Training", Kept)
    return made


def test_rows_come_at_the_steps_asked_for(finished: tuple[list[dict[str, Any]], TrialResult]) -> None:
    rows, _ = finished
    assert [row["step"] for row in rows] == [0, 2, 3, 4, 6]
    measured = {
        name: [row["step"] for row in rows if row.get(name) is not None] for name in set().union(*rows)
    }
    assert measured["train_loss"] == [0, 2, 4, 6]
    assert measured["hessian_gradient_overlap"] == [0, 3, 6]
    assert measured["eigenvalues"] == measured["f_top"] == [0, 4, 6]
    assert measured["subspace_overlap"] == [4, 6]
    assert measured["density_nodes"] == measured["test_f_top"] == [4]
    # no step follows the last, so it has neither a mini-batch nor an update
    assert measured["f_top_batch"] == measured["f_top_update"] == [0, 4]
    assert measured["batch_loss"] == [0, 2, 3, 4]


def test_every_row_has_only_declared_columns(finished: tuple[list[dict[str, Any]], TrialResult]) -> None:
    rows, _ = finished
    assert set().union(*rows) <= measurement_columns().keys()


def test_every_measurement_there_is_fills_its_columns(
    finished: tuple[list[dict[str, Any]], TrialResult],
) -> None:
    assert EVERYTHING.keys() == set(find.names("measurements"))
    filled = {name for row in finished[0] for name, value in row.items() if value is not None}
    for name in EVERYTHING.keys() - {"switch"}:  # which plain SGD has none of
        record = find.module("measurements", name).Record
        assert {field.name for field in fields(record)} <= filled, name


def test_numbers_agree_with_each_other(finished: tuple[list[dict[str, Any]], TrialResult]) -> None:
    rows, result = finished
    last = rows[-1]
    # sums of the same stored float64 numbers: equal up to a few roundings
    assert last["f_top"] == pytest.approx(sum(last["gradient_overlaps"][:5]), rel=1e-12)
    assert last["sharpness"] == last["eigenvalues"][0]
    assert last["stability"] == pytest.approx(SPEC.learning_rate * last["sharpness"] / 2, rel=1e-12)
    assert last["eigenvalues"] == sorted(last["eigenvalues"], reverse=True)
    assert len(last["eigenvalues"]) == 12
    assert last["converged"]
    # max() of residuals below the default tolerance is what converged says
    assert max(last["residuals"]) <= 1e-3
    starts = [overlap["since"] for overlap in last["subspace_overlap"]]
    assert starts == [0, 4]
    for overlap in last["subspace_overlap"]:
        assert overlap["by_dimension"][4] == overlap["top"]
        # overlaps are fractions; 1e-6 is the rounding of unit vectors in float32
        assert all(0 <= value <= 1 + 1e-6 for value in (overlap["next"], *overlap["by_dimension"]))
    assert result.hessian_products == sum(row["hessian_products"] for row in rows)
    assert result.classes == 5
    assert result.parameters == 64 * 8 + 8 + 8 * 5 + 5
    assert (result.status, result.steps_done) == (TrialStatus.COMPLETED, 6)


def test_update_of_plain_sgd_points_along_the_batch_gradient(
    finished: tuple[list[dict[str, Any]], TrialResult],
) -> None:
    for row in finished[0]:
        if row.get("f_top_batch") is not None:
            # θ_{t+1} − θ_t is formed from float32 weights of size ~1 and updates of size ~0.01: relative error 1e-5
            assert row["f_top_update"] == pytest.approx(row["f_top_batch"], abs=1e-4)


def test_the_same_spec_gives_the_same_numbers(finished: tuple[list[dict[str, Any]], TrialResult]) -> None:
    torch.manual_seed(123)  # whatever the state the process happens to be in
    assert run(SPEC)[0] == finished[0]


def test_what_a_trial_tells_is_read_without_torch(
    finished: tuple[list[dict[str, Any]], TrialResult],
) -> None:
    """A driver would take a second to import it, for a version that only looks like text."""
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); sys.exit('torch' in sys.modules)"
    told = pickle.dumps(finished)
    assert subprocess.run([sys.executable, "-c", code], input=told, check=False).returncode == 0


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({}, EVERYTHING),
        ({"optimizer": Component("adam"), "precision": "float64"}, EVERYTHING),
        (
            {"optimizer": Component("projected", {"update": "dominant", "switch_at": 2, "every": 3})},
            EVERYTHING,
        ),
        (  # its dropout draws random numbers and its batch norm keeps running averages
            {
                "architecture": Component("convnet", {"dropout": True, "batch_norm": True}),
                "dataset": Component("mnist5k", {"samples": 48}),
                "batch_norm": "train",
                "batch_size": 24,
                "steps": 3,
            },
            {"loss": Request(every=1), "hessian_gradient_overlap": Request(every=2)},
        ),
    ],
    ids=["mlp", "adam in float64", "projected", "regularised convnet"],
)
def test_training_is_bit_identical_with_measurements_on_or_off(
    changes: dict[str, Any], measure: dict[str, Request], trainings: list[Training]
) -> None:
    spec = replace(SPEC, **changes)
    run(replace(spec, measure=measure))
    run(replace(spec, measure={}))
    on, off = (training.model.state_dict() for training in trainings)
    for name in on:
        assert torch.equal(on[name], off[name]), name


def test_streams_are_separate(trainings: list[Training]) -> None:
    run(replace(SPEC, measure={}, steps=0))
    run(replace(SPEC, measure={}, steps=0, batch_size=16, learning_rate=0.5))
    run(replace(SPEC, measure={}, steps=0, seed=1))
    first, same, other = (training.weights() for training in trainings)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_batches_visit_every_sample_once_an_epoch(trainings: list[Training]) -> None:
    run(replace(SPEC, measure={}, steps=0))
    (training,) = trainings
    seen = []
    for _ in range(training.steps_per_epoch):
        seen.append(training._next_batch())
        training.step += 1
    assert [len(batch) for batch in seen] == [32] * 6 + [8]
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(200))
    assert not torch.equal(training._next_batch(), seen[0])


def test_epochs_become_steps() -> None:
    rows, result = run(replace(SPEC, steps=None, epochs=2, measure={"loss": Request(at=(14,))}))
    assert result.steps_done == 14
    assert rows[0]["epoch"] == 2.0


def test_divergence_is_a_result_that_says_when() -> None:
    rows, result = run(replace(SPEC, learning_rate=1e30, steps=200, measure={"loss": Request(at=(0, 150))}))
    assert result.status == TrialStatus.DIVERGED
    assert 1 <= result.steps_done < 10
    assert [row["step"] for row in rows] == [0]


def test_a_loss_above_the_trials_bound_is_a_divergence_too() -> None:
    spec = replace(SPEC, learning_rate=100.0, steps=60, measure={"loss": Request(every=1)})
    losses = [row["batch_loss"] for row in run(spec)[0][:-1]]
    bound = sorted(losses)[-2]  # one step is above it
    rows, result = run(replace(spec, loss_bound=bound))
    assert (result.status, result.steps_done) == (TrialStatus.DIVERGED, losses.index(max(losses)))
    assert [row["batch_loss"] for row in rows] == losses[: result.steps_done]


def test_a_loss_that_is_infinite_only_after_the_last_step_is_a_divergence() -> None:
    spec = replace(SPEC, learning_rate=1e30, steps=1, measure={"loss": Request(every=1)})
    rows, result = run(spec)
    assert (result.status, result.steps_done) == (TrialStatus.DIVERGED, 1)
    assert [row["step"] for row in rows] == [0]


def test_the_batch_gradient_is_what_it_was_before_the_optimiser_worked_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "greedy.py").write_text(
        "import torch\n\n"
        "class Greedy(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        super().step(closure)\n"
        "        for group in self.param_groups:\n"
        "            for parameter in group['params']:\n"
        "                parameter.grad.zero_()\n\n"
        "def build(parameters, learning_rate):\n"
        "    return Greedy(parameters, lr=learning_rate)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    greedy, plain = (
        run(replace(SPEC, optimizer=optimizer))[0][0]["f_top_batch"]
        for optimizer in (Component("greedy.build"), Component("sgd"))
    )
    assert greedy == plain


def test_the_overlap_of_a_random_vector_needs_the_whole_top_subspace() -> None:
    measure = {"top_eigenpairs": Request(at=(0,), options={"count": 4})}
    ((row,), _) = run(replace(SPEC, measure=measure))
    assert row["random_overlap"] is None
    assert len(row["eigenvalues"]) == 4


def test_what_is_measured_between_does_not_move_the_step_of_divergence() -> None:
    spec = replace(SPEC, learning_rate=1e30, steps=200)
    often = run(replace(spec, measure={"loss": Request(every=1)}))[1]
    never = run(replace(spec, measure={}))[1]
    assert often.steps_done == never.steps_done


def test_more_eigenpairs_than_parameters_is_refused() -> None:
    measure = {"top_eigenpairs": Request(at=(0,), options={"count": 1000})}
    with pytest.raises(SpecError, match=r"top_eigenpairs.count: 1000: the model has only 565 parameters"):
        run(replace(SPEC, measure=measure))


REGULARISED = replace(
    SPEC,
    architecture=Component("convnet", {"batch_norm": True}),
    dataset=Component("mnist5k", {"samples": 9}),
    batch_size=4,
    steps=1,
    batch_norm="train",
    measure={"loss": Request(at=(0,)), "hessian_gradient_overlap": Request(at=(0,))},
)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"epochs": 1, "steps": None, "batch_norm": "eval"}, "dataset.samples"),
        ({"measurement_samples": 5}, "measurement_samples"),
        ({"measurement_samples": 5, "batch_size": 1, "steps": 0}, "measurement_samples"),
    ],
)
def test_batch_norm_of_one_sample_is_refused_before_the_first_step(changes: dict[str, Any], key: str) -> None:
    spec = replace(REGULARISED, **changes)
    message = rf"^batch_size: {spec.batch_size}: the last batch of \d samples has 1, .* another batch_size or {key}$"
    with pytest.raises(SpecError, match=message):
        run(spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurement_samples": 6},
        {"measurement_samples": 5, "batch_norm": "eval"},  # a single batch of 4, the last never comes
    ],
)
def test_batch_norm_of_more_is_not_refused(changes: dict[str, Any]) -> None:
    rows, result = run(replace(REGULARISED, **changes))
    assert result.status == TrialStatus.COMPLETED
    assert rows[0]["hessian_gradient_overlap"] is not None


def test_batch_norm_of_one_image_has_its_pixels() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())
    check_last_batch(model, torch.ones(5, 1, 4, 4), 4, "dataset.samples")
    with pytest.raises(SpecError, match="batch_size: 4: the last batch of 5 samples has 1"):
        check_last_batch(model, torch.ones(5, 1, 3, 3), 4, "dataset.samples")


def test_measurement_samples_are_drawn_once_and_the_same_for_every_seed() -> None:
    spec = replace(
        SPEC, steps=0, measure={"loss": Request(at=(0,))}, initialization="zeros", measurement_samples=50
    )
    loss_of_seed = [run(replace(spec, seed=seed))[0][0]["train_accuracy"] for seed in range(3)]
    assert len(set(loss_of_seed)) == 1
    with pytest.raises(SpecError, match="measurement_samples: 500: there are only 200"):
        run(replace(spec, measurement_samples=500))


def test_followers_come_behind_what_they_follow() -> None:
    ordered = dict(
        in_order({"subspace_overlap": Request(options={"since": [1]}), "top_eigenpairs": Request(every=4)})
    )
    assert list(ordered) == ["top_eigenpairs", "subspace_overlap"]
    assert ordered["subspace_overlap"] == Request(every=4, options={"since": [1]})


@pytest.mark.parametrize("density", [True, False])
def test_no_product_of_a_step_is_made_twice(monkeypatch: pytest.MonkeyPatch, density: bool) -> None:
    """What the measurements of a step multiply by H, the gradient and the density's probes among it, all differs."""
    multiplied: list[torch.Tensor] = []
    product = HessianOperator.__matmul__

    def counted(self: HessianOperator, vectors: torch.Tensor) -> torch.Tensor:
        multiplied.extend(vectors.double().reshape(len(vectors), -1).T)
        return product(self, vectors)

    monkeypatch.setattr(HessianOperator, "__matmul__", counted)
    names = ["hessian_gradient_overlap", "top_eigenpairs", "gradient_overlap", "subspace_overlap"]
    names += ["spectral_density"] if density else []
    measure = {name: replace(EVERYTHING[name], at=(6,), every=None) for name in names}
    rows, result = run(replace(SPEC, measure=measure))
    assert rows[0]["hessian_products"] == result.hessian_products == len(multiplied)
    units = torch.nn.functional.normalize(torch.stack(multiplied), dim=1)
    # Two made from the same vector would differ by rounding, 1e-7; unlike ones of 565 components are far from parallel.
    assert float((units @ units.T).triu(1).abs().max()) < 0.9


def test_eigenpairs_go_on_from_the_products_of_the_density() -> None:
    pairs, density = (
        {name: replace(EVERYTHING[name], at=(6,), every=None)}
        for name in ("top_eigenpairs", "spectral_density")
    )
    alone, beside, together = (
        run(replace(SPEC, measure=measure))[1].hessian_products
        for measure in (pairs, density, density | pairs)
    )
    # The first probe makes 5 products; all of them are saved, but for one or two that the density knows less well.
    assert together < alone + beside - 2
