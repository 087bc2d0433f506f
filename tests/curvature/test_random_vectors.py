"""Random vectors, against many more of them and dense matrices."""

from dataclasses import replace
from types import SimpleNamespace

import curvature_models as models
import pytest
import torch
from snapshots import (
    SPEC,
    K,
    P,
    columnwise_cosine,
    measure,
    product_count,
    snapshot_of,
    top,
)

from workers.initialization import model_of
from workers.spec import Request


def test_random_vectors(snapshot, train):
    H = models.dense_hessian(train)
    _, before = snapshot.pairs, snapshot.hessian_products
    record = measure("random_vectors", snapshot, vectors=300)
    assert snapshot.hessian_products - before == 600 == product_count("random_vectors", vectors=300)
    generator = torch.Generator().manual_seed(1)
    anywhere = torch.randn(P, 4000, dtype=torch.float64, generator=generator)
    within = top(H) @ torch.randn(K, 4000, dtype=torch.float64, generator=generator)
    for found, samples in (
        (record.random_vector_overlap, columnwise_cosine(H @ anywhere, anywhere)),
        (record.random_vector_f_top, (top(H).T @ anywhere).square().sum(0) / anywhere.square().sum(0)),
        (record.random_top_vector_overlap, columnwise_cosine(H @ within, within)),
    ):
        # Four and a half standard errors of 300 draws, with those of 4,000 in them; and the seed is fixed.
        error = float(samples.std()) / 300**0.5
        assert found == pytest.approx(float(samples.mean()), abs=4.5 * error)
    # A beta distribution about k/p, with a relative deviation of some √(2/k): of a mean over 300, 5 % and six of it.
    assert record.random_vector_f_top == pytest.approx(K / P, rel=0.3)
    few = replace(SPEC, measure={"top_eigenpairs": Request(options={"count": 2})})
    record = measure("random_vectors", snapshot_of(few))
    assert record.random_vector_f_top is record.random_top_vector_overlap is None
    assert record.random_vector_overlap is not None


def test_random_vectors_differ_between_steps_and_seeds_and_are_the_same_again(data):
    def overlap(step=0, seed=0):
        model = model_of(SPEC, data)
        return measure("random_vectors", snapshot_of(replace(SPEC, seed=seed), model, data, step), vectors=2)

    assert overlap() == overlap()
    found = [overlap(), overlap(step=1), overlap(seed=1)]
    assert len({record.random_vector_overlap for record in found}) == 3


@pytest.mark.parametrize("seed", range(3))
def test_random_vectors_of_a_diagonal_operator(seed):
    """2 I on the top and zeros elsewhere, where every answer is known."""
    diagonal = torch.zeros(2000, dtype=torch.float64)
    diagonal[:500] = 2.0
    stand_in = SimpleNamespace(
        spec=replace(SPEC, seed=seed),
        step=0,
        classes=500,
        parameters=2000,
        hessian=torch.diag(diagonal),
        pairs=SimpleNamespace(vectors=torch.eye(2000, dtype=torch.float64)[:, :500]),
    )
    record = measure("random_vectors", stand_in, vectors=20)
    # vᵀHv/(‖v‖‖Hv‖) is here the root of the share in the top, and that is beta-distributed about 1/4 with a variance of
    # (1/4)(3/4)/1001; of a mean over 20 that is 0.0031, and four of it.
    assert record.random_vector_f_top == pytest.approx(0.25, abs=0.013)
    assert record.random_vector_overlap == pytest.approx(0.5, abs=0.013)
    # Every vector of the top is an eigenvector; rounding of sums of 2,000 terms.
    assert record.random_top_vector_overlap == pytest.approx(1.0, abs=1e-12)


def test_random_vectors_without_curvature():
    stand_in = SimpleNamespace(
        spec=SPEC,
        step=0,
        classes=2,
        parameters=5,
        hessian=torch.zeros(5, 5),
        pairs=SimpleNamespace(vectors=torch.eye(5)[:, :2]),
    )
    record = measure("random_vectors", stand_in)
    assert record.random_vector_overlap is record.random_top_vector_overlap is None
    assert 0 < record.random_vector_f_top < 1
