"""Read results back as pandas DataFrames. Needs pandas and pyarrow only, and no torch, ray or mlflow.

from orchestrator import results
results.measurements("results/figure-1").groupby("learning_rate").f_top.max()
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from orchestrator import tables
from orchestrator.files import Folder
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


def searched(path: str | Path) -> pd.DataFrame:
    """One row per trial that a search asked for, in the order of asking; no rows where the sweep has no search.

    Columns: `search` (which one, where there are several), `number` (of the question, from 0), `trial_id`, `status` (null
    while it is not finished), `value` (the last of the metric; null for trials that diverged or failed), `best` (of the
    completed trials up to here), and one for each parameter, such as `learning_rate` and `optimizer.sgd.momentum`.
    """
    from orchestrator.search_table import searched as table

    return table(path)


def load(paths: Iterable[str | Path]) -> Results:
    """All tables of several sweeps, one under the other.

    A column that only some of them have, such as a parameter added between two versions, is null in the
    others. All tables are of the same trials, whatever finishes meanwhile. Raises FileNotFoundError where
    one of them has no results, ValueError where a column has irreconcilable types.
    """
    given = list(paths)
    trials = [_read(path, tables.TRIALS) for path in given]
    measured = _unified([_of(found, path) for found, path in zip(trials, given, strict=True)])
    found = (_unified(trials), measured, _eigenvalues(measured), _subspace_overlaps(measured))
    return Results(*(_frame(table) for table in found))


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
    folder, seen = Folder.at(path), set[str]()
    chosen = trial_rows(path) if only is None else _rows_of(folder, only) or trial_rows(path)
    waiting = {row["trial_id"]: row for row in chosen if only is None or row["trial_id"] in only}
    while waiting and (files := [f for f in tables.files(folder, tables.MEASUREMENTS) if f not in seen]):
        seen.update(files)  # and then those that `compact` has put in their place meanwhile
        for file in files:
            if (own := tables.trial_of(file)) and own not in waiting:
                continue
            try:
                rows = tables.read_files(folder, tables.MEASUREMENTS, [file])
            except FileNotFoundError:
                continue
            for trial_id, of_trial in _grouped(rows, waiting):
                yield waiting.pop(trial_id), of_trial
    for trial in waiting.values():
        yield trial, []


def _rows_of(folder: Folder, only: Collection[str]) -> list[dict[str, Any]]:
    """The rows in `trials` of these trials from their own files; none where one of them has no such file."""
    try:
        found = tables.read_files(folder, tables.TRIALS, [f"{trial_id}.parquet" for trial_id in only])
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _grouped(table: pa.Table, wanted: Collection[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    table = table.filter(pc.is_in(table["trial_id"], value_set=pa.array(list(wanted), pa.string())))
    encoded = table["trial_id"].combine_chunks().dictionary_encode()
    order = np.argsort(encoded.indices.to_numpy(), kind="stable")
    counts = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary))
    places = np.split(order, np.cumsum(counts))[:-1]
    for trial_id, place in zip(encoded.dictionary.to_pylist(), places, strict=True):
        yield trial_id, sorted(table.take(place).to_pylist(), key=lambda row: int(row["step"]))


def _trials(paths: Sequence[str | Path]) -> pa.Table:
    return _unified([_read(path, tables.TRIALS) for path in paths])


def _measurements(paths: Sequence[str | Path]) -> pa.Table:
    return _unified([_of(_read(path, tables.TRIALS, ["trial_id"]), path) for path in paths])


def _of(trials: pa.Table, path: str | Path) -> pa.Table:
    """The rows of these trials. They are read first: each trial's rows are there before it counts as finished."""
    rows = _read(path, tables.MEASUREMENTS)
    known = pc.is_in(rows["trial_id"], value_set=pc.unique(trials["trial_id"]))
    return rows if pc.all(known, min_count=0).as_py() else rows.filter(known)


def _read(path: str | Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    folder = Folder.at(path)
    if folder.kind("sweep.yaml") is not fs.FileType.File:
        raise FileNotFoundError(f"{path}: no results of a sweep here")
    return tables.read(folder, name, columns)


def _unified(found: Sequence[pa.Table]) -> pa.Table:
    if not found:
        raise ValueError("load: needs at least one results folder")
    try:
        return pa.concat_tables(found, promote_options="permissive")
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
