"""Overlaps of vectors and of subspaces. Everything is accumulated in float64; nothing here needs torch imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

VANISHING = 1e-12
"""A vector shorter than this has no direction worth the name; overlaps with it are null."""


def gradient_overlaps(vectors: Tensor, gradient: Tensor) -> Tensor | None:
    """cᵢ² = (vᵢᵀg)²/‖g‖² for each orthonormal column vᵢ of `vectors` (p, K): (K,) float64, in [0, 1].

    Their sum over i ≤ k is f_top = ‖P_k g‖²/‖g‖² (Gur-Ari, Roberts, Dyer, arXiv:1812.04754). A random g has 1/p in
    each. None where ‖g‖ < 1e-12.

    >>> import torch
    >>> gradient_overlaps(torch.eye(3)[:, :2], torch.tensor([3.0, 4.0, 0.0])).tolist()
    [0.36, 0.64]
    """
    wide = gradient.double()
    square = wide.square().sum()
    if float(square) < VANISHING**2:
        return None
    return (wide @ vectors.double()).square() / square


def cosine(first: Tensor, second: Tensor) -> float | None:
    """aᵀb/(‖a‖‖b‖), in [-1, 1]; about 1/√p in size for random vectors. None where one of them is below 1e-12.

    With a = g and b = Hg it is the `hessian_gradient_overlap` of arXiv:1812.04754.

    >>> import torch
    >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8]))
    0.6...
    """
    a, b = first.double(), second.double()
    lengths = float(a.norm()), float(b.norm())
    if min(lengths) < VANISHING:
        return None
    return float(a @ b) / (lengths[0] * lengths[1])


def subspace_overlap(first: Tensor, second: Tensor, dimension: int) -> float:
    """(1/m) ‖V₁ᵀV₂‖²_F of the first m = `dimension` columns of both, in [0, 1]; m/p by chance, 1 if they span the same.

    >>> import torch
    >>> subspace_overlap(torch.eye(4)[:, :2], torch.eye(4)[:, 1:3], 2)
    0.5
    """
    return float(subspace_overlaps(first[:, :dimension], second[:, :dimension])[-1])


def subspace_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """`subspace_overlap` for every m = 1 … K at once, (K,) float64, for V₁ and V₂ of shape (p, K).

    >>> import torch
    >>> subspace_overlaps(torch.eye(4)[:, :2], torch.eye(4)[:, [1, 0]]).tolist()
    [0.0, 1.0]
    """
    squares = (first.double().T @ second.double()).square()
    sums = squares.cumsum(0).cumsum(1).diagonal()
    return sums / sums.new_ones(len(sums)).cumsum(0)


def random_overlap(values: Tensor) -> float | None:
    """Σλᵢ/√(k Σλᵢ²): the overlap of a random vector of the top subspace with its image under H (arXiv:1812.04754).

    1 where all λ are equal and positive. None where all vanish.

    >>> import torch
    >>> random_overlap(torch.tensor([3.0, 4.0]))
    0.98...
    """
    wide = values.double()
    scale = (len(wide) * float(wide.square().sum())) ** 0.5
    return float(wide.sum()) / scale if scale > 0 else None
