"""The page itself: one file that needs no network, with every picture in it."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.report import render
from orchestrator.report.figure import Figure, Table

if TYPE_CHECKING:
    from orchestrator.report.summary import Summary

LARGEST_SVG = 100_000
"""Bytes; a larger picture stands on the page as PNG if that is smaller: twenty of twelve panels make five megabytes."""

MOST_FAILURES = 20

SCALE = 1.3
"""On the page pictures are larger than in print by this much."""


@dataclass(frozen=True)
class Picture:
    """A figure as files."""

    figure: Figure
    svg: bytes
    png: bytes

    @classmethod
    def of(cls, figure: Figure, sweep: str) -> Picture:
        render.head(figure.drawing, origin(figure, sweep))
        render.settle(figure.drawing)
        return cls(figure, render.svg(figure.drawing), render.png(figure.drawing))

    @property
    def source(self) -> str:
        """For an <img>: the picture itself as a data URI."""
        kind, content = "svg+xml", self.svg
        if len(content) > LARGEST_SVG and len(dots := render.few_colors(self.png)) < len(content):
            kind, content = "png", dots
        return f"data:image/{kind};base64,{b64encode(content).decode()}"

    @property
    def width(self) -> int:
        """On the page, in pixels where there is room."""
        return round(float(self.figure.drawing.get_figwidth()) * 96 * SCALE)


def origin(item: Figure | Table, sweep: str) -> str:
    """Which sweep, how many trials and seeds."""
    counts = [
        f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((item.trials, "trial"), (item.seeds, "seed"))
    ]
    return f"Sweep {sweep}, {', '.join(counts)}."


def page(summary: Summary, shown: Sequence[Picture | Table]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    items = [
        {
            "item": one.figure if isinstance(one, Picture) else one,
            "origin": origin(one.figure if isinstance(one, Picture) else one, summary.name),
            "picture": one if isinstance(one, Picture) else None,
            "table": _rows(one) if isinstance(one, Table) else None,
        }
        for one in shown
    ]
    template = environment.get_template("page.html.j2")
    return template.render(summary=summary, items=items, most_failures=MOST_FAILURES)


def cell(value: Any) -> str:
    """A value of a table in words: four digits of a number, nothing for null.

    >>> cell(0.123456), cell(float("nan")), cell("mlp"), cell(3)
    ('0.1235', '', 'mlp', '3')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(table: Table) -> list[list[Any]]:
    """The head and the rows; an index that has a name is a column too."""
    named = [name for name in table.frame.index.names if name is not None]
    frame = table.frame.reset_index() if named else table.frame
    return [[str(name) for name in frame.columns], *frame.astype(object).to_numpy().tolist()]
