"""Options of architectures, data sets and optimisers, which stored rows have as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workers import find

KINDS = {"architecture": "architectures", "dataset": "datasets", "optimizer": "optimizers"}


def given(row: Mapping[str, Any], component: str) -> dict[str, Any]:
    """The options of a row's architecture, dataset or optimizer that differ from their defaults.

    >>> given({"dataset_options": '{"classes": 2}'}, "dataset")
    {'classes': 2}
    """
    found: dict[str, Any] = json.loads(row[f"{component}_options"])
    return found


def complete(row: Mapping[str, Any], component: str) -> dict[str, Any]:
    """The same with the defaults of the others. SpecError where this package has no such component.

    >>> complete({"optimizer": "sgd", "optimizer_options": '{"momentum": 0.9}'}, "optimizer")
    {'momentum': 0.9, 'nesterov': False, 'weight_decay': 0.0}
    """
    known = find.options(KINDS[component], row[component])
    defaults = {name: option.default for name, option in known.items()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()} | given(
        row, component
    )


def spelled(rows: Sequence[Mapping[str, Any]], component: str) -> list[dict[str, Any]]:
    """`rows` with each option that any of the same name gives, at its default where a row does not: so they compare.

    Of components that this package ships; others have no defaults here, and stay as they are.

    >>> row = {"optimizer": "sgd", "optimizer_options": "{}"}
    >>> found = spelled([row, row | {"optimizer_options": '{"momentum": 0.9}'}], "optimizer")
    >>> [one["optimizer_options"] for one in found]
    ['{"momentum": 0.0}', '{"momentum": 0.9}']
    """
    shipped, asked = find.names(KINDS[component]), dict[str, set[str]]()
    for row in rows:
        asked.setdefault(row[component], set()).update(given(row, component))
    found = []
    for row in rows:
        options = complete(row, component) if row[component] in shipped else given(row, component)
        shown = {name: value for name, value in options.items() if name in asked[row[component]]}
        found.append({**row, f"{component}_options": json.dumps(shown, sort_keys=True)})
    return found


def without(rows: pd.DataFrame, component: str, *options: str) -> pd.DataFrame:
    """`rows` as if nobody had given these options: trials that differ in nothing else come to share a line.

    >>> rows = pd.DataFrame({"dataset_options": ['{"classes": 2, "samples": 50}', '{"classes": 3, "samples": 50}']})
    >>> without(rows, "dataset", "classes").dataset_options.tolist()
    ['{"samples": 50}', '{"samples": 50}']
    """
    column = f"{component}_options"

    def shorter(text: str) -> str:
        kept = {name: value for name, value in json.loads(text).items() if name not in options}
        return json.dumps(kept, sort_keys=True)

    return rows.assign(**{column: rows[column].map(shorter)})
