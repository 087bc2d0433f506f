"""A trial that notes on disk where each of its steps was made, for tests with more nodes than one."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster import NODE
from processes import wait_until

from workers.result import Row, TrialResult, TrialStatus
from workers.spec import Component, TrialSpec

if TYPE_CHECKING:
    from workers.trial import TrialContext

STEPS = 15

PAUSE = 0.1
"""Seconds that a step takes."""


class Place(NamedTuple):
    """Where a step was made."""

    step: int
    node: str
    pid: int


def placed(meeting: str, seed: int, together: int = 1) -> TrialSpec:
    """A trial of STEPS steps. Before the last it waits until `together` trials of its meeting have begun and `release`
    has been called.
    """
    options = {"meeting": meeting, "together": together}
    return TrialSpec(
        architecture=Component("placed", options), dataset=Component("none"), steps=STEPS, seed=seed
    )


def trial(spec: TrialSpec, context: TrialContext) -> Generator[Row | TrialResult, None, None]:
    file = notes(context.data, spec)
    file.parent.mkdir(exist_ok=True)
    together = int(str(spec.architecture.options["together"]))
    for step in range(STEPS + 1):
        if step == STEPS:
            wait_until(lambda: len(list(file.parent.iterdir())) >= together, seconds=180)  # a node may start
            wait_until(released(context.data, spec).exists, seconds=180)
        time.sleep(PAUSE)
        with file.open("a") as lines:
            lines.write(f"{step} {os.environ[NODE]} {os.getpid()}\n")
        yield {"step": step, "epoch": 0.0, "train_loss": 1 / (1 + step)}
    yield TrialResult(status=TrialStatus.COMPLETED, steps_done=STEPS)


def release(data: Path, spec: TrialSpec) -> None:
    """Let the trials of a meeting end."""
    released(data, spec).touch()


def released(data: Path, spec: TrialSpec) -> Path:
    return data / f"{spec.architecture.options['meeting']}.released"


def places(data: Path, spec: TrialSpec) -> list[Place]:
    """Every step of every attempt at a trial, in the order in which they were made."""
    file = notes(data, spec)
    lines = file.read_text().splitlines() if file.exists() else []
    return [Place(int(step), node, int(pid)) for step, node, pid in map(str.split, lines)]


def notes(data: Path, spec: TrialSpec) -> Path:
    return data / str(spec.architecture.options["meeting"]) / spec.trial_id
