"""An orthonormal basis with its exact products: what a Rayleigh-Ritz method knows about a symmetric matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.curvature.matrix import Matrix

_SLAB = 2**16  # columns changed at a time in a restart


class RitzBasis:
    """Orthonormal v₁…v_j, their products H vᵢ, and what is left of those products outside of the basis.

    With V the basis, T = VᵀHV, and F the *open ends*, directions still to be explored, H V = V T + F E. An end that is
    expanded becomes a basis vector, and what its product adds to the space is a new end: from one end this is the
    Lanczos method, from several a band Lanczos method. Every vector is orthogonalised against all others, twice. The
    residual of a Ritz pair (θ, V y) is F E y, so that its size is known without touching a long vector.

    Vectors are stored as rows; T, E and all small matrices are in float64 on the CPU.
    """

    def __init__(self, matrix: Matrix, capacity: int) -> None:
        self._matrix = matrix
        self._vectors = torch.empty(capacity, matrix.size, dtype=matrix.dtype, device=matrix.device)
        self._images = torch.empty_like(self._vectors)
        self._gram = torch.zeros(capacity, capacity, dtype=torch.float64)  # T
        self._ends: list[Tensor] = []  # rows of F, (p,) each
        self._coupling: list[Tensor] = []  # rows of E, (capacity,) each
        self._rounding = 10 * torch.finfo(matrix.dtype).eps
        self.capacity = capacity
        self.size = 0

    @property
    def scale(self) -> float:
        """The largest entry of T, about the norm of the matrix."""
        return float(self.gram.abs().max()) if self.size else 0.0

    @property
    def gram(self) -> Tensor:
        """T, (j, j)."""
        return self._gram[: self.size, : self.size]

    @property
    def ends(self) -> int:
        """How many ends are open."""
        return len(self._ends)

    def open(self, direction: Tensor) -> None:
        """Adds an end, unless the direction lies in the space already."""
        remainder = self._outside(direction)
        if float(remainder.norm()) > self._rounding * float(direction.norm()):
            self._ends.append(remainder / remainder.norm())
            self._coupling.append(torch.zeros(self.capacity, dtype=torch.float64))

    def expand(self, end: int) -> None:
        """Makes an end a basis vector, for one product; the product's remainder becomes the last end."""
        direction, _ = self._ends.pop(end), self._coupling.pop(end)
        direction = self._outside(direction / direction.norm())
        direction = direction / direction.norm()
        image = self._matrix.multiply(direction)
        self._vectors[self.size], self._images[self.size] = direction, image
        self.size += 1
        coefficients = self._coefficients(image)
        self._gram[self.size - 1, : self.size] = coefficients
        self._gram[: self.size, self.size - 1] = coefficients
        self._ends = [other - direction * (direction @ other) for other in self._ends]
        self._ends.append(self._outside(image))
        self._coupling.append(torch.zeros(self.capacity, dtype=torch.float64))
        self._coupling[-1][self.size - 1] = 1
        self._close_empty_ends()

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values (j,), descending, and the coefficients of their vectors, (j, j) in columns."""
        values, coefficients = torch.linalg.eigh(self.gram)
        return values.flip(0), coefficients.flip(1)

    def contributions(self, coefficients: Tensor) -> Tensor:
        """‖Fₒ‖ |Eₒ y| for every end o and column y, (ends, columns); their sum bounds the norm of the residual."""
        if not self._ends:
            return torch.zeros(1, coefficients.shape[1], dtype=torch.float64)
        norms = torch.tensor([float(end.norm()) for end in self._ends], dtype=torch.float64)
        rows = torch.stack(self._coupling)[:, : self.size]
        return norms[:, None] * (rows @ coefficients).abs()

    def largest_end(self, coefficients: Tensor) -> int:
        """The end that matters most to the residuals of some vectors V Y; one never expanded comes first."""
        fresh = [index for index, row in enumerate(self._coupling) if not row.any()]
        return fresh[0] if fresh else int(self.contributions(coefficients).amax(1).argmax())

    @property
    def last_end_norm(self) -> float:
        """The size of what the last expansion left outside of the basis, 0 if nothing."""
        if not self._ends or self._coupling[-1][self.size - 1] == 0:
            return 0.0
        return float(self._ends[-1].norm())

    def combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """V Y and H V Y, (columns, p) each, for coefficients Y of shape (j, columns)."""
        weights = coefficients.T.to(self._matrix.dtype).to(self._matrix.device)
        return weights @ self._vectors[: self.size], weights @ self._images[: self.size]

    def restart(self, keep: int) -> None:
        """Makes the leading `keep` Ritz vectors the basis; no product is lost that concerns them."""
        values, coefficients = self.ritz()
        coefficients = coefficients[:, :keep]
        weights = coefficients.T.to(self._matrix.dtype).to(self._matrix.device)
        for stored in (self._vectors, self._images):
            for slab in torch.split(stored, _SLAB, dim=1):
                slab[:keep] = weights @ slab[: self.size]
        for row in self._coupling:
            row[:keep] = row[: self.size] @ coefficients
            row[keep:] = 0
        self._gram.zero_()
        self._gram[:keep, :keep] = torch.diag(values[:keep])
        self.size = keep

    def _coefficients(self, vector: Tensor) -> Tensor:
        return (self._vectors[: self.size] @ vector).to("cpu", torch.float64)

    def _outside(self, vector: Tensor) -> Tensor:
        """The part of a vector orthogonal to the basis; an end goes through this when it is opened and when expanded."""
        basis = self._vectors[: self.size]
        return vector - (basis @ vector) @ basis

    def _close_empty_ends(self) -> None:
        """An end at rounding level leads nowhere: the basis is invariant in that direction."""
        threshold = self._rounding * self.scale
        filled = [index for index, end in enumerate(self._ends) if float(end.norm()) > threshold]
        self._ends = [self._ends[index] for index in filled]
        self._coupling = [self._coupling[index] for index in filled]
