"""What the searches of a sweep asked for, as a table; from stored results alone. Imports no optuna."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import tables
from orchestrator.files import Folder

COLUMNS = ["search", "number", "trial_id", "status", "value", "best"]


def headings(path: str | Path) -> dict[str, dict[str, Any]]:
    """By key, what each search is about: name, metric, direction, sampler, pruner, trials, parameters. Raises OSError."""
    folder = Folder.at(path)
    found = {}
    for name in folder.names(tables.SEARCH):
        if name.endswith(".json") and (content := folder.read(f"{tables.SEARCH}/{name}")):
            found[name.removesuffix(".json")] = json.loads(content)
    return found


def searched(path: str | Path) -> pd.DataFrame:
    """One row for each different trial, as `results.searched`. Raises OSError."""
    folder, found = Folder.at(path), headings(path)
    status = dict(_pairs(folder, tables.TRIALS, "status"))
    rows: list[dict[str, Any]] = []
    for key, about in found.items():
        values = dict(
            _pairs(folder, tables.MEASUREMENTS, about["metric"])
        )  # the last step outweighs those before
        best, better = None, max if about["direction"] == "maximize" else min
        for one in asked(path, key):
            how = status.get(one["trial_id"])
            value = values.get(one["trial_id"]) if how in ("completed", "pruned") else None
            if how == "completed" and value is not None and math.isfinite(value):
                best = value if best is None else better(best, value)
            known = {"search": key, "number": one["number"], "trial_id": one["trial_id"]}
            rows.append(known | {"status": how, "value": value, "best": best} | one["parameters"])
    frame = pd.DataFrame(rows, columns=None if rows else COLUMNS)
    return frame.astype({"value": float, "best": float})


def asked(path: str | Path, key: str) -> list[dict[str, Any]]:
    """Number, trial_id and parameters of what a search asked for, in order, each trial once. Raises OSError."""
    folder = Folder.at(path)
    found: dict[str, dict[str, Any]] = {}
    for name in folder.names(tables.SEARCH):
        if name.startswith(f"{key}-") and (content := folder.read(f"{tables.SEARCH}/{name}")):
            for entry in map(json.loads, content.splitlines()):
                found.setdefault(entry["trial_id"], entry)
    return list(found.values())


def _pairs(folder: Folder, table: str, column: str) -> list[tuple[str, Any]]:
    """trial_id and value of a column, by step where there are steps; nothing where it is null."""
    order = ["step"] if table == tables.MEASUREMENTS else []
    read = tables.read(folder, table, ["trial_id", *order, column], tables.ignore)  # `trials` tells of damage
    rows = read.sort_by([(name, "ascending") for name in order]).to_pylist() if order else read.to_pylist()
    return [(row["trial_id"], row[column]) for row in rows if row[column] is not None]


def best_of_searches(searched: pd.DataFrame, most: int) -> set[str]:
    """The trial_ids of the best completed trials, so many altogether, as far as there are; as many of each search.

    >>> searched = pd.DataFrame({"search": "a", "trial_id": ["x", "y", "z"], "status": "completed",
    ...                          "value": [0.5, 0.3, 0.4], "best": [0.5, 0.3, 0.3]})
    >>> sorted(best_of_searches(searched, 2))
    ['y', 'z']
    """
    done = searched[(searched.status == "completed") & searched.value.notna()]
    if done.empty:
        return set()
    each = max(1, most // done.search.nunique())
    found: set[str] = set()
    for _, own in done.groupby("search"):
        falling = own.best.iloc[-1] <= own.value.min()
        found |= set(own.sort_values("value", ascending=falling, kind="stable").trial_id[:each])
    return found
