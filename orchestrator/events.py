"""What a trial tells while it runs, and how a process runs one so that every executor tells the same."""

from __future__ import annotations

import gc
import importlib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.result import Row, TrialResult
from workers.spec import TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext

TrialFunction = Callable[[TrialSpec, "TrialContext"], Iterator[Row | TrialResult]]
"""A trial: yields rows as they are measured, and last its result."""


@dataclass(frozen=True)
class Started:
    """The trial has a place and begins."""

    trial_id: str
    host: str
    device: str  # cpu or cuda


@dataclass(frozen=True)
class Measured:
    """One row of the trial."""

    trial_id: str
    row: Row


@dataclass(frozen=True)
class Finished:
    """The trial's last event: it ended by itself, completed or diverged."""

    trial_id: str
    result: TrialResult


@dataclass(frozen=True)
class Failed:
    """The trial's last event: it did not come to its end."""

    trial_id: str
    error_type: str  # the exception's class, or CANCELLED
    error: str  # the traceback as seen where it happened, or what is known of a death
    retry: bool  # whether the same trial may succeed in another process


Event = Started | Measured | Finished | Failed

CANCELLED = "Cancelled"
"""The error_type of a trial that was cancelled before its end."""

CURABLE = {"OutOfMemoryError", "MemoryError", "AcceleratorError"}
"""Exceptions, by the name of their class or of one it derives from, that another process can cure."""


def trial_events(
    spec: TrialSpec,
    *,
    data: Path,
    folder: Path | None,
    device: str,
    cpus: float,
    trial_function: TrialFunction | None = None,
    debug: bool = False,
) -> Generator[Event, None, None]:
    """Run a trial in this process and thread, as the events that every executor hands on."""
    trial_id = spec.trial_id
    yield Started(trial_id, platform.node(), device)
    try:
        from workers.trial import TrialContext, run_trial

        limit_threads(cpus)
        context = TrialContext(data=data.expanduser(), folder=folder, device=device)
        for item in (trial_function or run_trial)(spec, context):
            if isinstance(item, TrialResult):
                yield Finished(trial_id, item)
                return
            yield Measured(trial_id, item)
        raise RuntimeError("the trial ended without a result")  # noqa: TRY301
    except (Exception, SystemExit) as error:
        if debug:
            raise
        yield Failed(trial_id, type(error).__name__, traceback.format_exc(), retry=curable(error))
    finally:
        if device != "cpu":  # the process is used again, and what it keeps others sharing the GPU miss
            free_gpu_memory()


def cancelled(trial_id: str) -> Generator[Event, None, None]:
    """What is left to tell of a trial that was cancelled."""
    yield Failed(trial_id, CANCELLED, "cancelled before its end", retry=True)


def curable(error: BaseException) -> bool:
    """Whether the same trial may succeed in another process: exhausted memory and faults of a GPU.

    >>> curable(MemoryError()), curable(RuntimeError("CUDA error: launch failure")), curable(ValueError())
    (True, True, False)
    """
    if any(c.__name__ in CURABLE for c in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "cuDNN error"))


def make_importable(folder: Path | None) -> None:
    """Let the modules that lie in `folder` be imported by their plain names."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def gpu_count() -> int:
    """How many GPUs torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def limit_threads(cpus: float) -> None:
    """Let torch use as many threads as the trial has CPUs, as far as there are any, and at least one."""
    import torch

    torch.set_num_threads(max(1, min(int(cpus), os.cpu_count() or 1)))


def free_gpu_memory() -> None:
    """Hand back what torch keeps for itself between trials; a GPU that no longer answers is no error here."""
    import torch

    gc.collect()
    try:
        torch.cuda.empty_cache()
    except RuntimeError:
        return
