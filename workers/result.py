"""What comes out of a trial: rows while it runs, one result at its end, and the columns of both."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, get_type_hints

from workers import find
from workers.spec import SpecError, spec_columns

Row = dict[str, Any]
"""One step's measurements: column name to value; what was not measured at that step is absent or None."""


class TrialStatus(StrEnum):
    """Where a trial stands. The last four are final; `diverged` is a result, not an error."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    DIVERGED = "diverged"
    FAILED = "failed"
    PRUNED = "pruned"


@dataclass(frozen=True)
class Reached:
    """Between rows: the step that a trial has come to, and perhaps a line for people to read."""

    step: int
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The columns of a measurements row that belong to no single measurement."""

    step: int  # optimiser steps made before this row
    epoch: float  # step · batch size / training samples
    batch_loss: float | None = None  # loss of the mini-batch that the next step uses; None at the last step
    gradient_norm: float | None = None  # ‖∇L‖ on the measurement set; None where nothing asked for it
    hessian_products: int = 0  # Hessian-vector products that this row took; not those of an optimiser


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The row that says a trial is finished. Times are in seconds, dates in UTC."""

    status: TrialStatus
    steps_done: int = 0  # for a diverged trial the step at which its loss stopped being finite or bounded
    parameters: int | None = None  # p
    classes: int | None = None  # k
    fault: str | None = None  # what kind of failure, of those in orchestrator/faults.py
    error_type: str | None = None
    error: str | None = None  # the traceback as the worker saw it
    attempts: int = 1
    seconds: float = 0.0
    seconds_measuring: float = 0.0
    hessian_products: int = 0
    host: str | None = None
    device: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    torch_version: str | None = None
    code_version: str | None = None


def trial_columns() -> dict[str, Any]:
    """Column name to Python type of the table `trials`."""
    return {"trial_id": str, "sweep": str} | spec_columns() | get_type_hints(TrialResult)


def measurement_columns(own: Iterable[str] = ()) -> dict[str, Any]:
    """Column name to Python type of the table `measurements`.

    Always those of every measurement this package ships, so that a sweep that asks for one more tomorrow still
    has one schema; then those of the dotted names in `own`. SpecError where two measurements share a column.
    """
    columns = {"trial_id": str, "sweep": str} | spec_columns() | get_type_hints(Moment)
    for name in [*find.names("measurements"), *sorted(set(own))]:
        try:
            record = get_type_hints(find.module("measurements", name).Record)
        except Exception as error:  # whatever a file of the user's own does when it is imported
            raise SpecError(
                f"measurements: {name!r} cannot be used: {type(error).__name__}: {error}"
            ) from error
        taken = sorted(columns.keys() & record.keys())
        if taken:
            raise SpecError(f"measurements: {name!r} has the column {taken[0]!r}, which exists already")
        columns |= record
    return columns


def as_row(records: Iterable[Any]) -> Row:
    """The fields of several records (frozen dataclasses) as one row; arrays and tensors as numbers and lists."""
    row: Row = {}
    for record in records:
        row |= {name: _plain(value) for name, value in dataclasses.asdict(record).items()}
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row that can be drawn by step: everything but lists, text, flags and nulls.

    >>> scalars({"f_top": 0.5, "eigenvalues": [1.0], "converged": True, "test_loss": None})
    {'f_top': 0.5}
    """
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
