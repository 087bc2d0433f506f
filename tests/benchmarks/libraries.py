"""Each library's way to the top eigenpairs of a problem, with its products counted. Peers are imported when used."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from problems import Problem
from torch import Tensor, nn

from workers.curvature import HessianOperator, top_eigenpairs
from workers.losses import cross_entropy

OURS = "tiny-subspace"
SEED = 0


@dataclass(frozen=True)
class Solution:
    """What a library returned, as it is: in its order, with what norms and angles it has."""

    values: Tensor  # (K,) float64 on the CPU
    vectors: Tensor  # (p, K)
    products: int  # Hessian-vector products spent


def tiny_subspace(problem: Problem, tol: float = 1e-3, max_products: int | None = None) -> Solution:
    H = HessianOperator(problem.model, cross_entropy, problem.inputs, problem.targets)
    pairs = top_eigenpairs(H, problem.count, tol=tol, seed=SEED, max_products=max_products)
    return Solution(pairs.values, pairs.vectors, pairs.products)


def curvlinops(problem: Problem, tol: float = 1e-3) -> Solution:
    """Its documentation's way: the operator, exported to SciPy, in ARPACK's `eigsh`.

    The check of the constructor that data come in a fixed order is off, which saves it several products.
    """
    library = importlib.import_module("curvlinops")
    operator = library.HessianLinearOperator(
        problem.model,
        nn.CrossEntropyLoss(),
        list(problem.model.parameters()),
        problem.batches,
        check_deterministic=False,
        num_data=len(problem.inputs),
    ).to_scipy(np.float32)
    return eigsh(operator.matvec, problem, tol)


def eigsh(product: Callable[[Any], Any], problem: Problem, tol: float) -> Solution:
    """ARPACK's largest pairs by value, from a fixed random start, of a symmetric matrix that multiplies arrays."""
    linalg = importlib.import_module("scipy.sparse.linalg")
    counted = Counted(product)
    p = problem.size
    start = np.random.default_rng(SEED).standard_normal(p).astype(np.float32)
    operator = linalg.LinearOperator((p, p), matvec=counted, dtype=np.float32)
    values, vectors = linalg.eigsh(operator, problem.count, which="LA", tol=tol, v0=start)
    return Solution(
        torch.from_numpy(values).double(),
        torch.from_numpy(vectors).to(problem.inputs.device),
        counted.calls,
    )


def hessian_eigenthings(problem: Problem, **options: Any) -> Solution:
    """Its Lanczos method; without options its defaults: twice as many steps as pairs, largest by magnitude."""
    operators = importlib.import_module("hessian_eigenthings.operators")

    def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        outputs: Tensor = model(inputs)
        return cross_entropy(outputs, targets)

    operator = operators.HessianOperator(problem.model, problem.batches, batch_loss)
    operator.matvec = counted = Counted(operator.matvec)
    lanczos = importlib.import_module("hessian_eigenthings.algorithms").lanczos
    result = lanczos(operator, k=problem.count, seed=SEED, **options)
    return Solution(result.eigenvalues.double().cpu(), result.eigenvectors.T, counted.calls)


def pyhessian(problem: Problem) -> Solution:
    """Its power iteration with its defaults; of a single batch it keeps the gradient's graph."""
    module = importlib.import_module("pyhessian.hessian")
    single = len(problem.batches) == 1
    data = {"data": problem.batches[0]} if single else {"dataloader": problem.batches}
    torch.manual_seed(SEED)
    try:
        hessian = module.hessian(problem.model, cross_entropy, cuda=problem.inputs.is_cuda, **data)
        hessian.dataloader_hv_product = of_batches = Counted(hessian.dataloader_hv_product)
        of_single = Counted(module.hessian_vector_product)
        with patch.object(module, "hessian_vector_product", of_single):
            values, vectors = hessian.eigenvalues(top_n=problem.count)
    finally:
        # Its gradients carry graphs that refer to them, and would live as long as the model.
        problem.model.zero_grad(set_to_none=True)
    columns = [torch.cat([part.detach().reshape(-1) for part in vector]) for vector in vectors]
    return Solution(
        torch.tensor(values, dtype=torch.float64), torch.stack(columns, 1), of_batches.calls + of_single.calls
    )


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self._function(*arguments)


SOLVERS: dict[str, Callable[..., Solution]] = {
    OURS: tiny_subspace,
    "curvlinops": curvlinops,
    "hessian-eigenthings": hessian_eigenthings,
    "PyHessian": pyhessian,
}
NEEDS = {
    OURS: [],
    "curvlinops": ["curvlinops", "scipy"],
    "hessian-eigenthings": ["hessian_eigenthings"],
    "PyHessian": ["pyhessian"],
}


def absent(library: str) -> bool:
    """Whether a library, or what it is run with, is not installed."""
    return any(importlib.util.find_spec(module) is None for module in NEEDS[library])
