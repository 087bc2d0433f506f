"""Figures of scalar columns against the step: a panel per architecture and data set, a line per setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import Panel, part, quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from orchestrator.report.figure import Stored

DASHES = ("-", "--", ":")
DIVERGED = "a trial diverged"


@dataclass(frozen=True)
class Quantity:
    """What one of a panel's axes shows: columns of the same unit, the first with a band, the others dashed."""

    label: str  # of the y-axis, with the unit
    columns: tuple[str, ...]
    words: tuple[str, ...] = ()  # what tells the columns apart in the legend
    include: tuple[float, ...] = ()  # values that the axis reaches at least
    marks: Callable[[Panel], Sequence[tuple[float, str]]] = lambda _: ()  # reference lines: place and word


def chance(panel: Panel) -> list[tuple[float, str]]:
    """The mark at k/p, which is what a random vector has; none where p is not known."""
    return [] if panel.chance is None else [(panel.chance, style.CHANCE)]


def by_step(
    stored: Stored,
    name: str,
    title: str,
    caption: str,
    quantities: Sequence[Quantity],
    side_by_side: bool = False,
) -> Iterator[Figure]:
    """One figure of the quantities that have values, their axes one above the other; nothing where none has.

    `side_by_side`: beside each other where there is one panel only.
    """
    groups = stored.groups
    given = [q for q in quantities if any(stored.has(column) for column in q.columns)]
    columns = [column for q in given for column in q.columns if stored.has(column)]
    rows = groups.drawn(stored.measurements)
    rows = rows[rows[columns].notna().any(axis=1)]
    if rows.empty or not columns:
        return
    tables = {column: quantiles(rows, column, ["setting", "step"], groups.band) for column in columns}
    diverged = rows[rows.trial_id.isin(stored.trials.trial_id[stored.trials.status == "diverged"])]
    with style.styled():
        beside = side_by_side and len(groups.panels) == 1
        if beside:
            height = 1.9
            drawing, places = style.panels(len(given), height=height)
            found = [[axes for own in places for axes in own]]
        else:
            height = 1.9 if len(given) == 1 or side_by_side else 1.35
            drawing, found = style.panels(len(groups.panels), len(given), height)
        for panel, own in zip(groups.panels, found, strict=True):
            style.title(own[0], panel.title)
            for axes, quantity in zip(own, given, strict=True):
                _draw(axes, panel, quantity, tables)
                _crosses(axes, panel, quantity.columns[0], tables, diverged)
        for row, quantity in enumerate(given):
            stack = [own[row] for own in found]
            _scale(stack, [tables[c] for c in quantity.columns if c in tables], quantity.include)
            for axes in stack:
                if beside or axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                    style.y_label(axes, quantity.label, height)
        for own in found:
            for axes in own if beside else own[-1:]:
                style.step_axis(axes, rows.step.unique())
        style.legend(drawing, _handles(stored, given, tables, not diverged.empty))
    aggregated = f"{code.grouped(stored, 'step')}{code.chosen(columns)}{code.spread(stored)}"
    yield Figure(
        name=name,
        title=title,
        caption=" ".join(
            words for words in (caption, groups.band_words, _divergence(diverged), groups.left_out) if words
        ),
        code=code.code(stored, "measurements", f"data = {aggregated}"),
        drawing=drawing,
        rows=rows,
    )


def line(
    axes: Axes,
    table: pd.DataFrame,
    color: str,
    marker: str,
    dash: str = "-",
    band: bool = True,
    gid: str = "",
) -> None:
    """A median by x with its band; `table` has columns low, median and high, and x as its index."""
    x = table.index.to_numpy()
    axes.plot(x, table["median"], color=color, marker=marker, linestyle=dash, gid=gid or None)
    if band and bool((table.high > table.low).any()):
        axes.fill_between(x, table.low, table.high, color=color, alpha=0.18, linewidth=0)


def _draw(axes: Axes, panel: Panel, quantity: Quantity, tables: dict[str, pd.DataFrame]) -> None:
    for setting in panel.settings:
        for place, column in enumerate(quantity.columns):
            table = part(tables[column], setting.number) if column in tables else None
            if table is None:
                continue
            gid = f"{column}/{setting.number}"
            marker = setting.marker if place == 0 else ""
            line(axes, table, setting.color, marker, DASHES[place], place == 0, gid)
    for at, _ in quantity.marks(panel):
        style.mark(axes, at, along="y")


def _crosses(
    axes: Axes, panel: Panel, column: str, tables: dict[str, pd.DataFrame], diverged: pd.DataFrame
) -> None:
    """A cross on each line where one of its trials has its last value; the others go on."""
    own = diverged[diverged[column].notna()] if column in tables else diverged[:0]
    ends = own.groupby(["setting", "trial_id"]).step.max().groupby("setting").unique()
    for setting in panel.settings:
        if setting.number in ends:
            at = tables[column].loc[setting.number].loc[ends[setting.number], "median"]
            axes.plot(at.index, at, "x", color=setting.color, markersize=7, markeredgewidth=1.5)


def _scale(stack: Sequence[Axes], tables: Sequence[pd.DataFrame], include: Sequence[float]) -> None:
    """A log axis where positive values differ tenfold; one that is linear around 0 where others differ much more.

    An axis that is to reach certain values is linear as long as nothing is a hundred times as far from 0 as they are;
    on a log axis it reaches those that are above 0.
    """
    values = np.concatenate([table[["low", "median", "high"]].to_numpy().ravel() for table in tables])
    values = values[np.isfinite(values)]
    sizes = np.abs(values[values != 0])
    usual = max(map(abs, include), default=0.0) or (float(np.median(sizes)) if len(sizes) else 1.0)
    far = len(sizes) > 0 and sizes.max() > 100 * usual
    logarithmic = len(sizes) > 0 and values.min() > 0 and (far if include else sizes.max() > 10 * sizes.min())
    reached = [at for at in include if at > 0 or not logarithmic]
    margin = 0.0 if logarithmic or not include else 0.03 * (max(include) - min(include))
    for axes in stack:
        if logarithmic:
            axes.set_yscale("log", nonpositive="mask")
        elif far:
            style.symlog_axis(axes, float(10 ** np.floor(np.log10(usual))))
        if reached:
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, min(reached) - margin), max(high, max(reached) + margin))
        if logarithmic:
            style.log_axis(axes)


def _handles(
    stored: Stored, given: Sequence[Quantity], tables: dict[str, pd.DataFrame], crosses: bool
) -> list[Line2D]:
    found = {}
    for _, setting in stored.groups:
        found[setting.label] = style.handle(setting.label or "_", setting.color, setting.marker)
    handles = list(found.values())
    for quantity in given:
        drawn = [column in tables for column in quantity.columns]
        for words, dash, there in zip(quantity.words, DASHES, drawn, strict=False):
            if there and sum(drawn) > 1 and words not in [handle.get_label() for handle in handles]:
                handles.append(style.handle(words, style.GREY, dash=dash))
    marks = [
        words for quantity in given for panel in stored.groups.panels for _, words in quantity.marks(panel)
    ]
    handles += [style.mark_handle(words) for words in dict.fromkeys(marks)]
    if crosses:
        handles.append(style.handle(DIVERGED, style.GREY, "x", "", markersize=7))
    return handles


def _divergence(diverged: pd.DataFrame) -> str:
    count = diverged.trial_id.nunique()
    if not count:
        return ""
    trials = "1 trial diverged; it is" if count == 1 else f"{count} trials diverged; they are"
    return f"{trials} in the lines up to the last value, where a cross stands; from there on a line is of the others."
