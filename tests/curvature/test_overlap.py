"""Overlaps of spaces and vectors chosen so that the answer is known."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.curvature import overlap


def orthonormal(size, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, columns, dtype=torch.float64, generator=generator))[0]


def test_gradient_overlaps_of_a_known_mixture():
    vectors = orthonormal(50, 4, 0)
    gradient = 7e3 * (0.6 * vectors[:, 1] - 0.8 * vectors[:, 3])
    shares = overlap.gradient_overlaps(vectors, gradient)
    # Rounding of float64 sums of 50 terms.
    torch.testing.assert_close(shares, torch.tensor([0, 0.36, 0, 0.64]).double(), rtol=0, atol=1e-7)
    assert shares.dtype == torch.float64


def test_sums_are_in_float64():
    vectors, gradient = torch.full((10**6, 1), 1e-3), torch.full((10**6,), 3.0)
    # 1e-3 is off by 5e-8 of itself in float32; a sum of 1e6 terms in float32 would be off by far more than 1e-6.
    assert float(overlap.gradient_overlaps(vectors, gradient)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("length", [0.0, 0.9e-12])
def test_vanishing_gradient_has_no_overlap(length):
    gradient = torch.tensor([length, 0.0, 0.0], dtype=torch.float64)
    assert overlap.gradient_overlaps(torch.eye(3).double(), gradient) is None
    assert overlap.cosine(gradient, torch.ones(3).double()) is None
    assert overlap.cosine(torch.ones(3).double(), gradient) is None


def test_short_gradient_still_has_an_overlap():
    gradient = torch.tensor([1.1e-12, 0.0, 0.0], dtype=torch.float64)
    assert float(overlap.gradient_overlaps(torch.eye(3).double(), gradient)[0]) == pytest.approx(
        1.0, abs=1e-15
    )
    assert overlap.cosine(gradient, -gradient) is None or overlap.cosine(
        gradient, -gradient
    ) == pytest.approx(-1)


def test_cosine():
    # Exact fractions, to rounding.
    assert overlap.cosine(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])) == pytest.approx(
        math.sqrt(0.5), abs=1e-15
    )
    assert overlap.cosine(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0])) == -1.0


def test_subspace_overlap_of_rotated_planes():
    angle = 0.3
    turned = torch.eye(6, dtype=torch.float64)
    turned[:, 0] = torch.tensor([math.cos(angle), 0, 0, 0, 0, math.sin(angle)], dtype=torch.float64)
    # One of two directions turned out of the plane: (cos² + 1) / 2.
    assert overlap.subspace_overlap(torch.eye(6).double(), turned, 2) == pytest.approx(
        (math.cos(angle) ** 2 + 1) / 2, abs=1e-15
    )
    assert overlap.next_subspace_overlap(torch.eye(6).double(), turned[:, :4], 2) == pytest.approx(
        1.0, abs=1e-15
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20), columns=st.integers(1, 6))
def test_all_dimensions_at_once(seed, columns):
    first, second = orthonormal(30, columns, seed), orthonormal(30, columns, seed + 1)
    every = overlap.subspace_overlaps(first, second)
    for dimension in range(1, columns + 1):
        expected = (first[:, :dimension].T @ second[:, :dimension]).square().sum() / dimension
        # Rounding of float64 sums of 30 terms.
        assert float(every[dimension - 1]) == pytest.approx(float(expected), abs=1e-14)
        assert overlap.subspace_overlap(first, second, dimension) == pytest.approx(float(expected), abs=1e-14)


def test_subspace_overlap_does_not_see_rotations_within_the_space():
    first, turn = orthonormal(40, 5, 0), orthonormal(5, 5, 1)
    # Rounding of float64 sums of 40 terms.
    assert overlap.subspace_overlap(first, first @ turn, 5) == pytest.approx(1.0, abs=1e-14)


def test_long_vectors_are_summed_in_parts(monkeypatch):
    first, second = orthonormal(50, 3, 0), orthonormal(50, 3, 1)
    whole = overlap.subspace_overlaps(first, second)
    monkeypatch.setattr(overlap, "_SLAB", 7)
    # The same sum in another order.
    torch.testing.assert_close(overlap.subspace_overlaps(first, second), whole, rtol=0, atol=1e-15)


def test_random_overlap():
    # 6 / √(3 · 14)
    assert overlap.random_overlap([3.0, 2.0, 1.0]) == pytest.approx(6 / math.sqrt(42), abs=1e-15)
    assert overlap.random_overlap(torch.tensor([1.0, -1.0])) == 0.0
    assert overlap.random_overlap([0.0, 0.0]) is None


def test_refusals():
    eye = torch.eye(5)
    with pytest.raises(ValueError, match="needs 6 columns, there are 5"):
        overlap.subspace_overlap(eye, eye, 6)
    with pytest.raises(ValueError, match="needs 0 columns"):
        overlap.subspace_overlap(eye, eye, 0)
    with pytest.raises(ValueError, match="needs 6 columns, there are 5"):
        overlap.next_subspace_overlap(eye, eye, 3)
    with pytest.raises(ValueError, match="second: 4 rows, must be 5"):
        overlap.subspace_overlaps(eye, torch.eye(4))
    with pytest.raises(ValueError, match=r"gradient: shape \(4,\), must be \(p,\)"):
        overlap.gradient_overlaps(eye, torch.ones(4))


def test_importing_the_module_does_not_import_torch():
    code = "import sys, workers.curvature.overlap; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_refused():
    import workers.curvature

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = workers.curvature.nothing
    assert all(hasattr(workers.curvature, name) for name in workers.curvature.__all__)
