"""The smallest eigenvalues: the largest of −H."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from workers.curvature.eigensolver import Eigenpairs, top_eigenpairs
from workers.curvature.matrix import Matrix


def bottom_eigenpairs(
    H: Any,
    count: int,
    tol: float = 1e-3,
    start: Tensor | None = None,
    seed: int = 0,
    max_products: int | None = None,
    known: tuple[Tensor, Tensor] | None = None,
) -> Eigenpairs:
    """The `count` algebraically smallest eigenvalues of H with their eigenvectors, each as often as it occurs.

    They are the largest of −H, by `top_eigenpairs`, whose arguments and errors these are. Values are ascending,
    residuals are ‖Hv − λv‖ / |λ_p| with λ_p the smallest eigenvalue (/ ‖H‖ where that is 0 to rounding): where λ_p is
    much smaller in size than λ₁, `tol` asks for much, and rounding may mark a pair as not converged.

    Example:
        >>> import torch
        >>> bottom_eigenpairs(torch.diag(torch.tensor([1.0, 3.0, -5.0, 3.0])), count=2).values
        tensor([-5.,  1.], dtype=torch.float64)
    """
    if known is not None:
        known = known[0], -known[1]
    pairs = top_eigenpairs(_Negated(H), count, tol, start, seed, max_products, known)
    return replace(pairs, values=0.0 - pairs.values)  # 0.0 for 0, where a minus sign would give -0.0


class _Negated:
    """−H."""

    def __init__(self, operator: Any) -> None:
        self._matrix = Matrix(operator)
        self.shape = (self._matrix.size, self._matrix.size)
        self.dtype, self.device = self._matrix.dtype, self._matrix.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        return -self._matrix.multiply(vectors)
