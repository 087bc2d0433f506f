"""The largest eigenvalues of a symmetric matrix that is known by its products, every copy of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.curvature.basis import RitzBasis
from workers.curvature.matrix import Matrix

MIN_STEPS = 2
WIDTH = 1.0
GUARD = True
CAP = 0.15
MODE = "sum"


@dataclass(frozen=True)
class Eigenpairs:
    values: Tensor  # (K,) float64, descending
    vectors: Tensor  # (p, K)
    residuals: Tensor  # (K,)
    products: int
    converged: Tensor  # (K,) bool


def top_eigenpairs(H: Any, count: int, tol: float = 1e-3, start: Tensor | None = None, seed: int = 0,
                   max_products: int | None = None) -> Eigenpairs:
    matrix = Matrix(H)
    search = _Search(matrix, count, tol, max_products or max(1000, 100 * count), seed)
    if start is not None:
        if MODE == "sum":
            search.basis.open((start / start.norm(dim=0)).sum(1))
        else:
            for c in start.T:
                search.basis.open(c)
    search.trace = []
    while search.settle() and not (search.verify() and search.settle()):
        pass
    return search.result()


class _Search:
    def __init__(self, matrix: Matrix, count: int, tol: float, limit: int, seed: int) -> None:
        self.matrix, self.count, self.tol, self.limit = matrix, count, tol, limit
        self.generator = torch.Generator().manual_seed(seed)
        self.basis = RitzBasis(matrix, min(matrix.size, max(160, 2 * count + 40)))

    def settle(self) -> bool:
        while self.matrix.products < self.limit and self.basis.size < self.matrix.size:
            values, coefficients = self.basis.ritz() if self.basis.size else (torch.zeros(0), torch.zeros(0, 0))
            unsettled = torch.zeros(0)
            if self.basis.size >= self.count:
                shares = self.basis.contributions(coefficients)
                reach = shares.sum(0)
                slack = self._slack(values)
                above = reach > slack
                above[self.count:] = (values[self.count:] + reach[self.count:] > values[self.count - 1] + slack) if GUARD else False
                if not above.any():
                    return True
                unsettled = shares[:, above]
            if not self.basis.ends:
                self.basis.open(self._random())
            if self.basis.size == self.basis.capacity:
                self.basis.restart(self.count + 2*(self.basis.capacity - self.count) // 5)
            pending = self.basis.unexplored()
            if pending is not None:
                end = pending
            elif len(unsettled):
                end = int(unsettled.max(1).values.argmax())
            else:
                end = self.basis.ends - 1
            self.basis.expand(end)
        return False

    def _slack(self, values):
        return max(self.tol * abs(float(values[0])), 4 * torch.finfo(self.matrix.dtype).eps * self.basis.scale)

    def verify(self) -> bool:
        b = self.basis
        values, _ = b.ritz()
        last = values[self.count - 1] + self._slack(values)
        if b.capacity - b.size < 20 and b.capacity < self.matrix.size:
            b.restart(self.count + 2*(b.capacity - self.count) // 5)
        first = b.size
        cap = max(MIN_STEPS, int(CAP * self.matrix.products))
        b.open(self._random())
        self.trace.append([self.matrix.products])
        for step in range(cap):
            if not b.ends or b.size == b.capacity or (step and not float(b._ends[-1].norm()) > 0):
                return True
            b.expand(b.ends - 1)
            th, Y = torch.linalg.eigh(b.gram[first:, first:])
            rho = float(b._ends[-1].norm()) * abs(float(Y[-1, -1])) if b.ends else 0.0
            self.trace[-1].append((round(float(th[-1]), 3), round(rho, 3)))
            if float(th[-1]) > last:
                return False
            if step + 1 >= MIN_STEPS and float(th[-1]) + WIDTH * rho <= last:
                return True
        return True

    def _random(self) -> Tensor:
        return torch.randn(self.matrix.size, generator=self.generator, dtype=self.matrix.dtype).to(self.matrix.device)

    def result(self) -> Eigenpairs:
        values, Y = self.basis.ritz()
        X, W = self.basis.combine(Y[:, : self.count])
        values = values[: self.count]
        R = (W - X * values[:, None].to(X.dtype)).double().norm(dim=1).cpu() / values[0].abs()
        return Eigenpairs(values, X.T, R, self.matrix.products, R <= self.tol)
