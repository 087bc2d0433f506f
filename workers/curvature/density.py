"""The spectral density of a symmetric matrix, by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.curvature.matrix import Matrix


@dataclass(frozen=True)
class SpectralDensity:
    """φ(λ) ≈ mean over probes of Σⱼ wⱼ δ(λ − nodeⱼ): Gauss quadrature of the density seen by each probe.

    (Golub, Meurant, "Matrices, Moments and Quadrature", 2010.) A rule of m nodes is exact for moments up to 2m − 1
    of its probe; probes are random, so their mean has a standard error.
    """

    nodes: Tensor  # (probes, steps) float64, ascending; padded with the last node where the probe's space ended
    weights: Tensor  # (probes, steps) float64, ≥ 0, each row sums to 1; 0 where padded
    size: int  # p
    products: int  # Hessian-vector products spent

    def moment(self, power: int) -> tuple[float, float]:
        """tr(H^power) and its standard error over probes, which is NaN for a single probe.

        >>> import torch
        >>> spectral_density(2 * torch.eye(3, dtype=torch.float64), probes=2, steps=2).moment(2)
        (12.0..., 0.0)
        """
        each = self.size * (self.weights * self.nodes**power).sum(1)
        error = each.std() / len(each) ** 0.5 if len(each) > 1 else torch.tensor(torch.nan)
        return float(each.mean()), float(error)

    @property
    def trace(self) -> tuple[float, float]:
        """tr H = Σ λ, and its standard error."""
        return self.moment(1)

    @property
    def frobenius_norm(self) -> tuple[float, float]:
        """‖H‖_F = √(Σ λ²), and its standard error, that of the square carried through the root."""
        square, error = self.moment(2)
        norm = max(square, 0.0) ** 0.5
        return norm, error / (2 * norm) if norm else 0.0


def spectral_density(H: Any, probes: int = 4, steps: int = 80, seed: int = 0) -> SpectralDensity:
    """Run `steps` Lanczos steps from each of `probes` random ±1 vectors.

    Every vector is orthogonalised against all before it, twice; the tridiagonal matrices are in float64. `H` is
    anything with `shape` and `@`. Spends probes · steps products at most.

    Raises:
        ValueError: fewer than one probe or step, or more steps than H has rows.

    Example:
        >>> import torch
        >>> spectral_density(torch.diag(torch.tensor([1.0, 3.0])), probes=1, steps=2).nodes.round(decimals=4)
        tensor([[1., 3.]], dtype=torch.float64)
    """
    matrix = Matrix(H)
    if probes < 1:
        raise ValueError(f"probes: {probes}: must be at least 1")
    if not 1 <= steps <= matrix.size:
        raise ValueError(f"steps: {steps}: must be from 1 to the number of rows, {matrix.size}")
    generator = torch.Generator().manual_seed(seed)
    rules = []
    for _ in range(probes):
        signs = torch.randint(2, (matrix.size,), generator=generator) * 2 - 1
        rules.append(_quadrature(*_lanczos(matrix, signs.to(matrix.device, matrix.dtype), steps), steps))
    nodes, weights = (torch.stack(part) for part in zip(*rules, strict=True))
    return SpectralDensity(nodes, weights, matrix.size, matrix.products)


def _lanczos(matrix: Matrix, start: Tensor, steps: int) -> tuple[list[float], list[float]]:
    """The diagonal and the off-diagonal of T = VᵀHV; shorter than `steps` where the Krylov space ends early."""
    basis = torch.empty(steps, matrix.size, dtype=matrix.dtype, device=matrix.device)
    basis[0] = start / start.norm()
    diagonal: list[float] = []
    coupling: list[float] = []
    for step in range(steps):
        image = matrix.multiply(basis[step])
        diagonal.append(float(basis[step].double() @ image.double()))
        for _ in range(2):
            image = image - (basis[: step + 1] @ image) @ basis[: step + 1]
        length = float(image.double().norm())
        scale = max(abs(value) for value in diagonal + coupling)
        if step + 1 == steps or length <= 10 * torch.finfo(matrix.dtype).eps * scale:
            break
        coupling.append(length)
        basis[step + 1] = image / length
    return diagonal, coupling


def _quadrature(diagonal: list[float], coupling: list[float], steps: int) -> tuple[Tensor, Tensor]:
    """Nodes are T's eigenvalues, weights the squared first components of its eigenvectors."""
    off = torch.tensor(coupling, dtype=torch.float64)
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    nodes, vectors = torch.linalg.eigh(T)
    padding = steps - len(nodes)
    weights = vectors[0].square()
    return torch.cat([nodes, nodes[-1:].expand(padding)]), torch.cat([weights, weights.new_zeros(padding)])
