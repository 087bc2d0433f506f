"""An orthonormal basis with its exact products: what a Rayleigh-Ritz method knows about a symmetric matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.curvature.matrix import Matrix

_SLAB = 2**16  # columns changed at a time in a restart

# An end that is little more than rounding lies half within the basis. What one more pass leaves of it is orthogonal
# unless it takes most of the vector away ("twice is enough": Parlett, "The symmetric eigenvalue problem", section 6.9).
_PASSES = 4
_KEPT = 0.5


@dataclass
class _End:
    """A direction still to be explored."""

    vector: Tensor  # (p,), orthogonal to the basis to rounding
    norm: float
    coupling: (
        Tensor  # (capacity,) float64, its share in each H vᵢ; all 0 if it was opened, not left by a product
    )


class RitzBasis:
    """Orthonormal v₁…v_j, their products H vᵢ, and what is left of those products outside of the basis.

    With V the basis, T = VᵀHV, F the *open ends*, directions still to be explored, and E their couplings,
    H V = V T + F E. An end that is expanded becomes a basis vector, and what its product adds to the space is a new
    end: from one end this is the Lanczos method, from several a band Lanczos method. An end is made orthogonal to all
    vectors when it is left, and again when it is expanded until that takes little of it away. The residual of a Ritz
    pair (θ, V y) is F E y, so that its size is known without touching a long vector.

    Vectors are stored as rows; T, E and all small matrices are in float64 on the CPU.
    """

    def __init__(self, matrix: Matrix, capacity: int) -> None:
        self._matrix = matrix
        self._vectors = torch.empty(capacity, matrix.size, dtype=matrix.dtype, device=matrix.device)
        self._images = torch.empty_like(self._vectors)
        self._gram = torch.zeros(capacity, capacity, dtype=torch.float64)  # T
        self._ends: list[_End] = []
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
            coupling = torch.zeros(self.capacity, dtype=torch.float64)
            self._ends.append(_End(remainder / remainder.norm(), 1.0, coupling))

    def expand(self, end: int) -> None:
        """Makes an end a basis vector, for one product; the product's remainder becomes the last end."""
        expanded = self._ends.pop(end)
        direction = expanded.vector / expanded.norm
        for _ in range(_PASSES):
            remainder = self._outside(direction)
            left = float(remainder.norm())
            if left == 0.0:
                return
            direction = remainder / left
            if left > _KEPT:
                break
        self.include(direction, self._matrix.multiply(direction))

    def include(self, direction: Tensor, image: Tensor) -> None:
        """Makes a unit vector, orthogonal to the basis, one of it, with its product known."""
        new = self.size
        self._vectors[new], self._images[new] = direction, image
        self.size += 1
        basis = self._vectors[: self.size]
        # Measured, although E tells all but the last: where rounding makes H unsymmetric, E is wrong.
        inside = basis @ image
        self._gram[new, : self.size] = self._gram[: self.size, new] = inside.to("cpu", torch.float64)
        for end in self._ends:
            end.vector = end.vector - (direction @ end.vector) * direction
        coupling = torch.zeros(self.capacity, dtype=torch.float64)
        coupling[new] = 1
        self._ends.append(_End(torch.addmv(image, basis.T, inside, alpha=-1), 0.0, coupling))
        self._measure_ends()

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values (j,), descending, and the coefficients of their vectors, (j, j) in columns."""
        values, coefficients = torch.linalg.eigh(self.gram)
        return values.flip(0), coefficients.flip(1)

    def contributions(self, coefficients: Tensor) -> Tensor:
        """‖Fₒ‖ |Eₒ y| for every end o and column y, (ends, columns); their sum bounds the norm of the residual."""
        if not self._ends:
            return torch.zeros(1, coefficients.shape[1], dtype=torch.float64)
        rows = torch.stack([end.norm * end.coupling[: self.size] for end in self._ends])
        return (rows @ coefficients).abs()

    def largest_end(self, coefficients: Tensor) -> int:
        """The end that matters most to the residuals of some vectors V Y; one never expanded comes first."""
        fresh = [index for index, end in enumerate(self._ends) if not end.coupling.any()]
        return fresh[0] if fresh else int(self.contributions(coefficients).amax(1).argmax())

    @property
    def last_end_norm(self) -> float:
        """The size of what the last expansion left outside of the basis, 0 if nothing."""
        if not self._ends or self._ends[-1].coupling[self.size - 1] == 0:
            return 0.0
        return self._ends[-1].norm

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
        for end in self._ends:
            end.coupling[:keep] = end.coupling[: self.size] @ coefficients
            end.coupling[keep:] = 0
        self._gram.zero_()
        self._gram[:keep, :keep] = torch.diag(values[:keep])
        self.size = keep

    def _outside(self, vector: Tensor) -> Tensor:
        """The part of a vector orthogonal to the basis; an opened end goes through this twice, now and when expanded."""
        basis = self._vectors[: self.size]
        return torch.addmv(vector, basis.T, basis @ vector, alpha=-1)

    def _measure_ends(self) -> None:
        """Takes the norms of the ends, and drops those at rounding level: the basis is invariant in that direction."""
        norms = torch.stack([end.vector.norm() for end in self._ends]).tolist()
        threshold = self._rounding * self.scale
        for end, norm in zip(self._ends, norms, strict=True):
            end.norm = norm
        self._ends = [end for end in self._ends if end.norm > threshold]
