"""What a run in MLflow says about a trial, from the trial's columns. Imports no mlflow."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.schema import schema, table
from workers.result import TrialStatus, measurement_columns, scalars
from workers.spec import spec_columns

LONGEST_PARAMETER = 6_000  # characters; MLflow refuses more
LONGEST_TAG = 5_000

TRIAL, SWEEP = "trial", "sweep"
"""The two values of the tag `kind`."""

TRIALS_LINK = "TRIALS_LINK"
"""What stands in a note until the experiment's number is known."""

RUN_STATUS = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.DIVERGED: "FINISHED",  # a result, not an error; the tag `status` says so
    TrialStatus.FAILED: "FAILED",
    TrialStatus.PRUNED: "KILLED",
}

_OUTCOME = (
    "steps_done", "parameters", "classes", "error_type", "attempts", "seconds", "seconds_measuring",
    "hessian_products", "host", "device", "torch_version", "code_version",
)  # fmt: skip


def stored_form(columns: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as they come back from Parquet, where 1 is 1.0 in a column of floats."""
    wanted = schema(spec_columns())
    known = {name: columns.get(name) for name in wanted.names}
    return dict(table([known], wanted).to_pylist()[0])


def parameters(columns: Mapping[str, Any]) -> dict[str, str]:
    """Every TrialSpec field as MLflow's text; `null` where it has no value.

    >>> parameters({"learning_rate": 1, "epochs": None})["learning_rate"]
    '1.0'
    """
    return {name: _text(value)[:LONGEST_PARAMETER] for name, value in stored_form(columns).items()}


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a measurements row that can be drawn by step; those that are not finite are left out.

    The scalar columns under their own names, `eigenvalue_01` for the largest eigenvalue and so on, and for
    each earlier step `subspace_overlap_top_since_100` and `subspace_overlap_next_since_100`.

    >>> metrics({"step": 5, "f_top": 0.5, "test_loss": float("nan"), "eigenvalues": [3.0, 1.0]})
    {'f_top': 0.5, 'eigenvalue_01': 3.0, 'eigenvalue_02': 1.0}
    """
    apart = {"step", *spec_columns()}
    found = {name: value for name, value in scalars(row).items() if name not in apart}
    for index, value in enumerate(row.get("eigenvalues") or (), start=1):
        found[f"eigenvalue_{index:02d}"] = value
    for overlap in row.get("subspace_overlap") or ():
        for name in ("top", "next"):
            found[f"subspace_overlap_{name}_since_{overlap['since']}"] = overlap[name]
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def trial_tags(columns: Mapping[str, Any], sweep: str) -> dict[str, str]:
    """What a trial's run can be found by, before its outcome is known."""
    components = {name: str(columns[name]) for name in ("architecture", "dataset", "optimizer")}
    return {"trial_id": str(columns["trial_id"]), "sweep": sweep, "kind": TRIAL, **components}


def outcome_tags(result: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a finished trial's run gets besides, from its row in `trials`: how it ended, its cost."""
    tags = {"status": str(result["status"])}
    tags |= {name: _text(result[name])[:LONGEST_TAG] for name in _OUTCOME if result.get(name) is not None}
    if result.get("error"):
        tags["error"] = last_line(str(result["error"]), str(result["error_type"]))[:LONGEST_TAG]
        tags["mlflow.note.content"] = f"```\n{str(result['error'])[-(LONGEST_TAG - 100) :]}\n```"
    return tags


def sweep_note(description: str, path: str) -> str:
    """What the page says above the runs of a sweep."""
    columns = ", ".join(f"`{name}`" for name, kind in measurement_columns().items() if _is_scalar(name, kind))
    return "\n\n".join(
        part
        for part in (
            description,
            f"One run per trial, under the run of the sweep, which hides them while the list is sorted by "
            f"*Created*: {TRIALS_LINK}. Parameters are the fields of the sweep file, options of components as "
            "JSON beside them. The tag `status` is the trial's: `diverged` is a result, not an error.",
            f"Metrics by optimiser step: {columns}, `eigenvalue_01` (the largest of the Hessian) and so on, "
            "and `subspace_overlap_top_since_N` with `subspace_overlap_next_since_N`.",
            f"A mirror of the Parquet files in `{path}`, which have more: residuals, spectral densities, "
            f"overlaps per eigenvector. `tiny-subspace mirror {path}` makes it again.",
        )
        if part
    )


def last_line(text: str, error_type: str = "") -> str:
    """The line of a traceback that names the exception; without its type, the last that says something.

    >>> last_line("Traceback\\n  File x\\nValueError: no\\nsecond line\\n", "ValueError")
    'ValueError: no'
    """
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if error_type and line.split(":")[0].split(".")[-1] == error_type]
    return (named or lines or [""])[-1]


def _is_scalar(name: str, kind: Any) -> bool:
    return name != "step" and name not in spec_columns() and kind in (int, float, int | None, float | None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
