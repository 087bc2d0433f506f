"""A trial that does as its spec says, for tests of what is around it: the architecture's name is the script."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workers.result import Row, TrialResult, TrialStatus
from workers.spec import Component, Request, SpecError, TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext


def scripted(script: str, *, steps: int = 3, seed: int = 0, **options: object) -> TrialSpec:
    return TrialSpec(
        architecture=Component(script, options),
        dataset=Component("none"),
        steps=steps,
        seed=seed,
        measure={"loss": Request(every=1)},
    )


def trial(spec: TrialSpec, context: TrialContext) -> Iterator[Row | TrialResult]:
    options = spec.architecture.options
    for step in range(spec.steps or 0):
        yield {"step": step, "train_loss": 1.0 / (step + 1), "pid": os.getpid(), "at": time.time()}
    match spec.architecture.name:
        case "completes":
            pass
        case "diverges":
            yield TrialResult(status=TrialStatus.DIVERGED, steps_done=spec.steps or 0)
            return
        case "raises":
            raise ZeroDivisionError("of course")
        case "refuses":
            raise SpecError("impossible")
        case "exits":
            raise SystemExit(3)
        case "out_of_memory":
            raise MemoryError("too big")
        case "stops_short":
            return
        case "dies":
            time.sleep(1)  # rows of the last milliseconds die with the process
            os._exit(1)
        case "dies_once":  # `mark` is a file that remembers
            mark = Path(str(options["mark"]))
            if not mark.exists():
                mark.touch()
                raise MemoryError("the first time")
        case "interrupted":
            raise KeyboardInterrupt
        case "forever":
            while True:
                time.sleep(0.02)
                yield {"step": spec.steps, "pid": os.getpid()}
        case "meets":  # ends when as many of them as `count` run at the same time
            meeting = context.data / str(options["meeting"])
            meeting.mkdir(exist_ok=True)
            (meeting / str(spec.seed)).touch()
            end = time.monotonic() + 180
            while len(list(meeting.iterdir())) < int(str(options["count"])):
                if time.monotonic() > end:
                    raise TimeoutError("alone")
                time.sleep(0.02)
            yield about(context)
        case "tells":
            yield about(context)
    yield TrialResult(status=TrialStatus.COMPLETED, steps_done=spec.steps or 0)


def about(context: TrialContext) -> Row:
    import torch

    return {
        "step": 9,
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "threads": torch.get_num_threads(),
        "device": context.device,
        "folder": str(context.folder),
        "data": str(context.data),
        "pid": os.getpid(),
    }
