"""Where a projected optimiser left SGD: from which step on its rows are those of a branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """Of `workers.optimizers.projected`; both null with every other optimiser."""

    switch_step: int | None  # the first step made on the branch; null before it
    switch_average: float | None  # χ̄, the moving average of √f_top up to the switch, in [0, 1]


def measure(snapshot: Snapshot) -> Record:
    return Record(
        switch_step=getattr(snapshot.optimizer, "switch_step", None),
        switch_average=getattr(snapshot.optimizer, "switch_average", None),
    )


def products(classes: int) -> int:  # noqa: ARG001
    return 0
