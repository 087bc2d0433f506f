"""Stochastic Lanczos quadrature against moments and spectra known exactly."""

import math

import pytest
import torch
from test_eigensolver import rotated

from workers.curvature import spectral_density

VALUES = torch.cat([torch.linspace(-1, 1, 100), torch.tensor([5.0, 7.0])]).double()


def test_shapes_and_weights():
    density = spectral_density(rotated(VALUES).float(), probes=3, steps=20)
    assert density.nodes.shape == density.weights.shape == (3, 20)
    assert density.nodes.dtype == density.weights.dtype == torch.float64
    assert bool((density.nodes.diff(dim=1) >= 0).all())
    assert bool((density.weights >= 0).all())
    # Squared components of a unit vector, in float64.
    torch.testing.assert_close(density.weights.sum(1), torch.ones(3).double(), rtol=0, atol=1e-13)
    assert (density.products, density.size) == (60, 102)


def test_a_probe_reproduces_its_moments():
    H = rotated(VALUES)
    density = spectral_density(H, probes=1, steps=6, seed=4)
    signs = 2.0 * torch.randint(0, 2, (102,), generator=torch.Generator().manual_seed(4)) - 1
    vector = signs.double() / math.sqrt(102)
    for power in range(12):  # exact for powers below twice the steps
        moment = float(vector @ torch.linalg.matrix_power(H, power) @ vector)
        estimate = float((density.weights * density.nodes**power).sum())
        # Rounding at 1e-16 of 7^power, with a margin of 1e4.
        assert estimate == pytest.approx(moment, abs=1e-12 * 7**power)


def test_as_many_steps_as_eigenvalues_give_the_spectrum():
    density = spectral_density(rotated(VALUES[::4]), probes=2, steps=len(VALUES[::4]))
    # Simple eigenvalues, with gaps of 0.08 far above rounding of float64.
    torch.testing.assert_close(density.nodes[0], VALUES[::4].sort().values, rtol=0, atol=1e-10)
    torch.testing.assert_close(density.nodes[0], density.nodes[1], rtol=0, atol=1e-10)


def test_after_a_breakdown_the_last_node_is_repeated_with_weight_zero():
    H = rotated(torch.cat([torch.tensor([2.0, -1.0]), torch.zeros(50)]).double())
    density = spectral_density(H, probes=2, steps=8)
    for nodes, weights in zip(density.nodes, density.weights, strict=True):
        # Three different eigenvalues, exact to rounding.
        torch.testing.assert_close(nodes[:3], torch.tensor([-1.0, 0.0, 2.0]).double(), rtol=0, atol=1e-13)
        assert bool((nodes[3:] == nodes[2]).all())
        assert not weights[3:].any()
    assert density.products == 6


def test_more_steps_than_rows():
    density = spectral_density(torch.diag(torch.tensor([1.0, 2.0]).double()), probes=1, steps=5)
    # Rounding of a 2 by 2 problem.
    torch.testing.assert_close(density.nodes[0], torch.tensor([1.0, 2, 2, 2, 2]).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        density.weights[0], torch.tensor([0.5, 0.5, 0, 0, 0]).double(), rtol=0, atol=1e-14
    )


def test_zero_matrix():
    density = spectral_density(torch.zeros(5, 5), probes=2, steps=3)
    assert not density.nodes.any()
    assert (density.trace, density.trace_error) == (0.0, 0.0)
    assert (density.frobenius_norm, density.frobenius_norm_error) == (0.0, 0.0)


def test_trace_and_frobenius_norm_within_their_errors():
    density = spectral_density(rotated(VALUES), probes=64, steps=10)
    # Four standard errors: once in 16,000 for other seeds, and the seed is fixed.
    assert density.trace == pytest.approx(float(VALUES.sum()), abs=4 * density.trace_error)
    norm = float(VALUES.norm())
    assert density.frobenius_norm == pytest.approx(norm, abs=4 * density.frobenius_norm_error)
    # For probes of ±1 the variance of zᵀHz is 2 (‖H‖² − Σ Hᵢᵢ²); the spread of 64 probes shows it to 1/√128.
    expected = math.sqrt(2 * (norm**2 - float(rotated(VALUES).diagonal().square().sum())) / 64)
    assert density.trace_error == pytest.approx(expected, rel=0.35)


def test_trace_of_a_diagonal_matrix_is_exact_and_one_probe_has_no_error():
    density = spectral_density(torch.diag(VALUES), probes=1, steps=4)
    # Sums of a hundred terms in float64.
    assert density.trace == pytest.approx(float(VALUES.sum()), abs=1e-11)
    assert density.frobenius_norm == pytest.approx(float(VALUES.norm()), abs=1e-11)
    assert density.trace_error is None
    assert density.frobenius_norm_error is None


def test_equal_seeds_give_equal_results_and_the_random_state_is_left_alone():
    before = torch.get_rng_state()
    first, second, third = (spectral_density(rotated(VALUES), steps=9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.nodes, second.nodes)
    assert not torch.equal(first.nodes, third.nodes)


@pytest.mark.parametrize(("probes", "steps"), [(0, 3), (3, 0)])
def test_refusals(probes, steps):
    with pytest.raises(ValueError, match=f"probes, steps: {probes}, {steps}, must be at least 1 each"):
        spectral_density(torch.eye(3), probes=probes, steps=steps)
