"""What the measurements of a whole spectrum put into a row, against dense matrices of the same model in float64."""

from dataclasses import replace

import curvature_models as models
import pytest
import torch
from snapshots import measure, snapshot_of
from torch import nn

from workers.spec import Component, Request, SpecError, TrialSpec

SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [4], "activation": "tanh"}),
    dataset=Component("digits", {"classes": 3, "samples": 40}),
    precision="float64",
    measure={"top_eigenpairs": Request(options={"tol": 1e-9})},
)
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def snapshot():
    return snapshot_of(SPEC)


@pytest.fixture(scope="module")
def case(snapshot):
    return models.Case(snapshot.model, snapshot.loss, snapshot.inputs, snapshot.targets)


def eigh(matrix):
    """Eigenvalues, descending, and their vectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.flip(1)


def overlap(first, second, k=3):
    return float((first[:, :k].T @ second[:, :k]).square().sum() / k)


def close(values, expected, scale):
    # An eigenvalue is at most a residual away: the tolerance times the largest, or the smallest, asked for.
    assert values == pytest.approx(expected, rel=0, abs=TOLERANCE * scale)


def test_trace_and_frobenius_norm(snapshot, case):
    H = models.dense_hessian(case)
    spent = snapshot.hessian_products
    record = measure("spectral_density", snapshot, probes=60, lanczos_steps=12)
    assert snapshot.hessian_products - spent == 60 * 12
    # Four standard errors: once in 16,000 for other seeds, and the seed is fixed.
    assert record.trace == pytest.approx(float(H.trace()), abs=4 * record.trace_error)
    assert record.frobenius_norm == pytest.approx(float(H.norm()), abs=4 * record.frobenius_norm_error)
    # The moments are those of the nodes and weights beside them, up to rounding of a sum.
    nodes, weights = torch.tensor(record.density_nodes), torch.tensor(record.density_weights)
    assert record.trace == pytest.approx(len(H) * float((nodes * weights).sum(1).mean()), rel=1e-5)


def test_smallest_eigenvalue(snapshot, case):
    expected = float(eigh(models.dense_hessian(case))[0][-1])
    assert expected < -1e-3
    record = measure("smallest_eigenvalue", snapshot, tol=TOLERANCE)
    close(record.smallest_eigenvalue, expected, -expected)
    assert record.smallest_eigenvalue_residual <= TOLERANCE


def test_gauss_newton(snapshot, case):
    values, vectors = eigh(models.dense_gauss_newton(case))
    top = eigh(models.dense_hessian(case))[1]
    spent = snapshot.hessian_products
    _ = snapshot.pairs
    of_the_hessian = snapshot.hessian_products - spent
    record = measure("gauss_newton", snapshot, tol=TOLERANCE)
    assert snapshot.hessian_products - spent > of_the_hessian + 6
    close(record.gauss_newton_eigenvalues, values[:6].tolist(), float(values[0]))
    assert record.gauss_newton_converged
    assert max(record.gauss_newton_residuals) <= TOLERANCE
    # Vectors are off by residual / gap, here 1e-9 / 0.01 at the most.
    assert record.gauss_newton_overlap == pytest.approx(overlap(vectors, top), abs=1e-6)
    assert 0.1 < record.gauss_newton_overlap < 0.999
    assert measure("gauss_newton", snapshot, count=2).gauss_newton_overlap is None


def test_hessian_residual(snapshot, case):
    values = eigh(models.dense_residual(case))[0].tolist()
    spent = snapshot.hessian_products
    record = measure("hessian_residual", snapshot, tol=TOLERANCE)
    assert snapshot.hessian_products > spent
    close(record.hessian_residual_largest, values[0], values[0])
    close(record.hessian_residual_smallest, values[-1], -values[-1])
    assert record.hessian_residual_largest_residual <= TOLERANCE
    assert record.hessian_residual_smallest_residual <= TOLERANCE


def test_layer_hessians(snapshot, case):
    H = models.dense_hessian(case)
    spent = snapshot.hessian_products
    record = measure("layer_hessians", snapshot, count=20, tol=TOLERANCE)
    assert snapshot.hessian_products > spent
    first, second = record.layer_hessians
    assert [first.layer, second.layer] == ["1", "3"]
    assert [first.parameters, second.parameters] == [64 * 4 + 4, 4 * 3 + 3]
    for layer, rows in ((first, slice(0, 260)), (second, slice(260, 275))):
        values = eigh(H[rows, rows])[0][:20]
        assert (
            len(layer.eigenvalues) == len(layer.residuals) == len(values)
        )  # a block may have fewer than asked for
        close(layer.eigenvalues, values.tolist(), float(values[0]))
        # A block of 15 rows is made whole, and its residuals are rounding.
        assert max(layer.residuals) <= TOLERANCE
        assert layer.eigenvalues[0] <= float(eigh(H)[0][0])
    assert all(parameter.requires_grad for parameter in snapshot.model.parameters())


def test_layers_without_effect_are_left_out():
    class Idle(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(64, 3))
            self.idle = nn.Linear(5, 5)

        def forward(self, inputs):
            return self[1](self[0](inputs))

    record = measure("layer_hessians", snapshot_of(SPEC, Idle().double()))
    assert [layer.layer for layer in record.layer_hessians] == ["1"]


@pytest.mark.parametrize("centred", [False, True])
def test_gradient_covariance(snapshot, case, centred):
    gradients = models.sample_gradients(case)
    dense = torch.cov(gradients.T, correction=0) if centred else gradients.T @ gradients / len(gradients)
    values, vectors = eigh(dense)
    top = eigh(models.dense_hessian(case))[1]
    _, spent = snapshot.pairs, snapshot.hessian_products
    record = measure("gradient_covariance", snapshot, tol=TOLERANCE, centred=centred)
    assert snapshot.hessian_products > spent
    close(record.gradient_covariance_eigenvalues, values[:6].tolist(), float(values[0]))
    assert record.gradient_covariance_converged
    assert max(record.gradient_covariance_residuals) <= TOLERANCE
    # Sums of 40 · 275 squares of order at most 1 in float64, with a margin of 100.
    assert record.gradient_covariance_trace == pytest.approx(float(dense.trace()), rel=1e-13 * 100)
    # As for Gauss-Newton.
    assert record.gradient_covariance_overlap == pytest.approx(overlap(vectors, top), abs=1e-6)


def test_per_sample_gradients_with_batch_statistics_are_refused():
    spec = replace(
        SPEC,
        architecture=Component("convnet", {"batch_norm": True}),
        dataset=Component("mnist5k", {"samples": 8}),
        batch_size=4,
    )
    refused = snapshot_of(replace(spec, batch_norm="train"))
    with pytest.raises(
        SpecError, match="batch_norm: train: gradient_covariance needs a gradient for each sample"
    ):
        measure("gradient_covariance", refused)
    # Without a batch norm the setting means nothing, and nothing is refused.
    plain = replace(SPEC, batch_norm="train", batch_size=20)
    assert measure("gradient_covariance", snapshot_of(plain), count=1).gradient_covariance_trace > 0


@pytest.mark.parametrize("name", ["gauss_newton", "gradient_covariance"])
def test_more_pairs_than_parameters_are_refused(name, snapshot):
    with pytest.raises(SpecError, match=f"{name}.count: 1000: the model has only 275 parameters"):
        measure(name, snapshot, count=1000)
