"""Whether everything a sweep needs is here and answers, one line each, with what to do where it does not."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import tracking, versions

TOLERANCE = 1e-9
"""Of the self-test's eigenvalues, relative to λ₁. Sums of 40 float64 products are exact to about 1e-15; an
eigenvalue whose vector has the residual 1e-10 is off by no more than that."""


@dataclass(frozen=True)
class Check:
    """One question asked and its answer; `advice` says what to do where it is not `ok`."""

    name: str
    ok: bool
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'}  {self.name:<9} {self.detail}"
        return line if self.ok or not self.advice else f"{line}\n      {'':<9} {self.advice}"


def doctor(
    address: str | None = None,
    tracking_uri: str | None = None,
    results: str | Path | None = None,
    data: str | Path | None = None,
    say: Callable[[str], object] = lambda line: sys.stdout.write(f"{line}\n"),
) -> int:
    """Ask every question, say each answer as it comes, and return 0, or 1 where something failed.

    A cluster, a tracking server and a results folder are asked only where they are given; MLFLOW_TRACKING_URI
    counts.
    """
    failed = False
    for check in checks(address, tracking_uri, results, data):
        say(str(check))
        failed |= not check.ok
    return int(failed)


def checks(
    address: str | None = None,
    tracking_uri: str | None = None,
    results: str | Path | None = None,
    data: str | Path | None = None,
) -> Iterator[Check]:
    """The questions, asked one after the other."""
    yield Check("versions", True, versions.in_words(versions.versions()))
    yield _guarded("devices", devices, "reinstall torch: https://pytorch.org/get-started")
    yield _guarded("kernel", self_test, "numbers made here are wrong; report this with the lines above")
    yield _guarded("data", lambda: data_folder(data), "choose another with --data or TINY_SUBSPACE_DATA")
    if address:
        yield _guarded(
            "cluster",
            lambda: _cluster(address),
            "is the head running, is the port open from here, and are Ray's versions equal on both sides?",
        )
    uri = tracking_uri or os.environ.get(tracking.VARIABLE)
    if uri and uri != "none":
        yield _guarded("tracking", lambda: _tracking(uri), "a sweep runs without it: --tracking-uri none")
    if results is not None:
        yield _guarded("results", lambda: _results(results), "choose another folder with --results")
        if address:
            yield _guarded(
                "nodes",
                lambda: _nodes(address, results),
                "results must be a folder that every node sees, or a URI that it has credentials for",
            )


def _guarded(name: str, ask: Callable[[], str], advice: str) -> Check:
    try:
        return Check(name, True, ask())
    except Exception as error:  # a doctor reports everything and survives it
        text = str(error).strip() or type(error).__name__
        return Check(name, False, text.splitlines()[0][:300], advice)


def devices() -> str:
    """The devices that trials can have: GPUs with their memory, CPU threads, and the machine's memory."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} {properties.name} {properties.total_memory / 2**30:.0f} GiB")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found.append(f"cpu {torch.get_num_threads()} torch threads on {available} cores, {memory:.0f} GiB")
    return ", ".join(found)


def self_test(device: str | None = None) -> str:
    """Compare the kernel with a closed form, in float64, on the first GPU if there is one.

    Softmax regression at zero has H = (1/k)(I − 11ᵀ/k) ⊗ XᵀX/n: each eigenvalue of XᵀX/(nk), k − 1 times.
    Raises ArithmeticError where the largest error, relative to λ₁, exceeds TOLERANCE.
    """
    import torch

    from workers.curvature import HessianOperator, top_eigenpairs

    n, d, k = 40, 5, 4
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, d, generator=random, dtype=torch.float64)
    targets = torch.randint(k, (n,), generator=random)
    exact = torch.linalg.eigvalsh(inputs.T @ inputs / (n * k)).flip(0).repeat_interleave(k - 1)
    model = torch.nn.Linear(d, k, bias=False, dtype=torch.float64, device=where)
    torch.nn.init.zeros_(model.weight)
    loss = torch.nn.functional.cross_entropy
    H = HessianOperator(model, loss, inputs.to(where), targets.to(where))
    pairs = top_eigenpairs(H, count=len(exact), tol=1e-10)
    error = float((pairs.values.cpu() - exact).abs().max() / exact[0])
    if not error <= TOLERANCE:
        raise ArithmeticError(f"eigenvalues on {where} are off by {error:.1e} of the largest")
    return f"float64 eigenvalues on {where} are exact to {error:.0e}"


def data_folder(given: str | Path | None = None) -> str:
    """What lies in the folder of data sets. Raises PermissionError where new ones cannot be put there."""
    from orchestrator.sweep import data_folder

    folder = data_folder(Path(given) if given else None)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{folder}: cannot be written, so nothing can be downloaded to it")
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    free = shutil.disk_usage(place).free / 2**30
    return f"{folder}: {', '.join(present) or 'nothing there yet'}; {free:.0f} GiB free"


def _cluster(address: str) -> str:
    from orchestrator.ray_executor import check

    return f"{address}: {check(address)}"


def _nodes(address: str, results: str | Path) -> str:
    from orchestrator.ray_nodes import everywhere

    return everywhere(address, str(results))


def _tracking(uri: str) -> str:
    from orchestrator.mlflow_mirror import check

    return check(uri)


def _results(results: str | Path) -> str:
    from orchestrator.store import ResultStore

    ResultStore(results).probe()
    return f"{results} can be written"
