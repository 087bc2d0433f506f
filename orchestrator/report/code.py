"""The lines that a reader runs to have a figure's numbers in `data`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored


def code(stored: Stored, table: str, *lines: str) -> str:
    """The import, `rows` read from a function of `orchestrator.results`, and what is made of them."""
    return "\n".join(["from orchestrator import results", f"rows = {read(stored, table)}", *lines])


def read(stored: Stored, table: str) -> str:
    """The call of a function of `orchestrator.results` on these results."""
    return f"results.{table}({json.dumps(stored.path, ensure_ascii=False)})"


def grouped(stored: Stored, *by: str) -> str:
    """`rows.groupby([…])` by what makes panels and lines, and by these columns too."""
    nulls = bool(stored.trials[stored.groups.keys].isna().to_numpy().any())
    return f"rows.groupby({keys(stored, *by)}{', dropna=False' if nulls else ''})"


def keys(stored: Stored, *by: str) -> str:
    """The list of these columns."""
    return json.dumps([*stored.groups.keys, *by])


def chosen(columns: Sequence[str]) -> str:
    """`.f_top` of a grouping, or `[["f_top", "train_loss"]]`."""
    return f".{columns[0]}" if len(columns) == 1 else f"[{json.dumps(list(columns))}]"


def spread(stored: Stored) -> str:
    """What makes lines and bands of a grouping: the median, and the quantiles of the band where there is one."""
    if stored.groups.seeds < 2:
        return ".median()"
    low, high = stored.groups.band
    return f".quantile([{low:g}, 0.5, {high:g}]).unstack()"
