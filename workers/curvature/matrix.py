"""Anything with `shape` and `@` as a real symmetric matrix whose products with tensors are counted."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor


class Matrix:
    """A real symmetric matrix known by its products.

    Args:
        operator: a tensor, an array, or any object with `shape` and `@`. One with a torch `dtype` (or none at all, then
            float32) multiplies tensors on its `device` (or the CPU); one with a `dtype` of another kind, such as SciPy's
            operators, multiplies NumPy arrays.

    Attributes:
        size: p, for a matrix of shape (p, p).
        products: vectors multiplied so far.

    Raises:
        ValueError: the matrix is not square, or its values are complex.
    """

    def __init__(self, operator: Any) -> None:
        shape = tuple(operator.shape)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"H: shape {shape}, must be (p, p)")
        if isinstance(operator, np.ndarray):
            operator = torch.from_numpy(np.array(operator))
        if isinstance(operator, Tensor):
            operator = operator.detach()
            if not operator.is_floating_point() and not operator.is_complex():
                operator = operator.double()
        kind = getattr(operator, "dtype", None) or torch.float32
        self._operator = operator
        self._takes_arrays = not isinstance(kind, torch.dtype)
        if self._takes_arrays:
            kind = torch.float32 if str(np.dtype(cast(Any, kind))) == "float32" else torch.float64
        if kind not in (torch.float32, torch.float64):
            raise ValueError(f"H: values of type {kind}, must be float32 or float64")
        self.dtype: torch.dtype = kind
        self.device = torch.device(getattr(operator, "device", "cpu") if not self._takes_arrays else "cpu")
        self.size = int(shape[0])
        self.products = 0
        self._largest = torch.zeros((), dtype=self.dtype, device=self.device)

    def multiply(self, vectors: Tensor) -> Tensor:
        """H v, for a unit vector v of shape (p,) or a block of them (p, b)."""
        self.products += 1 if vectors.ndim == 1 else vectors.shape[1]
        image = self._operator @ (vectors.numpy() if self._takes_arrays else vectors)
        result = torch.as_tensor(image, dtype=self.dtype, device=self.device).detach()
        self.see(result)
        return result

    def see(self, image: Tensor) -> None:
        """Takes note of H times a unit vector, or of a block of them; does not wait for the device."""
        self._largest = torch.maximum(self._largest, image.norm(dim=0).max())

    @property
    def largest_image(self) -> float:
        """The largest ‖Hv‖ of unit vectors v so far, a lower bound of ‖H‖."""
        return float(self._largest)


def inner_products(first: Tensor, second: Tensor, slab: int = 2**16) -> Tensor:
    """The products of the rows of (m, p) and (r, p), (m, r) float64 on the CPU, `slab` columns summed at a time.

    Example:
        >>> inner_products(torch.eye(2), torch.ones(1, 2))
        tensor([[1.],
                [1.]], dtype=torch.float64)
    """
    total = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    for one, other in zip(first.split(slab, dim=1), second.split(slab, dim=1), strict=True):
        total += one.double() @ other.double().T
    return total.cpu()
