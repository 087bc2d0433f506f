"""`batch_size: full` is gradient descent on the whole training set, whatever is evaluated at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.plan import plan
from orchestrator.sweep import load_sweep
from workers import training
from workers.data import load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.spec import Component, Request, TrialSpec
from workers.training import Training
from workers.trial import TrialContext, run_trial

SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [6], "activation": "tanh"}),
    dataset=Component("digits", {"classes": 4, "samples": 101}),
    batch_size="full",
    steps=5,
    precision="float64",
)
CONVNET = replace(
    SPEC,
    architecture=Component("convnet", {"batch_norm": True}),
    dataset=Component("mnist5k", {"samples": 20}),
    steps=1,
)

# the same float64 sums of about a hundred numbers of order one in another order, over five steps: 1e-14 each
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


def trained(spec: TrialSpec) -> Training:
    data = load_data(
        spec.dataset, folder=Path(), search=None, loss=spec.loss, precision=spec.precision, device="cpu"
    )
    made = Training(spec, data, model_of(spec, data), LOSSES[spec.loss])
    for _ in range(made.last):
        made.advance()
    return made


@pytest.mark.parametrize("spec", [SPEC, CONVNET], ids=["mlp", "batch norm"])
def test_it_is_a_batch_of_all_samples(spec: TrialSpec) -> None:
    samples = spec.dataset.options["samples"]
    assert torch.allclose(
        trained(spec).weights(), trained(replace(spec, batch_size=samples)).weights(), **CLOSE
    )


def test_what_is_evaluated_at_once_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(SPEC)
    monkeypatch.setitem(
        training.FULL_BYTES, "cpu", 7 * 64 * 8
    )  # seven digits of 64 float64: 15 chunks, the last of 3
    parts = trained(SPEC)
    assert (whole.chunk_size, parts.chunk_size) == (2**22 // 512, 7)
    assert torch.allclose(whole.weights(), parts.weights(), **CLOSE)
    assert not torch.equal(whole.weights(), parts.weights())


def test_batch_norm_sees_all_samples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.FULL_BYTES, "cpu", 1)
    assert trained(CONVNET).chunk_size == 20


def test_a_step_is_an_epoch_and_its_batch_gradient_the_gradient() -> None:
    measure = {name: Request(every=1) for name in ("loss", "top_eigenpairs", "gradient_overlap")}
    told = run_trial(replace(SPEC, steps=None, epochs=3, measure=measure), TrialContext(Path()))
    rows = [row for row in told if isinstance(row, dict)]
    assert [(row["step"], row["epoch"]) for row in rows] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    for row in rows[:-1]:
        # the same mean over the same samples, summed in chunks of other sizes: a few roundings of 2e-16
        assert row["batch_loss"] == pytest.approx(row["train_loss"], rel=1e-12)
        assert row["f_top_batch"] == pytest.approx(row["f_top"], rel=1e-9)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_it_is_null_in_tables_and_a_word_of_its_own_in_identity() -> None:
    assert SPEC.columns()["batch_size"] is None
    assert SPEC.changed()["batch_size"] == "full"
    assert replace(SPEC, batch_size=101).trial_id != SPEC.trial_id


def test_a_sweep_file_may_say_so(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\ntrial: {architecture: mlp, dataset: mnist5k, epochs: 3}\ngrid: {batch_size: [full, 64]}\n"
    )
    sweep = load_sweep(file)
    assert [t.spec.batch_size for t in sweep.trials] == ["full", 64]
    costs = [trial.cost for trial in plan(sweep, {}).trials]
    assert [(cost.steps, cost.training_epochs) for cost in costs] == [(3, 3.0), (189, 3.024)]
