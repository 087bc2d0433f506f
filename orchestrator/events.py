"""What a trial tells while it runs, and how a process runs one so that every executor tells the same."""

from __future__ import annotations

import gc
import importlib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.checkpoints import CheckpointPlace
from orchestrator.faults import Fault, fault_of
from workers.result import Reached, Row, TrialResult
from workers.spec import TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext

TrialFunction = Callable[[TrialSpec, "TrialContext"], Generator[Row | Reached | TrialResult, None, None]]
"""A trial: yields rows as they are measured, where it is between them, and last its result."""


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
class Underway:
    """Between rows: the step that the trial has come to, and perhaps a line for people."""

    trial_id: str
    step: int
    note: str | None = None


@dataclass(frozen=True)
class Finished:
    """The trial's last event: it ended by itself, completed or diverged."""

    trial_id: str
    result: TrialResult


@dataclass(frozen=True)
class Failed:
    """The trial's last event: it did not come to its end."""

    trial_id: str
    fault: Fault
    error_type: str  # the exception's class
    error: str  # the traceback as seen where it happened, or what is known of a death


Event = Started | Measured | Underway | Finished | Failed


def trial_events(
    spec: TrialSpec,
    *,
    data: Path,
    folder: Path | None,
    device: str,
    cpus: float,
    checkpoints: CheckpointPlace | None = None,
    trial_function: TrialFunction | None = None,
    debug: bool = False,
) -> Generator[Event, None, None]:
    """Run a trial in this process and thread, as the events that every executor hands on."""
    trial_id = spec.trial_id
    yield Started(trial_id, platform.node(), device)
    items: Generator[Row | Reached | TrialResult, None, None] | None = None
    try:
        from workers.trial import TrialContext, run_trial

        limit_threads(cpus)
        saved = checkpoints.of(trial_id) if checkpoints else None
        context = TrialContext(data=data.expanduser(), folder=folder, device=device, checkpoints=saved)
        items = (trial_function or run_trial)(spec, context)
        for item in items:
            if isinstance(item, TrialResult):
                yield Finished(trial_id, item)
                return
            if isinstance(item, Reached):
                yield Underway(trial_id, item.step, item.note)
            else:
                yield Measured(trial_id, item)
        raise RuntimeError("the trial ended without a result")  # noqa: TRY301
    except (Exception, SystemExit) as error:
        if debug:
            raise
        yield Failed(trial_id, fault_of(error), type(error).__name__, traceback.format_exc())
    finally:
        if items is not None:
            items.close()  # cancelled, it saves a checkpoint, before anything else is told
        if device != "cpu":  # the process is used again, and what it keeps others sharing the GPU miss
            free_gpu_memory()


def cancelled(trial_id: str) -> Generator[Event, None, None]:
    """What is left to tell of a trial that was cancelled."""
    yield Failed(trial_id, Fault.CANCELLED, "Cancelled", "cancelled before its end")


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
