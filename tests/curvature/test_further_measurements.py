"""Class means and layers in a row, and what all measurements of this kind have in common."""

from dataclasses import replace
from types import SimpleNamespace

import curvature_models as models
import pytest
import torch
from snapshots import (
    OF_VECTORS,
    SPEC,
    K,
    P,
    measure,
    product_count,
    snapshot_of,
    top,
    with_batch_norm,
)

from workers.curvature.class_means import class_means
from workers.spec import Request, SpecError

NAMES = ("class_means", "test_set", "batch_sharpness", "random_vectors", "layer_mass")


def test_class_means(snapshot, train):
    record = measure("class_means", snapshot)
    means = class_means(train.model, train.inputs, train.targets)
    vectors = top(models.dense_hessian(train))
    assert record.class_mean_overlap == pytest.approx(means.class_overlap(vectors), abs=OF_VECTORS)
    assert record.cross_class_overlap == pytest.approx(means.cross_class_overlap(vectors), abs=OF_VECTORS)
    assert len(record.class_mean_eigenvalues) == K
    assert len(record.cross_class_eigenvalues) == K * (K - 2)
    values = record.class_mean_eigenvalues + record.cross_class_eigenvalues
    trace = float(models.dense_gauss_newton(train).trace())
    # Rounding of a sum of that size.
    assert -1e-12 * trace < min(values) <= sum(values) < trace
    assert record.class_mean_eigenvalues == sorted(record.class_mean_eigenvalues, reverse=True)
    assert K / P < record.class_mean_overlap <= 1
    assert K / P < record.cross_class_overlap <= 1
    # The span of the δ_c lies in that of the δ_{c,c'}, and both shares are of spaces of k dimensions.
    assert record.class_mean_overlap <= record.cross_class_overlap


def test_class_means_refuse_what_they_are_not_defined_for():
    with pytest.raises(SpecError, match="loss: mse: class_means weighs by softmax outputs; must be cross"):
        measure("class_means", snapshot_of(replace(SPEC, loss="mse")))
    spec = replace(SPEC, batch_norm="train", batch_size=20)
    with pytest.raises(SpecError, match="batch_norm: train: class_means needs a gradient for each sample"):
        measure("class_means", snapshot_of(spec, with_batch_norm()))
    few = {"top_eigenpairs": Request(options={"count": 1})}
    population = snapshot_of(replace(SPEC, measure=few), with_batch_norm())
    population = measure("class_means", population)
    assert population.class_mean_eigenvalues[0] > 0
    assert population.class_mean_overlap is population.cross_class_overlap is None
    # Without a batch norm the setting means nothing, and nothing is refused.
    assert measure("class_means", snapshot_of(spec)).class_mean_overlap > 0


def test_layer_mass(snapshot, train):
    vectors = top(models.dense_hessian(train), 2 * K)
    _, before = snapshot.pairs, snapshot.hessian_products
    first, second = measure("layer_mass", snapshot).layer_mass
    assert snapshot.hessian_products == before
    assert (first.layer, first.parameters) == ("1", 260)
    assert (second.layer, second.parameters) == ("3", 15)
    for layer, rows in ((first, slice(0, 260)), (second, slice(260, 275))):
        assert layer.mass == pytest.approx(vectors[rows].square().sum(0).tolist(), abs=OF_VECTORS)
    # Unit vectors to rounding.
    assert [a + b for a, b in zip(first.mass, second.mass, strict=True)] == pytest.approx(
        [1.0] * 6, abs=1e-12
    )


def test_layer_mass_of_shared_and_frozen_parameters():
    for model in (models.Tied(), models.partly_frozen()):
        names = dict(model.named_parameters())
        p = sum(value.numel() for value in names.values() if value.requires_grad)
        stand_in = SimpleNamespace(model=model, pairs=SimpleNamespace(vectors=torch.eye(p)))
        found = measure("layer_mass", stand_in).layer_mass
        masses = torch.tensor([layer.mass for layer in found])
        # Of unit vectors along the axes: each is in one layer, and a layer has as many as parameters.
        assert torch.equal(masses.sum(0), torch.ones(p))
        assert masses.sum(1).tolist() == [layer.parameters for layer in found]


def test_they_leave_the_model_of_the_snapshot_as_it_was(data):
    snapshot = snapshot_of(SPEC, data=data)
    before = {name: value.clone() for name, value in snapshot.model.state_dict().items()}
    random_state = torch.get_rng_state()
    for name in NAMES:
        measure(name, snapshot)
    assert all(torch.equal(value, before[name]) for name, value in snapshot.model.state_dict().items())
    assert all(parameter.grad is None for parameter in snapshot.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_plan_expects_is_about_what_is_spent(snapshot):
    _ = snapshot.pairs
    for name in NAMES:
        before = snapshot.hessian_products
        measure(name, snapshot)
        spent = snapshot.hessian_products - before
        # The model is small, so that its pairs take more or fewer: a factor of three.
        assert product_count(name) / 3 <= spent <= 3 * product_count(name), name
