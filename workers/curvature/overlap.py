"""Overlaps of gradients and subspaces: functions of tensors, summed in float64.

Where a quantity is not defined (a vector shorter than 1e-12 has no direction) the answer is None, not 0 and not NaN.
Importing this module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST = 1e-12
"""A vector below it has no direction."""

_SLAB = 2**16  # rows summed at a time


def gradient_overlaps(vectors: Tensor, gradient: Tensor) -> Tensor | None:
    """The share cᵢ² = (vᵢᵀg)² / ‖g‖² of a gradient that lies along each eigenvector.

    Sums of the first m are f_m (Gur-Ari, Roberts and Dyer, arXiv:1812.04754, equation 2: f_top for m = k).

    Args:
        vectors: (p, K), orthonormal columns.
        gradient: (p,).

    Returns:
        (K,) float64, each in [0, 1] with a sum of at most 1; about 1/p each for a random vector. None if ‖g‖ < 1e-12.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> import torch
        >>> gradient_overlaps(torch.eye(3)[:, :2], torch.tensor([3.0, 4.0, 0.0]))
        tensor([0.3600, 0.6400], dtype=torch.float64)
    """
    if gradient.ndim != 1 or vectors.ndim != 2 or len(vectors) != len(gradient):
        raise ValueError(
            f"gradient: shape {tuple(gradient.shape)}, must be (p,) for vectors (p, K), here {tuple(vectors.shape)}"
        )
    direction = gradient.double()
    length = float(direction.norm())
    if length < SHORTEST:
        return None
    direction = direction / length
    return direction.new_tensor([float(column.double() @ direction) ** 2 for column in vectors.T])


def cosine(a: Tensor, b: Tensor) -> float | None:
    """aᵀb / (‖a‖ ‖b‖), in [−1, 1]; with a = g and b = Hg the overlap of the gradient with its image.

    About 1/√p for independent random vectors; for g and Hg, 1 means that g is an eigenvector. None if either vector
    is shorter than 1e-12.

    Example:
        >>> import torch
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0]))
        0.6
    """
    a, b = a.double(), b.double()
    lengths = float(a.norm()), float(b.norm())
    return None if min(lengths) < SHORTEST else float(a @ b) / lengths[0] / lengths[1]


def subspace_overlap(first: Tensor, second: Tensor, dimension: int) -> float:
    """The overlap (1/m) ‖V₁ᵀV₂‖_F² of the spaces spanned by the first m = `dimension` columns.

    In [0, 1], 1 for equal spaces, m/p for random ones. It means something only where the spectrum has a gap below m.

    Args:
        first, second: (p, K) each, orthonormal columns.
        dimension: m, at most K.

    Raises:
        ValueError: m is below 1 or above the number of columns.

    Example:
        >>> import torch
        >>> subspace_overlap(torch.eye(3), torch.eye(3)[:, [0, 2]], dimension=2)
        0.5
    """
    _check_columns(first, second, dimension)
    return float(subspace_overlaps(first[:, :dimension], second[:, :dimension])[-1])


def next_subspace_overlap(first: Tensor, second: Tensor, dimension: int) -> float:
    """The overlap of the spaces spanned by columns m + 1 … 2m: the control to set beside `subspace_overlap`.

    Raises:
        ValueError: there are fewer than 2m columns.

    Example:
        >>> import torch
        >>> next_subspace_overlap(torch.eye(4), torch.eye(4)[:, [0, 1, 3, 2]], dimension=1)
        1.0
    """
    _check_columns(first, second, 2 * dimension)
    part = slice(dimension, 2 * dimension)
    return subspace_overlap(first[:, part], second[:, part], dimension)


def subspace_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """`subspace_overlap` for every dimension m = 1 … K, (K,) float64.

    Example:
        >>> import torch
        >>> subspace_overlaps(torch.eye(3), torch.eye(3)[:, [1, 0, 2]])
        tensor([0., 1., 1.], dtype=torch.float64)
    """
    count = min(first.shape[1], second.shape[1])
    _check_columns(first, second, count)
    products = first.new_zeros(count, count).double()
    for row in range(0, len(first), _SLAB):
        rows = slice(row, row + _SLAB)
        products += first[rows, :count].double().T @ second[rows, :count].double()
    sums = (products**2).cumsum(0).cumsum(1).diagonal()
    return sums / sums.new_tensor(range(1, count + 1))


def random_overlap(values: Sequence[float] | Tensor) -> float | None:
    """Σλᵢ / √(k Σλᵢ²): the overlap gᵀHg/(‖g‖‖Hg‖) to expect of a random g within the space of k eigenvectors.

    (Gur-Ari, Roberts and Dyer, arXiv:1812.04754.) In [−1, 1], 1 if all λ are equal. None if all are 0.

    Args:
        values: the k eigenvalues.

    Example:
        >>> random_overlap([1.0, 1.0])
        1.0
    """
    numbers = [float(value) for value in values]
    squares = sum(number**2 for number in numbers)
    return sum(numbers) / math.sqrt(len(numbers) * squares) if squares > 0 else None


def _check_columns(first: Tensor, second: Tensor, needed: int) -> None:
    if len(first) != len(second):
        raise ValueError(f"second: {len(second)} rows, must be {len(first)}, as many as first")
    columns = min(first.shape[1], second.shape[1])
    if not 1 <= needed <= columns:
        raise ValueError(f"dimension: needs {needed} columns, there are {columns}, and must be at least 1")
