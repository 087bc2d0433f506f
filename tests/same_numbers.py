"""Whether two results folders hold the same numbers, and whether MLflow has each of them once."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ELSEWHERE = {
    "host", "device", "attempts", "seconds", "seconds_measuring", "started_at", "finished_at", "code_version",
}  # fmt: skip
"""Columns that say where and when."""

KEYS = {"trials": ("trial_id",), "measurements": ("trial_id", "step")}

Table = Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]]
"""The rows of each key: one, if all is well."""


def differences(reference: Path, other: Path) -> list[str]:
    """What is not the same to the bit in the tables of two folders, but for ELSEWHERE; a line each."""
    found: list[str] = []
    for name, key in KEYS.items():
        wanted, got = (read(folder / name, key) for folder in (reference, other))
        found += [f"{name}: {at} is missing" for at in wanted.keys() - got.keys()]
        found += [f"{name}: {at} should not be there" for at in got.keys() - wanted.keys()]
        for at, rows in got.items():
            if len(rows) > 1:
                found.append(f"{name}: {at} is there {len(rows)} times")
            for column, value in wanted.get(at, rows)[0].items():
                if repr(rows[0].get(column)) != repr(value):  # exact, and nan is the same as nan
                    found.append(f"{name}: {at}: {column} is {rows[0].get(column)}, not {value}")
    return found


def read(table: Path, key: Sequence[str]) -> Table:
    rows = defaultdict(list)
    for row in pq.read_table(table).to_pylist():
        at = tuple(row[column] for column in key)
        rows[at].append({column: value for column, value in row.items() if column not in ELSEWHERE})
    return rows


def mirror_faults(store: Path, reference: Path) -> list[str]:
    """What a SQLite store of MLflow lacks of a sweep or has too often; a line each."""
    with closing(sqlite3.connect(store)) as connection:
        runs = dict(
            connection.execute(
                "SELECT t.value, count(*) FROM tags t JOIN runs r USING (run_uuid) "
                "WHERE t.key = 'trial_id' AND r.lifecycle_stage = 'active' GROUP BY t.value"
            )
        )
        repeated = connection.execute(
            "SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1"
        ).fetchall()
        points = dict(
            connection.execute(
                "SELECT t.value, count(*) FROM metrics m JOIN tags t USING (run_uuid) "
                "WHERE t.key = 'trial_id' AND m.key = 'train_loss' GROUP BY t.value"
            )
        )
    found = [f"mlflow: {at}: {count} points of {key} at step {step}" for at, key, step, count in repeated]
    steps = Counter(trial_id for trial_id, _ in read(reference / "measurements", KEYS["measurements"]))
    for trial_id, count in steps.items():
        if runs.get(trial_id) != 1:
            found.append(f"mlflow: {trial_id} has {runs.get(trial_id, 0)} runs")
        if points.get(trial_id) != count:
            found.append(
                f"mlflow: {trial_id} has {points.get(trial_id, 0)} points of train_loss, not {count}"
            )
    return found
