"""The spectral density of a symmetric matrix by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.curvature.matrix import Matrix

_BASIS_BYTES = 2**32  # of the bases of the probes that run at once, unless one alone needs more
_TAIL = 5.0  # widths by which a grid reaches beyond the nodes: less than 3e-7 of a Gaussian lies outside


@dataclass(frozen=True)
class DensityCurve:
    """A density of eigenvalues that is smooth enough to be drawn, with its error."""

    grid: Tensor  # (points,) float64 on the CPU, in units of λ
    density: Tensor  # (points,) float64, at least 0, in units of 1/λ; its integral is 1
    error: (
        Tensor | None
    )  # (points,) the standard error over probes; None for a single probe, which shows no spread


@dataclass(frozen=True)
class SpectralDensity:
    """A quadrature of the density φ(λ) = (1/p) Σᵢ δ(λ − λᵢ) for each probe, and what follows from it.

    Stored nodes and weights can be made one again: `SpectralDensity(nodes, weights, size=p)`.
    """

    nodes: Tensor  # (probes, steps) float64 on the CPU, ascending
    weights: Tensor  # (probes, steps) float64; those of a probe are at least 0 and sum to 1
    size: int  # p
    products: int = 0  # Hessian-vector products spent

    @property
    def trace(self) -> float:
        """Σᵢ λᵢ, estimated as p times the mean over probes of Σ wθ; in units of λ."""
        return float(self._moment(1).mean())

    @property
    def trace_error(self) -> float | None:
        """The standard error of `trace`; None for a single probe, which shows no spread."""
        return _standard_error(self._moment(1))

    @property
    def frobenius_norm(self) -> float:
        """√Σᵢ λᵢ², estimated as the root of p times the mean over probes of Σ wθ²; in units of λ, at least 0."""
        return float(self._moment(2).mean().sqrt())

    @property
    def frobenius_norm_error(self) -> float | None:
        """The standard error of `frobenius_norm`, to first order; None for a single probe."""
        error = _standard_error(self._moment(2))
        return error if error is None or error == 0.0 else error / (2 * self.frobenius_norm)

    def on_grid(
        self, grid: Tensor | None = None, width: float | None = None, points: int = 1024
    ) -> DensityCurve:
        """The density as a curve: each node θ a Gaussian, φ(t) = mean over probes of Σ w N(t; θ, width²).

        (Lin, Saad and Yang, "Approximating spectral densities of large matrices", 2016; Ghorbani, Krishnan and Xiao,
        arXiv:1901.10159.) The error is statistical: of the choice of the probes, not of the
        blurring. Where the points of a grid lie further apart than the width, they may miss a peak, and a sum over
        them is not 1.

        Args:
            grid: (points,) ascending; None takes `points` equally far apart, from 5 widths below the smallest node
                to 5 widths above the largest.
            width: the standard deviation of the Gaussians; None takes the distance between the smallest and the
                largest node divided by the steps, about the resolution of the nodes, and 1 where that is 0.
            points: of the grid made here.

        Raises:
            ValueError: the width is not positive, the grid is no vector, or points are fewer than 2.

        Example:
            >>> density = spectral_density(torch.diag(torch.tensor([1.0, 3.0])), probes=2, steps=2)
            >>> round(float(density.on_grid(torch.tensor([1.0]), width=0.1).density), 3)  # half of 1/(0.1 √2π)
            1.995
        """
        lowest, highest = float(self.nodes.min()), float(self.nodes.max())
        if width is None:
            width = (highest - lowest) / self.nodes.shape[1] or 1.0
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"width: {width}, must be positive")
        if grid is None:
            if points < 2:
                raise ValueError(f"points: {points}, must be at least 2")
            margin = _TAIL * width
            grid = torch.linspace(lowest - margin, highest + margin, points, dtype=torch.float64)
        if grid.ndim != 1 or len(grid) == 0:
            raise ValueError(f"grid: shape {tuple(grid.shape)}, must be (points,)")
        grid = grid.detach().to("cpu", torch.float64)
        curves = torch.stack(
            [
                torch.exp(-(((grid[:, None] - nodes) / width) ** 2) / 2) @ weights
                for nodes, weights in zip(self.nodes, self.weights, strict=True)
            ]
        ) / (width * math.sqrt(2 * math.pi))
        error = curves.std(0) / len(curves) ** 0.5 if len(curves) > 1 else None
        return DensityCurve(grid, curves.mean(0), error)

    def _moment(self, power: int) -> Tensor:
        """p Σ w θ^power of every probe, (probes,)."""
        return self.size * (self.weights * self.nodes**power).sum(1)


def spectral_density(H: Any, probes: int = 4, steps: int = 80, seed: int = 0) -> SpectralDensity:
    """Gauss quadrature nodes and weights of the spectral density of H, one set for each random probe.

    From a probe z, the Lanczos method with full reorthogonalisation gives a tridiagonal T; nodes are its eigenvalues
    and weights the squared first components of its eigenvectors (Golub and Welsch, 1969; Ubaru, Chen and Saad, "Fast
    estimation of tr(f(A)) via stochastic Lanczos quadrature", 2017). Probes have components ±1, for which the trace of
    a diagonal matrix is exact. Nodes and weights reproduce zᵀH^m z / p for m < 2 steps. Where the Lanczos method ends
    early, since it has found all that z has a part in, the last node is repeated with weight 0.

    All probes take a step together, as one product with a block, so that what H has to do anew for every product it
    does once for all. The bases of the probes lie where H does and take probes · steps · p numbers; where that is
    more than 4 GiB, the probes run in groups, down to one at a time, which takes steps · p numbers.

    Args:
        H: symmetric, with `shape` and `@`, as in `top_eigenpairs`.
        probes: how many; errors fall as 1/√probes.
        steps: products for each probe, at least 2 for `frobenius_norm` to be unbiased.
        seed: of the probes; the global random state is not touched.

    Raises:
        ValueError: H is not square, or probes or steps are below 1.

    Example:
        >>> round(spectral_density(torch.diag(torch.tensor([1.0, 2.0, 3.0])), probes=1, steps=3).trace, 3)
        6.0
    """
    if probes < 1 or steps < 1:
        raise ValueError(f"probes, steps: {probes}, {steps}, must be at least 1 each")
    matrix = Matrix(H)
    generator = torch.Generator().manual_seed(seed)
    basis_bytes = min(steps, matrix.size) * matrix.size * torch.finfo(matrix.dtype).bits // 8
    together = max(1, min(probes, _BASIS_BYTES // basis_bytes))
    nodes = torch.zeros(probes, steps, dtype=torch.float64)
    weights = torch.zeros(probes, steps, dtype=torch.float64)
    for first in range(0, probes, together):
        group = range(first, min(first + together, probes))
        chains = [_Chain(_signs(matrix, generator), steps) for _ in group]
        _run(matrix, chains)
        for probe, chain in zip(group, chains, strict=True):
            values, vectors = torch.linalg.eigh(chain.tridiagonal())
            nodes[probe] = values[-1]
            nodes[probe, : len(values)] = values
            weights[probe, : len(values)] = vectors[0] ** 2
    return SpectralDensity(nodes, weights, matrix.size, matrix.products)


class _Chain:
    """The Lanczos method from one probe, given its products from outside; T is in float64."""

    def __init__(self, start: Tensor, steps: int) -> None:
        size = len(start)
        self._basis = torch.empty(min(steps, size), size, dtype=start.dtype, device=start.device)
        self._diagonal: list[float] = []
        self._off_diagonal: list[float] = []
        self.vector: Tensor | None = start / start.norm()  # to be multiplied next; None at the end

    def extend(self, image: Tensor) -> None:
        """Takes one step, from the product with `vector`."""
        assert self.vector is not None
        step = len(self._diagonal)
        self._basis[step] = self.vector
        self._diagonal.append(float(self.vector.double() @ image.double()))
        known = self._basis[: step + 1]
        for _ in range(2):
            image = image - (known @ image) @ known
        norm = float(image.double().norm())
        scale = max(abs(value) for value in self._diagonal + self._off_diagonal)
        if norm <= 10 * torch.finfo(image.dtype).eps * scale or step + 1 == len(self._basis):
            self.vector = None
        else:
            self._off_diagonal.append(norm)
            self.vector = image / norm

    def tridiagonal(self) -> Tensor:
        """T, (j, j); j is smaller than the steps after a breakdown."""
        diagonal, off_diagonal = (
            torch.tensor(numbers, dtype=torch.float64) for numbers in (self._diagonal, self._off_diagonal)
        )
        return torch.diag(diagonal) + torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)


def _run(matrix: Matrix, chains: list[_Chain]) -> None:
    """All chains to their ends, with one product of a block for a step of all that have not ended."""
    while going := [(chain, chain.vector) for chain in chains if chain.vector is not None]:
        images = matrix.multiply(torch.stack([vector for _, vector in going], dim=1))
        for (chain, _), image in zip(going, images.T.contiguous(), strict=True):
            chain.extend(image)


def _signs(matrix: Matrix, generator: torch.Generator) -> Tensor:
    signs = 2.0 * torch.randint(0, 2, (matrix.size,), generator=generator) - 1.0
    return signs.to(device=matrix.device, dtype=matrix.dtype)


def _standard_error(samples: Tensor) -> float | None:
    return float(samples.std() / len(samples) ** 0.5) if len(samples) > 1 else None
