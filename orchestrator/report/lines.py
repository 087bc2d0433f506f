"""In which order the lines of a panel come, which of them are drawn, and what they are called."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.labels import labels

MOST_LINES = 8


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of pandas with None for null, and whole numbers as such: pandas has floats in a column with nulls."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        null = value is None or value != value
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e9
        found[name] = None if null else int(value) if whole else value
    return found


def vary(rows: Sequence[Mapping[str, Any]], name: str, members: Iterable[int]) -> bool:
    return len({rows[i][name] for i in members}) > 1


def ranks(rows: Sequence[Mapping[str, Any]], within: Sequence[str]) -> tuple[list[int], bool]:
    """The place of each setting in the order of lines, and whether one number alone makes that order."""
    values = {name: [row[name] for row in rows] for name in within}
    places = []
    for found in values.values():
        distinct = sorted(set(found), key=natural)
        places.append([distinct.index(value) for value in found])
    keys = list(zip(*places, strict=True)) if places else [() for _ in rows]
    order = sorted(range(len(rows)), key=lambda i: (keys[i], i))
    ranks = [0] * len(rows)
    for rank, i in enumerate(order):
        ranks[i] = rank
    single = next(iter(values.values())) if len(values) == 1 else []
    ordered = len(set(single)) > 2 and all(isinstance(v, int | float) or v is None for v in single)
    return ranks, ordered


def natural(value: Any) -> tuple[Any, ...]:
    """A key by which 2 comes before 10, within text too, and no options before some; null, which stands for all, last."""
    if value is None:
        return (2,)
    if isinstance(value, int | float):
        return (0, value)
    parts = re.split(r"([0-9.]+)", value)
    return (
        1,
        value != "{}",
        *((float(p), "") if re.fullmatch(r"[0-9]+\.?[0-9]*", p) else (0.0, p) for p in parts),
    )


def chosen(members: list[int], ordered: bool) -> list[int]:
    """At most MOST_LINES of them: evenly spread where they are in the order of a number, else the first."""
    if len(members) <= MOST_LINES:
        return members
    if not ordered:
        return members[:MOST_LINES]
    return [members[i] for i in np.linspace(0, len(members) - 1, MOST_LINES).round().astype(int)]


def line_labels(rows: Sequence[Mapping[str, Any]], within: Sequence[str]) -> list[str]:
    """What tells each setting from the others of a panel; for options at their defaults, the component's name."""
    shown = {name for column in within for name in (column, column.removesuffix("_options"))}
    own = [{name: row[name] for name in row if name in shown} for row in rows]
    distinct = {key: json.loads(key) for key in sorted(map(json.dumps, own))}
    texts = dict(zip(distinct, labels(list(distinct.values())), strict=True))
    if len(distinct) > 1:
        texts = {key: text or str(distinct[key].get("optimizer", "default")) for key, text in texts.items()}
    return [texts[json.dumps(row)] for row in own]
