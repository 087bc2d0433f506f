"""Curvature that mini-batches meet, against dense matrices of each batch."""

from dataclasses import replace

import curvature_models as models
import pytest
import torch
from snapshots import (
    OF_PRODUCTS,
    SPEC,
    gradient,
    measure,
    rayleigh,
    snapshot_of,
)

from workers.initialization import model_of
from workers.snapshot import Snapshot


def batches_of(snapshot, monkeypatch, **options):
    """The record, and the index sets that it was made of."""
    seen = []
    operator = Snapshot.operator

    def kept(self, kind, *, batch=None, **rest):
        seen.append(batch)
        return operator(self, kind, batch=batch, **rest)

    monkeypatch.setattr(Snapshot, "operator", kept)
    return measure("batch_sharpness", snapshot, **options), seen


def test_batch_sharpness(snapshot, train, monkeypatch):
    record, batches = batches_of(snapshot, monkeypatch, batches=5)
    assert [len(batch.unique()) for batch in batches] == [8] * 5
    assert len({tuple(batch.tolist()) for batch in batches}) == 5
    cases = [replace(train, inputs=train.inputs[b], targets=train.targets[b]) for b in batches]
    values = [rayleigh(models.dense_hessian(case), gradient(case)) for case in cases]
    values = torch.tensor(values, dtype=torch.float64)
    # As a product, relative to the largest of them.
    scale = OF_PRODUCTS * float(values.abs().max())
    assert record.batch_sharpness == pytest.approx(float(values.mean()), abs=scale)
    assert record.batch_sharpness_error == pytest.approx(float(values.std()) / 5**0.5, abs=scale)
    assert measure("batch_sharpness", snapshot, batches=1).batch_sharpness_error is None


def test_mini_batches_differ_between_steps_and_seeds_and_are_the_same_again(data):
    def value(step=0, seed=0):
        model = model_of(SPEC, data)
        return measure("batch_sharpness", snapshot_of(replace(SPEC, seed=seed), model, data, step), batches=2)

    assert value() == value()
    assert len({value().batch_sharpness, value(step=1).batch_sharpness, value(seed=1).batch_sharpness}) == 3


@pytest.mark.parametrize("batch_size", [40, 64, "full"])
def test_of_a_full_batch_it_is_that_of_the_loss(batch_size, data, train, monkeypatch):
    snapshot = snapshot_of(replace(SPEC, batch_size=batch_size, measurement_samples=10), data=data)
    record, batches = batches_of(snapshot, monkeypatch)
    assert [len(batch) for batch in batches] == [40]
    # As a product; the measurement set of ten samples has no part in it.
    assert record.batch_sharpness == pytest.approx(
        rayleigh(models.dense_hessian(train), gradient(train)), rel=OF_PRODUCTS
    )
    assert record.batch_sharpness_error is None
    assert snapshot.hessian_products == 1


def test_batches_without_a_gradient_are_left_out(data):
    # Of inputs that are 0 but for those of one sample, a layer without bias has a gradient from that one alone.
    inputs = torch.zeros_like(data.x_train)
    inputs[0] = 1.0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3, bias=False)).double()
    torch.nn.init.zeros_(model[1].weight)
    some = snapshot_of(SPEC, model, replace(data, x_train=inputs))
    record = measure("batch_sharpness", some, batches=20)
    # g_B = (p − e_y) ⊗ x/8 and H_B = (diag p − ppᵀ) ⊗ xxᵀ/8 with p = 1/3 and ‖x‖² = 64: (1/3) · 64/8, whichever they were.
    assert record.batch_sharpness == pytest.approx(64 / 8 / 3, rel=OF_PRODUCTS)
    # Equal values, to the rounding of each.
    assert record.batch_sharpness_error == pytest.approx(0.0, abs=OF_PRODUCTS)
    none = snapshot_of(SPEC, model, replace(data, x_train=torch.zeros_like(inputs)))
    assert set(vars(measure("batch_sharpness", none, batches=3)).values()) == {None}
