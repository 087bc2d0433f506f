"""What all libraries are measured against: true residuals in float64, the matrix rate, the work in one product."""

import copy
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import torch
from libraries import Solution
from problems import Problem
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from workers.curvature import HessianOperator
from workers.losses import cross_entropy

PACKAGES = ("torch", "numpy", "scipy", "curvlinops-for-pytorch", "hessian-eigenthings", "pyhessian")


def true_residuals(problem: Problem, solution: Solution) -> Tensor:
    """‖Hv − λv‖ / ‖v‖ of each pair, (K,) float64, by two plain backward passes in float64: nobody's operator."""
    model = copy.deepcopy(problem.model).double()
    parameters = list(model.parameters())
    vectors = solution.vectors.to(problem.inputs.device, torch.float64)
    vectors = vectors / vectors.norm(dim=0)
    images = torch.zeros_like(vectors)
    for x, y in problem.batches:
        share = len(x) / len(problem.inputs)
        loss = cross_entropy(model(x.double()), y)
        gradient = torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(loss, parameters, create_graph=True)]
        )
        for k in range(vectors.shape[1]):
            product = torch.autograd.grad(gradient, parameters, vectors[:, k], retain_graph=True)
            images[:, k] += share * torch.cat([part.reshape(-1) for part in product])
    residuals: Tensor = (images - solution.values.to(vectors) * vectors).norm(dim=0)
    return residuals.cpu()


def product_flops(problem: Problem) -> int:
    """Floating-point operations of one Hessian-vector product when the gradient's graph is there already.

    Counted by PyTorch in matrix products and convolutions. It is the same number for every library, the work that
    has to be done; what a library does beyond it lowers its share of the matrix rate.
    """
    few = slice(0, min(len(problem.inputs), 8))  # a single chunk, whose graph is kept
    H = HessianOperator(problem.model, cross_entropy, problem.inputs[few], problem.targets[few])
    with FlopCounterMode(display=False) as counter:
        H @ torch.ones(H.shape[0], device=H.device)
    return int(counter.get_total_flops()) * len(problem.inputs) // few.stop


def matrix_rate(device: str, size: int = 2048) -> float:
    """Floating-point operations a second of a float32 product of square matrices: the best of ten."""
    one = torch.rand(size, size, device=device)
    return 2 * size**3 / min(timed(device, lambda: one @ one)[0] for _ in range(10))


def timed(device: str, function: Any) -> tuple[float, Any]:
    """Seconds that a function took, with what it returned."""
    _wait(device)
    begun = time.perf_counter()
    result = function()
    _wait(device)
    return time.perf_counter() - begun, result


def surroundings(device: str) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, and the matrix rate."""
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "processor": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "device": device,
        "matrix_rate_gflops": matrix_rate(device) / 1e9,
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
