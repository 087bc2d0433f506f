"""Read results back as pandas DataFrames. Needs pandas and pyarrow only, and no torch, ray or mlflow.

from orchestrator import results
results.measurements("results/figure-1").groupby("learning_rate").f_top.max()
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator.files import Folder, trial_of
from workers.spec import spec_columns


class Results(NamedTuple):
    """The tables of one or several sweeps; see the functions of the same names."""

    trials: pd.DataFrame
    measurements: pd.DataFrame
    eigenvalues: pd.DataFrame
    subspace_overlaps: pd.DataFrame


def trials(path: str | Path) -> pd.DataFrame:
    """One row a finished trial: its parameters, `status`, and what it cost.

    `path` is a results folder, `results/<name>`, or any URI that pyarrow's file systems open. Without
    finished trials the frame is empty and has its columns. Raises FileNotFoundError where there are no
    results.
    """
    return _frame(_trials([path]))


def measurements(path: str | Path) -> pd.DataFrame:
    """One row per finished trial and step, with the trial's parameters repeated on it; null is not measured.

    Trials of every status are in it: what a diverged or failed trial measured before its end is true. Choose
    by `trials(path).status` where it matters. A trial still under way is not in it. Raises FileNotFoundError
    where there are no results.

    A figure is one line: `measurements(path).groupby(["step",
    "learning_rate"]).f_top.mean().unstack().plot()`.
    """
    return _frame(_measurements([path]))


def eigenvalues(path: str | Path) -> pd.DataFrame:
    """The eigenpairs in long form: one row per trial, step and index.

    Columns: `trial_id`, `sweep`, the parameters, `step`, `index` (1 is the largest eigenvalue), `eigenvalue`
    λᵢ, `residual` ‖Hvᵢ − λᵢvᵢ‖ / |λ₁|, `gradient_overlap` (vᵢᵀg)² / ‖g‖² (null where not measured, or where
    the gradient vanishes). Raises FileNotFoundError where there are no results.
    """
    return _frame(_eigenvalues(_measurements([path])))


def subspace_overlaps(path: str | Path) -> pd.DataFrame:
    """The overlaps of top subspaces in long form: one row per trial, step and earlier step `since`.

    Columns: `trial_id`, `sweep`, the parameters, `step`, `since`, and the fields of the measurement: `top`
    for the first k eigenvectors, `next` for the k after them, `by_dimension` (list; its entry m − 1 is the
    overlap of the first m). All are in [0, 1]; chance is m/p. Raises FileNotFoundError where there are no
    results.
    """
    return _frame(_subspace_overlaps(_measurements([path])))


def load(paths: Iterable[str | Path]) -> Results:
    """All tables of several sweeps, one under the other.

    A column that only some of them have, such as a parameter added between two versions, is null in the
    others. Raises FileNotFoundError where one of them has no results, ValueError where a column has
    irreconcilable types.
    """
    found = list(paths)
    measured = _measurements(found)
    tables = (_trials(found), measured, _eigenvalues(measured), _subspace_overlaps(measured))
    return Results(*(_frame(table) for table in tables))


def trial_rows(path: str | Path) -> list[dict[str, Any]]:
    """`trials` as plain Python rows. Raises FileNotFoundError where there are no results."""
    rows: list[dict[str, Any]] = _trials([path]).to_pylist()
    return rows


def by_trial(
    path: str | Path, only: Collection[str] | None = None
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each finished trial's row in `trials` and its rows in `measurements`, by step; file by file.

    With `only`, those of these trial_ids that are finished. Raises FileNotFoundError where there are no
    results.
    """
    chosen = [row for row in trial_rows(path) if only is None or row["trial_id"] in only]
    waiting = {row["trial_id"]: row for row in chosen}
    folder = Folder.at(path)
    for file in folder.parquet("measurements") if waiting else ():
        if (own := trial_of(file)) and own not in waiting:
            continue
        for trial_id, rows in _grouped(pq.read_table(file, filesystem=folder.filesystem)):
            if trial_id in waiting:
                yield waiting.pop(trial_id), rows
    for trial in waiting.values():
        yield trial, []


def _grouped(table: pa.Table) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for trial_id in pc.unique(table["trial_id"]).to_pylist():
        rows = table.filter(pc.field("trial_id") == trial_id).to_pylist()
        yield trial_id, sorted(rows, key=lambda row: int(row["step"]))


def _trials(paths: Sequence[str | Path]) -> pa.Table:
    return _unified([_read(path, "trials") for path in paths])


def _measurements(paths: Sequence[str | Path]) -> pa.Table:
    """Trials first, rows second: each trial's rows are there before it counts as finished."""
    tables = []
    for path in paths:
        finished = _read(path, "trials").column("trial_id").combine_chunks()
        rows = _read(path, "measurements")
        tables.append(rows.filter(pc.is_in(rows["trial_id"], value_set=finished)))
    return _unified(tables)


def _read(path: str | Path, name: str) -> pa.Table:
    """One table of a sweep. A trial's own file outweighs its rows in a compacted one."""
    folder = Folder.at(path)
    if folder.kind() is not fs.FileType.Directory or "sweep.yaml" not in folder.names():
        raise FileNotFoundError(f"{path}: no results of a sweep here")
    files = folder.parquet(name)
    if not files:  # a sweep interrupted in its first moment
        return pa.table({column: pa.array([], pa.string()) for column in ("trial_id", "sweep")})
    found = ds.dataset(files, filesystem=folder.filesystem, format="parquet")
    own = {trial_id: file for file in files if (trial_id := trial_of(file))}
    if len(files) - len(own) < 2:  # nothing is compacted
        return found.to_table()
    together, single = (
        ds.dataset(chosen, found.schema, "parquet", folder.filesystem).to_table()
        for chosen in ([file for file in files if file not in own.values()], list(own.values()))
    )
    outweighed = pc.is_in(together["trial_id"], value_set=pa.array(own, pa.string()))
    return pa.concat_tables([together.filter(pc.invert(outweighed)), single])


def _unified(tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        raise ValueError("load: needs at least one results folder")
    try:
        return pa.concat_tables(
            [table.replace_schema_metadata() for table in tables], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"load: these sweeps do not fit together: {error}") from error


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _eigenvalues(table: pa.Table) -> pa.Table:
    number, lists = pa.list_(pa.float64()), ("eigenvalues", "residuals", "gradient_overlaps")
    table = _with_columns(table, dict.fromkeys(lists, number))
    table = table.filter(pc.greater(pc.fill_null(pc.list_value_length(table["eigenvalues"]), 0), 0))
    lengths = [len(values) for values in table["eigenvalues"].to_pylist()]
    parents = pa.array([row for row, length in enumerate(lengths) for _ in range(length)], pa.int64())
    index = pa.array([i for length in lengths for i in range(1, length + 1)], pa.int64())
    long = _keys(table).take(parents).append_column("index", index)
    for name, source in zip(("eigenvalue", "residual", "gradient_overlap"), lists, strict=True):
        pairs = zip(table[source].to_pylist(), lengths, strict=True)
        values = [value for row, length in pairs for value in _padded(row, length)]
        long = long.append_column(name, pa.array(values, pa.float64()))
    return long


def _padded(values: list[float] | None, length: int) -> list[float | None]:
    return [*(values or []), *[None] * length][:length]


def _subspace_overlaps(table: pa.Table) -> pa.Table:
    empty = pa.struct(
        [
            ("since", pa.int64()),
            ("top", pa.float64()),
            ("next", pa.float64()),
            ("by_dimension", pa.list_(pa.float64())),
        ]
    )
    table = _with_columns(table, {"subspace_overlap": pa.list_(empty)})
    column = table["subspace_overlap"].combine_chunks()
    long = _keys(table).take(pc.list_parent_indices(column))
    overlaps = pc.list_flatten(column)
    for position, field in enumerate(overlaps.type):
        long = long.append_column(field.name, pc.struct_field(overlaps, [position]))
    return long


def _keys(table: pa.Table) -> pa.Table:
    names = ("trial_id", "sweep", *spec_columns(), "step")
    return table.select([name for name in names if name in table.column_names])


def _with_columns(table: pa.Table, wanted: dict[str, pa.DataType]) -> pa.Table:
    for name, kind in ({"step": pa.int64()} | wanted).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    return table
