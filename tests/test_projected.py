"""The dominant and the bulk branch: one trunk, a switch that its definition gives, and updates that are what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from orchestrator.cost import optimizer_products
from workers import seeding, trial
from workers.optimizers.projected import build
from workers.result import TrialResult, TrialStatus
from workers.spec import Component, Request, SpecError, TrialSpec
from workers.training import Training
from workers.trial import TrialContext, run_trial

TIGHT = 1e-8
"""Of residuals. Eigenvectors are then off by 1e-8 over a relative gap, which is above 1e-3 here: by less than 1e-5."""

SPEC = TrialSpec(
    architecture=Component("softmax", {"bias": False}),
    dataset=Component("digits", {"classes": 3, "samples": 120}),
    batch_size=40,
    steps=12,
    learning_rate=0.05,
    precision="float64",
    measure={
        "switch": Request(every=1),
        "loss": Request(every=1),
        "top_eigenpairs": Request(every=1, options={"tol": TIGHT}),
        "gradient_overlap": Request(),
    },
)
EARLY = {"switch_above": 0.4, "average": 0.5, "tol": TIGHT}


def branch(update: str, spec: TrialSpec = SPEC, **options: Any) -> TrialSpec:
    return replace(spec, optimizer=Component("projected", {"update": update, **EARLY, **options}))


def rows(spec: TrialSpec) -> list[dict[str, Any]]:
    told = run_trial(spec, TrialContext(data=Path("absent")))
    return [item for item in told if isinstance(item, dict)]


@pytest.fixture(scope="module")
def branches() -> dict[str, list[dict[str, Any]]]:
    return {update: rows(branch(update)) for update in ("full", "dominant", "bulk")}


def test_the_switch_is_where_the_moving_average_passes_its_bound(
    branches: dict[str, list[dict[str, Any]]],
) -> None:
    average, switched = 0.0, None
    for row in branches["full"]:
        if switched is None:
            average = 0.5 * average + 0.5 * row["f_top"] ** 0.5
            # two decompositions of the same matrix, each off by less than 1e-5 (see TIGHT)
            assert row["switch_average"] == pytest.approx(average, abs=1e-4)
            if average > 0.4:
                switched = row["step"]
        assert row["switch_step"] == switched
    assert switched is not None
    assert 0 < switched < 6  # there is a trunk, and there are branches to look at


def test_branches_have_one_trunk_and_then_part(branches: dict[str, list[dict[str, Any]]]) -> None:
    switch = branches["full"][-1]["switch_step"]
    losses = {update: [row["train_loss"] for row in found] for update, found in branches.items()}
    for update in ("dominant", "bulk"):
        assert losses[update][: switch + 1] == losses["full"][: switch + 1]  # to the bit
        assert losses[update][switch + 1] != losses["full"][switch + 1]


def test_updates_lie_in_the_top_space_or_beside_it(branches: dict[str, list[dict[str, Any]]]) -> None:
    switch = branches["full"][-1]["switch_step"]
    for dominant, bulk in zip(branches["dominant"][switch:-1], branches["bulk"][switch:-1], strict=True):
        # squares of what two decompositions differ by: below 1e-10 (see TIGHT)
        assert dominant["f_top_update"] == pytest.approx(1.0, abs=1e-8)
        assert bulk["f_top_update"] == pytest.approx(0.0, abs=1e-8)
    assert 0.01 < branches["full"][switch]["f_top_update"] < 0.99


def dense_step(training: Training, update: str) -> torch.Tensor:
    """θ − ηPg or θ − η(I − P)g by torch's dense Hessian of the loss on all samples."""
    x, y = training.data.x_train.flatten(1), training.data.y_train
    weight = training.parameters[0].detach().clone()
    order = torch.randperm(len(x), generator=seeding.generator(0, "batches/0"))[:40]

    def loss(flat: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(inputs @ flat.reshape(weight.shape).T, targets)

    flat = weight.reshape(-1)
    hessian = torch.autograd.functional.hessian(lambda θ: loss(θ, x, y), flat)
    gradient = torch.autograd.functional.jacobian(lambda θ: loss(θ, x[order], y[order]), flat)
    top = torch.linalg.eigh(hessian).eigenvectors[:, -3:]
    along = top @ (top.T @ gradient)
    moved: torch.Tensor = flat - 0.05 * (along if update == "dominant" else gradient - along)
    return moved


@pytest.mark.parametrize("update", ["dominant", "bulk"])
def test_a_step_is_that_of_the_dense_hessian(update: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Training] = []
    monkeypatch.setattr(trial, "Training", lambda *given: made.append(Training(*given)) or made[0])
    told = run_trial(
        branch(update, replace(SPEC, steps=1, measure={"loss": Request()}), switch_at=0),
        TrialContext(data=Path("absent")),
    )
    monkeypatch.setattr(Training, "advance", _after(expected := [], update))  # type: ignore[arg-type]
    list(told)
    # eigenvectors are off by less than 1e-5 (see TIGHT), gradients here are of size 1, the step is .05 of that
    assert torch.allclose(parameters_to_vector(made[0].parameters), expected[0], atol=1e-6, rtol=0)


def _after(expected: list[torch.Tensor], update: str, advance: Any = Training.advance) -> Any:
    def noted(training: Training, keep_gradient: bool = False) -> torch.Tensor:
        expected.append(dense_step(training, update))
        loss: torch.Tensor = advance(training, keep_gradient)
        return loss

    return noted


def looks(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which the optimiser asks for eigenvectors."""
    found: list[int] = []
    look = trial.look

    def noted(training: Training, observer: Any) -> Any:
        found.append(training.step)
        return look(training, observer)

    monkeypatch.setattr(trial, "look", noted)
    optimizer = Component("projected", options)
    list(
        run_trial(
            replace(SPEC, optimizer=optimizer, measure={"loss": Request(at=(0,))}), TrialContext(Path())
        )
    )
    return found


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every": 4, "switch_above": 1.0}, [0, 4, 8]),
        ({"every": 4, "switch_at": 3, "update": "bulk"}, [3, 4, 8]),
        ({"every": 4, "switch_at": 3}, []),
        ({"every": 4, "switch_at": 11, "update": "dominant"}, [11]),
        ({"every": 4, "switch_at": 12, "update": "dominant"}, []),
    ],
)
def test_it_looks_no_more_often_than_it_must_and_than_a_plan_says(
    options: dict[str, Any], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looks(options, monkeypatch) == steps
    # four products for each of the three vectors of a look
    assert optimizer_products(Component("projected", options), classes=3, last=12) == 4 * 3 * len(steps)


def test_it_must_see_the_loss() -> None:
    blind = build([torch.nn.Parameter(torch.ones(2))], 0.1)
    with pytest.raises(RuntimeError, match="see"):
        blind.step()


def test_more_dimensions_than_parameters_are_refused() -> None:
    with pytest.raises(SpecError, match=r"optimizer\.dimension: 500: the model has only 192 parameters"):
        rows(branch("bulk", dimension=500))


def test_a_plan_counts_what_the_optimiser_spends() -> None:
    options = {"every": 10, "switch_at": 50, "update": "dominant", "dimension": 2}
    assert optimizer_products(Component("projected", options), classes=10, last=100) == 5 * 8
    assert optimizer_products(Component("projected", options), classes=10, last=0) == 0
    assert optimizer_products(Component("my_optimizers.lion", options), classes=10, last=100) == 0


def test_a_divergence_is_told_from_the_step_whose_loss_it_was_and_not_from_the_next_look() -> None:
    """Losses are looked at every 50 steps, and by then the weights are no numbers."""
    spec = replace(SPEC, learning_rate=10.0, loss="mse", steps=400, measure={"loss": Request(at=(0,))})
    found = []
    for options in ({"switch_at": 0}, {"every": 21}):  # the first is plain SGD, which never looks
        *_, result = run_trial(
            replace(spec, optimizer=Component("projected", options)), TrialContext(data=Path("absent"))
        )
        assert isinstance(result, TrialResult)
        found.append((result.status, result.steps_done))
    assert found[0] == found[1]
    assert found[0][0] == TrialStatus.DIVERGED
    assert found[0][1] % 21 != 0  # so that there is a difference to see
