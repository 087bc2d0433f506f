"""The spectral density of a symmetric matrix by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.curvature.matrix import Matrix


@dataclass(frozen=True)
class SpectralDensity:
    """A quadrature of the density φ(λ) = (1/p) Σᵢ δ(λ − λᵢ) for each probe, and the moments that follow from it."""

    nodes: Tensor  # (probes, steps) float64 on the CPU, ascending
    weights: Tensor  # (probes, steps) float64; those of a probe are at least 0 and sum to 1
    size: int  # p
    products: int  # Hessian-vector products spent

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
    nodes = torch.zeros(probes, steps, dtype=torch.float64)
    weights = torch.zeros(probes, steps, dtype=torch.float64)
    for probe in range(probes):
        signs = 2.0 * torch.randint(0, 2, (matrix.size,), generator=generator) - 1.0
        diagonal, off_diagonal = _lanczos(matrix, signs.to(device=matrix.device, dtype=matrix.dtype), steps)
        tridiagonal = torch.diag(diagonal) + torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)
        values, vectors = torch.linalg.eigh(tridiagonal)
        nodes[probe] = values[-1]
        nodes[probe, : len(values)] = values
        weights[probe, : len(values)] = vectors[0] ** 2
    return SpectralDensity(nodes, weights, matrix.size, matrix.products)


def _lanczos(matrix: Matrix, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Diagonal (j,) and off-diagonal (j − 1,) of T, in float64; j is smaller than `steps` after a breakdown."""
    basis = torch.empty(min(steps, matrix.size), matrix.size, dtype=matrix.dtype, device=matrix.device)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    rounding, vector = 10 * torch.finfo(matrix.dtype).eps, start / start.norm()
    for step in range(len(basis)):
        basis[step] = vector
        image = matrix.multiply(vector)
        diagonal.append(float(vector.double() @ image.double()))
        for _ in range(2):
            image = image - (basis[: step + 1] @ image) @ basis[: step + 1]
        norm = float(image.double().norm())
        scale = max(abs(value) for value in diagonal + off_diagonal)
        if norm <= rounding * scale or step + 1 == len(basis):
            break
        off_diagonal.append(norm)
        vector = image / norm
    return torch.tensor(diagonal, dtype=torch.float64), torch.tensor(off_diagonal, dtype=torch.float64)


def _standard_error(samples: Tensor) -> float | None:
    return float(samples.std() / len(samples) ** 0.5) if len(samples) > 1 else None
