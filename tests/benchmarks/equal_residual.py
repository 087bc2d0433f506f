"""What to tell a peer beforehand so that it stops as soon as its true residuals are as small as ours: outside the timing.

Methods that start from the same vector make the same products, wherever they stop. So all attempts share them, made
by the fastest operator at hand, and the search costs one run.
"""

import hashlib
import importlib
from typing import Any

import numpy as np
import torch
from libraries import SEED, Solution, eigsh
from problems import Problem
from torch import Tensor

from workers.curvature import HessianOperator
from workers.losses import cross_entropy

TOLERANCES = (1e-1, 5e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
STEPS_MOST = 400


class Remembered:
    """The Hessian in float32, which makes each product once."""

    def __init__(self, problem: Problem) -> None:
        self._operator = HessianOperator(problem.model, cross_entropy, problem.inputs, problem.targets)
        self._images: dict[bytes, Tensor] = {}

    def multiply(self, vector: Tensor) -> Tensor:
        vector = vector.to(self._operator.device, torch.float32)
        key = hashlib.blake2b(vector.cpu().numpy().tobytes()).digest()
        if key not in self._images:
            self._images[key] = self._operator @ vector
        return self._images[key]

    def multiply_array(self, vector: Any) -> Any:
        return self.multiply(torch.from_numpy(np.ascontiguousarray(vector))).cpu().numpy()

    def reaches(self, residual: float, solution: Solution) -> bool:
        """Whether all pairs of a solution have true residuals of at most so much, relative to its largest value."""
        vectors = solution.vectors.to(self._operator.device)
        images = self._operator @ vectors
        norms = (images - solution.values.to(vectors) * vectors).norm(dim=0)
        return bool(norms.max() <= residual * float(solution.values.max()))


def eigsh_tolerance(problem: Problem, hessian: Remembered, residual: float) -> float | None:
    """The loosest tolerance of `eigsh` whose pairs all have true residuals of at most `residual` |λ₁|."""
    for tolerance in TOLERANCES:
        if hessian.reaches(residual, eigsh(hessian.multiply_array, problem, tolerance)):
            return tolerance
    return None


def lanczos_steps(problem: Problem, hessian: Remembered, residual: float) -> int | None:
    """The smallest number of steps of hessian-eigenthings' Lanczos method that leaves no larger residuals."""
    algorithms = importlib.import_module("hessian_eigenthings.algorithms")
    operators = importlib.import_module("hessian_eigenthings.operators")
    device = problem.inputs.device
    operator = operators.LambdaOperator(hessian.multiply, problem.size, device)
    generator = torch.Generator().manual_seed(SEED)
    start = torch.randn(problem.size, generator=generator).to(device)  # as its `lanczos` makes it
    steps = min(4 * problem.count + 20, problem.size)
    while True:
        chain = algorithms.lanczos_tridiagonal(operator, start, steps)
        for m in range(problem.count, chain.iterations + 1):
            if _estimated_residual(chain, m, problem.count) <= residual:
                return m
        if steps >= min(STEPS_MOST, problem.size) or chain.iterations < steps:
            return None
        steps = min(steps * 3 // 2, STEPS_MOST, problem.size)


def _estimated_residual(chain: Any, steps: int, count: int) -> float:
    """The largest of the leading pairs after so many steps, β |s| / θ₁: what is true where vectors are orthogonal."""
    betas = torch.cat([chain.betas, torch.tensor([chain.last_beta]).to(chain.betas)]).double().cpu()
    alphas = chain.alphas[:steps].double().cpu()
    values, vectors = torch.linalg.eigh(
        torch.diag(alphas) + torch.diag(betas[: steps - 1], 1) + torch.diag(betas[: steps - 1], -1)
    )
    return float(betas[steps - 1] * vectors[-1, -count:].abs().max() / values[-1])
