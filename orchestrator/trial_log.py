"""What a worker process tells of its trials on standard error, which Ray keeps among its logs and log collectors read."""

import logging
import sys
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

from orchestrator.events import Event, Failed, Finished, Started, Underway
from orchestrator.json_lines import JsonFormatter, json_line
from workers.spec import TrialSpec

TOLD_APART_BY = ("architecture", "dataset", "optimizer", "learning_rate", "batch_size", "seed")
"""Columns in the line of a trial's start."""


class TrialLog:
    """The log of a process that runs one trial at a time.

    A line tells of each trial's start and end; every log record (from INFO on) and every Python warning in between has
    the trial's id. A process that dies says nothing: the driver does.
    """

    def __init__(self, sweep: str | None = None) -> None:
        self._sweep = sweep
        self._trial_id: str | None = None
        handler = logging.StreamHandler()  # to standard error
        handler.setFormatter(JsonFormatter(self._context))
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(min(root.level or logging.INFO, logging.INFO))
        logging.captureWarnings(True)

    def told(self, spec: TrialSpec, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        """The events of a trial, as they are, while the log tells of it."""
        self._trial_id, begun = spec.trial_id, time.monotonic()
        try:
            with closing(events):  # cancelled, it saves a checkpoint
                for event in events:
                    self._tell(spec, event, begun)
                    yield event
        except GeneratorExit:
            self._say("cancelled", "cancelled before its end", seconds=_since(begun))
            raise
        finally:
            self._trial_id = None

    def _tell(self, spec: TrialSpec, event: Event, begun: float) -> None:
        match event:
            case Started(device=device):
                columns = spec.columns()
                some = {name: columns[name] for name in TOLD_APART_BY}
                text = ", ".join(f"{name} {value}" for name, value in some.items())
                self._say("started", text, device=device, **some)
            case Underway(note=note, step=step) if note:
                self._say("note", note, step=step)
            case Finished(result=result):
                self._say(
                    str(result.status),
                    f"{result.status} at step {result.steps_done}",
                    steps_done=result.steps_done,
                    seconds=_since(begun),
                    hessian_products=result.hessian_products,
                )
            case Failed(fault=fault, error_type=error_type, error=error):
                last = (error.strip().splitlines() or [error_type])[-1]
                self._say(
                    "failed",
                    last,
                    "error",
                    fault=str(fault),
                    error_type=error_type,
                    error=error,
                    seconds=_since(begun),
                )

    def _say(self, event: str, message: str, level: str = "info", **fields: Any) -> None:
        sys.stderr.write(json_line(event, message, level, **self._context(), **fields) + "\n")
        sys.stderr.flush()

    def _context(self) -> dict[str, Any]:
        return {"trial_id": self._trial_id, "sweep": self._sweep}


def _since(begun: float) -> float:
    """Seconds of this attempt, waiting for a place not counted."""
    return round(time.monotonic() - begun, 3)
