"""Stochastic Lanczos quadrature against moments and spectra known exactly."""

import math

import pytest
import torch
from scipy.stats import norm
from test_eigensolver import rotated

from workers.curvature import SpectralDensity, spectral_density

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


class Watched:
    """A matrix that remembers how many vectors it was multiplied with at a time."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype, self.blocks = matrix, matrix.shape, matrix.dtype, []

    def __matmul__(self, vectors):
        self.blocks.append(vectors.shape[1])
        return self.matrix @ vectors


def test_all_probes_take_a_step_with_one_product_of_a_block():
    H = Watched(rotated(VALUES))
    density = spectral_density(H, probes=3, steps=7)
    assert H.blocks == [3] * 7
    assert density.products == 21


def test_probes_that_need_much_memory_run_in_groups(monkeypatch):
    together = spectral_density(rotated(VALUES), probes=5, steps=12)
    monkeypatch.setattr("workers.curvature.density._BASIS_BYTES", 2 * 12 * 102 * 8)
    H = Watched(rotated(VALUES))
    grouped = spectral_density(H, probes=5, steps=12)
    assert H.blocks == [2] * 24 + [1] * 12
    # The same operations, but for the order of sums in a product: rounding at 1e-16 of 7, with a margin of 1e4.
    torch.testing.assert_close(grouped.nodes, together.nodes, rtol=0, atol=1e-11)
    torch.testing.assert_close(grouped.weights, together.weights, rtol=0, atol=1e-11)


def test_a_probe_that_ends_does_not_stop_the_others():
    density = spectral_density(torch.ones(3, 3, dtype=torch.float64), probes=16, steps=3)
    generator = torch.Generator().manual_seed(0)
    ended = 0
    for nodes, weights in zip(density.nodes, density.weights, strict=True):
        total = abs(int((2 * torch.randint(0, 2, (3,), generator=generator) - 1).sum()))
        # A probe of equal signs is the eigenvector to 3; any other has a ninth of itself along it, and the rest at 0.
        expected = [(3, 1), (3, 0), (3, 0)] if total == 3 else [(0, 8 / 9), (3, 1 / 9), (3, 0)]
        ended += total == 3
        # Rounding of a 3 by 3 problem.
        torch.testing.assert_close(
            torch.stack([nodes, weights], dim=1),
            torch.tensor(expected, dtype=torch.float64),
            rtol=0,
            atol=1e-14,
        )
    assert 0 < ended < 16
    assert density.products == ended + 2 * (16 - ended)


def test_curve_of_a_known_quadrature():
    nodes = torch.tensor([[0.0, 1.0], [0.0, 3.0]]).double()
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).double()
    grid = torch.linspace(-1, 4, 11)
    curve = SpectralDensity(nodes, weights, size=2).on_grid(grid, width=0.5)
    first = 0.25 * norm.pdf(grid, 0, 0.5) + 0.75 * norm.pdf(grid, 1, 0.5)
    second = 0.5 * norm.pdf(grid, 0, 0.5) + 0.5 * norm.pdf(grid, 3, 0.5)
    # Rounding of float64 sums of two terms; the standard error of two numbers is half their distance.
    torch.testing.assert_close(curve.density, torch.tensor((first + second) / 2), rtol=0, atol=1e-15)
    torch.testing.assert_close(curve.error, torch.tensor(abs(first - second) / 2), rtol=0, atol=1e-15)
    assert torch.equal(curve.grid, grid.double())


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_curve_has_integral_one_on_its_own_grid(steps):
    density = spectral_density(rotated(VALUES), probes=2, steps=steps)
    curve = density.on_grid()
    assert curve.grid.shape == curve.density.shape == curve.error.shape == (1024,)
    # Of the outermost nodes 3e-7 lies beyond 5 widths, and 8 points to a width leave no other error.
    assert float(torch.trapezoid(curve.density, curve.grid)) == pytest.approx(1, abs=3e-7)
    assert bool((curve.density >= 0).all())
    assert float(curve.grid[0]) < float(density.nodes.min())
    assert float(curve.grid[-1]) > float(density.nodes.max())


def test_curve_agrees_with_the_spectrum_within_its_errors():
    H, probes = rotated(VALUES), 256
    density = spectral_density(H, probes=probes, steps=102)
    grid = torch.linspace(-2, 8, 21).double()
    curve = density.on_grid(grid, width=0.3)
    values, vectors = torch.linalg.eigh(H)
    heights = torch.from_numpy(norm.pdf(grid[:, None], values, 0.3))
    # With as many steps as eigenvalues the quadrature is exact: zᵀf(H)z / p with f a Gaussian, whose variance for probes
    # of ±1 is 2 (‖f(H)‖² − Σ f(H)ᵢᵢ²) / p².
    diagonals = heights @ (vectors**2).T
    variances = 2 * (heights.square().sum(1) - diagonals.square().sum(1)) / 102**2
    errors = (variances / probes).sqrt()
    # Four standard errors at each of 21 points: once in 750 for other seeds, and the seed is fixed.
    assert bool(((curve.density - heights.mean(1)).abs() <= 4 * errors).all())
    # The spread of 256 numbers of kurtosis 15, that of a squared normal, is right to √(14 / 256) / 2 = 0.12 of itself;
    # three times that.
    torch.testing.assert_close(curve.error, errors, rtol=0.36, atol=0)


def test_curve_of_one_probe_has_no_error_and_that_of_one_node_the_width_one():
    density = spectral_density(torch.eye(4), probes=1, steps=3)
    curve = density.on_grid(points=11)
    assert curve.error is None
    # A single Gaussian at 1, from 5 widths below to 5 above, in float32.
    assert float(curve.density[5]) == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-6)
    assert curve.grid.tolist() == pytest.approx(list(range(-4, 7)), abs=1e-6)


def test_curve_refusals():
    density = spectral_density(torch.eye(3), probes=1, steps=1)
    for width in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"width: {width}, must be positive"):
            density.on_grid(width=width)
    with pytest.raises(ValueError, match="points: 1, must be at least 2"):
        density.on_grid(points=1)
    with pytest.raises(ValueError, match=r"grid: shape \(2, 2\), must be \(points,\)"):
        density.on_grid(torch.eye(2))


@pytest.mark.parametrize(("probes", "steps"), [(0, 3), (3, 0)])
def test_refusals(probes, steps):
    with pytest.raises(ValueError, match=f"probes, steps: {probes}, {steps}, must be at least 1 each"):
        spectral_density(torch.eye(3), probes=probes, steps=steps)
