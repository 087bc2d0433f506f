"""The largest eigenvalues of a symmetric matrix that is known by its products, every copy of them.

One chain of products from a random vector (the Lanczos method, orthogonalised in full) finds every eigenvalue, but of
an eigenvalue that occurs several times only one copy. So when the wanted pairs are settled, a second chain begins from a
fresh random vector, orthogonal to all that is known. In that complement a missed copy is the largest eigenvalue left,
and the chain shows it long before it has converged; if it does, the search goes on with both chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from workers.curvature.basis import RitzBasis
from workers.curvature.matrix import Matrix, inner_products

_DENSE_SIZE = 64  # up to here the whole matrix is made instead
_BASIS_BYTES = (
    2**32
)  # of the basis and its products, unless the pairs wanted need more; the result takes 5 K vectors
_BASIS_VECTORS = 160
_LEAST_SHARE = 1e-2  # of known vectors in a direction, squared and summed, for it to be begun from

# The second chain. Fewer than 4 steps say nothing: its first vector has hardly any part in a single eigenvector. After
# that a missed eigenvalue is suspected within 3 residuals above the chain's largest Ritz value: a vector with a share a
# of an eigenvector at distance d has a residual of at least d √(a(1 − a)), so that clearing the threshold by 3 residuals
# leaves a below 0.13. A doubt that remains after 20 products, or a quarter more than the search took, is dropped. Of
# spectra with one isolated eigenvalue doubled just above a dense bulk this still misses one copy in seven; with a tenth
# instead of a quarter, and 5 instead of 20, every third.
_CHECK_STEPS = 4
_CHECK_RESIDUALS = 3.0
_CHECK_STEPS_MOST = 20
_CHECK_SHARE_MOST = 0.25


@dataclass(frozen=True)
class Eigenpairs:
    """Leading eigenpairs with the evidence for them; pairs that did not converge are there and say so."""

    values: Tensor  # (K,) float64 on the CPU, descending
    vectors: Tensor  # (p, K), orthonormal columns; the largest component of each is positive
    residuals: Tensor  # (K,) float64, ‖Hv − λv‖ / |λ₁| from products with H; / ‖H‖ where λ₁ is 0 to rounding
    converged: Tensor  # (K,) bool, residual ≤ tol
    products: int  # Hessian-vector products spent


def top_eigenpairs(
    H: Any,
    count: int,
    tol: float = 1e-3,
    start: Tensor | None = None,
    seed: int = 0,
    max_products: int | None = None,
    known: tuple[Tensor, Tensor] | None = None,
) -> Eigenpairs:
    """The `count` algebraically largest eigenvalues of H with their eigenvectors, each as often as it occurs.

    Rayleigh-Ritz on a Lanczos basis with full reorthogonalisation and thick restarts (Wu and Simon, "Thick-restart
    Lanczos method", 2000), until every pair has ‖Hv − λv‖ ≤ tol |λ₁|, then a search for missed copies from a random
    vector in the complement. H v of a Ritz vector is the combination of the products made, so that residuals are
    true ones and cost none. Residuals stall at about 1e-6 in float32 and 1e-15 in float64 times the norm of H.

    Args:
        H: symmetric, with `shape` and `@`: an operator, a tensor, an array, a SciPy operator. Negative eigenvalues of
            any size are no obstacle.
        count: K, at most p.
        tol: of residuals relative to |λ₁|, the largest eigenvalue by value.
        start: (p, m) or (p,), for instance the gradient or the vectors of an earlier measurement; the search begins
            from the sum of the normalised columns. None begins from a random vector.
        seed: of the random vectors; equal seeds give equal results, and the global random state is not touched.
        max_products: where to stop, at least K; None stops at max(1000, 100 K). What has not converged by then is
            marked in `converged`.
        known: vectors and H times them, (p, m) each, which the search begins from and does not multiply again: the
            gradient with its product, or a Krylov basis of `spectral_density`.

    Raises:
        ValueError: H is not square; count, tol, start, max_products or known are out of range.

    Example:
        >>> top_eigenpairs(torch.diag(torch.tensor([1.0, 3.0, -5.0, 3.0])), count=3).values
        tensor([3., 3., 1.], dtype=torch.float64)
    """
    matrix = Matrix(H)
    limit = max(1000, 100 * count) if max_products is None else max_products
    _check(matrix.size, count, tol, limit)
    direction = None if start is None else normalize(_columns(start, "start", matrix), dim=0).sum(1)
    given = None if known is None else tuple(_columns(part, "known", matrix) for part in known)
    if given is not None and given[0].shape != given[1].shape:
        raise ValueError(
            f"known: {given[0].shape[1]} vectors and {given[1].shape[1]} products, must be as many"
        )
    if matrix.size <= max(_DENSE_SIZE, 2 * count) and matrix.size <= limit:
        identity = torch.eye(matrix.size, dtype=matrix.dtype, device=matrix.device)
        vectors, images = identity, matrix.multiply(identity).T
    else:
        search = _Search(matrix, count, tol, limit, seed)
        if given is not None:
            search.include(*given)
        search.run(direction)
        vectors, images = search.leading()
        del search  # and its basis
    return _eigenpairs(vectors, images, count, tol, matrix)


class _Search:
    """The iteration: settle the wanted pairs, look for missed ones, and again if there are."""

    def __init__(self, matrix: Matrix, count: int, tol: float, limit: int, seed: int) -> None:
        self._matrix, self._count, self._tol, self._limit = matrix, count, tol, limit
        self._generator = torch.Generator().manual_seed(seed)
        vector_bytes = 2 * matrix.size * torch.finfo(matrix.dtype).bits // 8
        capacity = min(max(_BASIS_VECTORS, 2 * count + 40), max(2 * count + 20, _BASIS_BYTES // vector_bytes))
        self._basis = RitzBasis(matrix, min(capacity, matrix.size))

    def include(self, vectors: Tensor, images: Tensor) -> None:
        """Begins from vectors whose products are known, made orthonormal, as many as leave room to go on.

        Directions that they nearly lack are left out: errors of the products would grow with the inverse of their share.
        """
        lengths = vectors.norm(dim=0)
        present = lengths > 0
        rows, products = (
            (part[:, present] / lengths[present]).T[: self._basis.capacity - self._count]
            for part in (vectors, images)
        )
        overlap = inner_products(rows, rows)
        shares, rotation = torch.linalg.eigh(overlap)
        plain = shares > _LEAST_SHARE
        weights = (rotation[:, plain] / shares[plain].sqrt()).T
        if bool(plain.all()):  # in their order: of a Krylov basis itself, which leaves one end
            weights = torch.linalg.inv(torch.linalg.cholesky(overlap))
        weights = weights.to(rows)
        for vector, image in zip(weights @ rows, weights @ products, strict=True):
            self._matrix.see(image)
            self._basis.include(vector, image)

    def run(self, direction: Tensor | None) -> None:
        """Fills the basis until its leading Ritz pairs are those wanted, or the limit is reached."""
        if direction is not None:
            self._basis.open(direction)
        while self._settle():
            # A check that finds nothing still adds to the basis and may unsettle a pair by a little.
            if self._nothing_missed() and self._settle():
                return

    def leading(self) -> tuple[Tensor, Tensor]:
        """The leading Ritz vectors and H times them, (K, p) each."""
        _, coefficients = self._basis.ritz()
        return self._basis.combine(coefficients[:, : self._count])

    def _settle(self) -> bool:
        """Expands the basis until the wanted residuals are small; False if nothing more can be done."""
        basis = self._basis
        while self._can_expand():
            doubtful = self._doubtful() if basis.size >= self._count else None
            if doubtful is not None and doubtful.shape[1] == 0:
                return True
            if basis.size == basis.capacity:
                self._make_room()
                continue
            if basis.ends == 0:
                basis.open(self._random_vector())
            basis.expand(basis.ends - 1 if doubtful is None else basis.largest_end(doubtful))
        return False

    def _doubtful(self) -> Tensor:
        """Coefficients of the Ritz vectors that are wanted and not settled, or may yet rise to be wanted."""
        values, coefficients = self._basis.ritz()
        reach = self._basis.contributions(coefficients).sum(0)
        slack = self._slack(values)
        settled = reach <= slack
        settled[self._count :] = (values + reach)[self._count :] <= values[self._count - 1] + slack
        return coefficients[:, ~settled]

    def _nothing_missed(self) -> bool:
        """Whether a new chain in the complement of the basis shows no sign of an eigenvalue above the last wanted."""
        basis = self._basis
        values, _ = basis.ritz()
        threshold = float(values[self._count - 1]) + self._slack(values)
        steps = max(_CHECK_STEPS_MOST, math.ceil(_CHECK_SHARE_MOST * self._matrix.products))
        if basis.capacity < min(basis.size + steps, self._matrix.size):
            self._make_room()
        first, steps = basis.size, min(steps, basis.capacity - basis.size)
        basis.open(self._random_vector())
        for step in range(1, steps + 1):
            if not self._can_expand():
                break
            basis.expand(basis.ends - 1)
            values, coefficients = torch.linalg.eigh(basis.gram[first:, first:])
            largest, residual = float(values[-1]), basis.last_end_norm * abs(float(coefficients[-1, -1]))
            if largest > threshold:
                return False
            if step >= _CHECK_STEPS and largest + _CHECK_RESIDUALS * residual <= threshold:
                break
            if basis.last_end_norm == 0.0:
                break
        return True

    def _can_expand(self) -> bool:
        return self._matrix.products < self._limit and self._basis.size < self._matrix.size

    def _slack(self, values: Tensor) -> float:
        """The residual that is small enough: the tolerance, or what rounding leaves of it."""
        rounding = 4 * torch.finfo(self._matrix.dtype).eps * self._basis.scale
        return max(self._tol * abs(float(values[0])), rounding)

    def _make_room(self) -> None:
        spare = self._basis.capacity - self._count
        self._basis.restart(min(self._basis.size, self._count + 2 * spare // 5))

    def _random_vector(self) -> Tensor:
        vector = torch.randn(self._matrix.size, generator=self._generator, dtype=self._matrix.dtype)
        return vector.to(self._matrix.device)


def _eigenpairs(vectors: Tensor, images: Tensor, count: int, tol: float, matrix: Matrix) -> Eigenpairs:
    """Rayleigh-Ritz in float64 on vectors (m, p) that are orthonormal to rounding, with their products (m, p)."""
    overlap, gram = inner_products(vectors, vectors), inner_products(vectors, images)
    inverse = torch.linalg.inv(torch.linalg.cholesky(overlap))
    _, rotation = torch.linalg.eigh(inverse @ (gram + gram.T) @ inverse.T / 2)
    weights = (inverse.T @ rotation).flip(1)[:, :count].T.to(vectors)
    vectors, images = weights @ vectors, weights @ images
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(vectors)
    vectors *= signs
    images *= signs
    pairs = list(zip(vectors, images, strict=True))
    values = torch.tensor([float(v.double() @ w.double()) for v, w in pairs], dtype=torch.float64)
    order = values.argsort(descending=True, stable=True)
    norms = torch.tensor(
        [
            float((w.double() - value * v.double()).norm())
            for (v, w), value in zip(pairs, values.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    residuals = (norms / _reference(float(values.max()), matrix))[order]
    return Eigenpairs(
        values=values[order],
        vectors=vectors[order.to(vectors.device)].T.contiguous(),
        residuals=residuals,
        converged=residuals <= tol,
        products=matrix.products,
    )


def _reference(largest: float, matrix: Matrix) -> float:
    """What residuals are relative to: |λ₁|, or if that is 0 to rounding the norm of the matrix, or 1 if that is 0 too."""
    zero = 100 * torch.finfo(matrix.dtype).eps * matrix.largest_image
    return abs(largest) if abs(largest) > zero else matrix.largest_image or 1.0


def _columns(given: Tensor, name: str, matrix: Matrix) -> Tensor:
    if given.ndim not in (1, 2) or given.shape[0] != matrix.size:
        raise ValueError(f"{name}: shape {tuple(given.shape)}, must be ({matrix.size}, m)")
    if not bool(torch.isfinite(given).all()):
        raise ValueError(f"{name}: has values that are infinite or not a number, must be finite")
    return given.detach().to(device=matrix.device, dtype=matrix.dtype).reshape(matrix.size, -1)


def _check(size: int, count: int, tol: float, limit: int) -> None:
    if not 1 <= count <= size:
        raise ValueError(f"count: {count}, must be at least 1 and at most {size}, the size of the matrix")
    if not tol >= 0:
        raise ValueError(f"tol: {tol}, must be at least 0")
    if limit < count:
        raise ValueError(f"max_products: {limit}, must be at least {count}, the number of pairs")
