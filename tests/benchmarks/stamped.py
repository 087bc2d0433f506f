"""Trials that tell which process ran them and when, so that what lies between two of them on a slot can be measured.

They travel to Ray's workers by name: this folder has to be on their path.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from workers.result import Reached, Row, TrialResult, TrialStatus
from workers.spec import TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext

Items = Generator[Row | Reached | TrialResult, None, None]


def trivial(spec: TrialSpec, context: TrialContext) -> Items:
    """One row and the result."""
    begun = datetime.now(UTC)
    yield row(0)
    yield stamped(TrialResult(status=TrialStatus.COMPLETED, steps_done=1), begun)


class Sleeping:
    """Trials of a row, some seconds that follow from the seed, another row and the result; for simulations.

    Where it arrives in a process that has not imported torch, something in its place that can do nothing is put
    there: of torch itself, 64 processes take 20 GiB and minutes.
    """

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def __call__(self, spec: TrialSpec, context: object) -> Items:
        begun = datetime.now(UTC)
        yield row(0)
        time.sleep(random.Random(spec.seed).uniform(self._least, self._most))
        yield row(1)
        yield stamped(TrialResult(status=TrialStatus.COMPLETED, steps_done=1), begun)

    def __reduce__(self) -> Any:
        return arrived, (self._least, self._most)


def arrived(least: float, most: float) -> Sleeping:
    if "torch" not in sys.modules:
        torch, trial = ModuleType("torch"), ModuleType("workers.trial")
        cuda = SimpleNamespace(is_available=lambda: False)
        vars(torch).update(cuda=cuda, set_num_threads=lambda _: None)
        vars(trial).update(run_trial=None, TrialContext=SimpleNamespace)
        sys.modules.update({"torch": torch, "workers.trial": trial})
    return Sleeping(least, most)


def real(spec: TrialSpec, context: TrialContext) -> Items:
    """`run_trial`, whose result tells the process in the place of the machine."""
    from workers.trial import run_trial

    begun = datetime.now(UTC)
    for item in run_trial(spec, context):
        yield stamped(item, begun) if isinstance(item, TrialResult) else item


def row(step: int) -> Row:
    return {"step": step, "epoch": 0.0, "train_loss": 1 / (1 + step)}


def stamped(result: TrialResult, begun: datetime) -> TrialResult:
    ended = datetime.now(UTC)
    seconds = result.seconds or (ended - begun).total_seconds()
    return replace(result, host=str(os.getpid()), started_at=begun, finished_at=ended, seconds=seconds)
