"""Curvature of the test loss, against dense matrices."""

from dataclasses import replace

import curvature_models as models
import pytest
import torch
from snapshots import (
    OF_PRODUCTS,
    OF_VECTORS,
    SPEC,
    K,
    case_of,
    cosine,
    gradient,
    measure,
    product_count,
    share,
    snapshot_of,
    top,
    with_batch_norm,
)

from workers.curvature import HessianOperator


@pytest.fixture(scope="module")
def test(snapshot, data):
    return case_of(snapshot, data.x_test, data.y_test)


def test_test_set(snapshot, train, test):
    H, G, g = models.dense_hessian(train), models.dense_hessian(test), gradient(test)
    record = measure("test_set", snapshot, tol=1e-9)
    assert record.test_hessian_gradient_overlap == pytest.approx(cosine(G, g), abs=OF_PRODUCTS)
    assert record.test_gradient_in_top == pytest.approx(share(top(H), g), abs=OF_VECTORS)
    assert record.test_f_top == pytest.approx(share(top(G), g), abs=OF_VECTORS)
    largest = float(torch.linalg.eigvalsh(G)[-1])
    # An eigenvalue is at most a residual away.
    assert record.test_sharpness == pytest.approx(largest, rel=1e-9)
    assert record.test_top_overlap == pytest.approx(
        float((top(G).T @ top(H)).square().sum()) / K, abs=OF_VECTORS
    )
    assert record.test_converged
    assert record.test_f_top != pytest.approx(record.test_gradient_in_top, abs=1e-2)


def test_test_set_without_pairs(snapshot):
    _, before = snapshot.pairs, snapshot.hessian_products
    cheap = measure("test_set", snapshot, eigenpairs=False)
    assert snapshot.hessian_products == before + 1 == before + product_count("test_set", eigenpairs=False)
    whole = measure("test_set", snapshot)
    assert snapshot.hessian_products > before + 2
    assert cheap.test_gradient_in_top == whole.test_gradient_in_top
    assert (
        cheap.test_f_top,
        cheap.test_sharpness,
        cheap.test_top_overlap,
        cheap.test_converged,
    ) == (None,) * 4


def test_the_test_set_is_seen_with_population_statistics(data):
    found = {}
    for mode in ("train", "eval"):
        snapshot = snapshot_of(replace(SPEC, batch_norm=mode), with_batch_norm(), data)
        snapshot.evaluate("train")  # which leaves the batch norm in this mode
        loss, _ = snapshot.evaluate("test")
        snapshot.evaluate("train")
        with snapshot.operator(HessianOperator, split="test") as G:
            found[mode] = G.loss, G.gradient
        # Means of the same losses, in float64.
        assert found[mode][0] == pytest.approx(loss, rel=1e-12)
    assert torch.equal(found["train"][1], found["eval"][1])
    assert found["eval"][0] != pytest.approx(snapshot.evaluate("train")[0], rel=1e-3)


def test_a_test_loss_that_is_infinite_is_no_divergence(data):
    broken = replace(data, x_test=data.x_test.clone().index_fill_(0, torch.tensor(0), torch.inf))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).double()
    record = measure("test_set", snapshot_of(SPEC, model, broken))
    assert set(vars(record).values()) == {None}
