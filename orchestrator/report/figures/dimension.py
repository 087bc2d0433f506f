"""What depends on where the top subspace is cut: f_m and the overlap of subspaces against the dimension m."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import MOST_PANELS, part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored

COLUMNS = ()
MOST_STEPS = 6


def figures(stored: Stored) -> Iterator[Figure]:
    """f_m at some steps, and the overlap with each earlier step; k − 1 and k are marked."""
    yield from _gradient(stored)
    yield from _overlap(stored)


def _gradient(stored: Stored) -> Iterator[Figure]:
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.eigenvalues).dropna(subset="gradient_overlap")
    if rows["index"].nunique() < 2:
        return
    rows = rows.assign(f_m=rows.groupby(["trial_id", "step"]).gradient_overlap.cumsum())
    table = rows.groupby(["setting", "step", "index"]).f_m.median().to_frame()
    steps = some(rows.step.unique())
    with style.styled():
        drawing, found = style.panels(len(cells))
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            draw_steps(axes, table, (setting.number,), steps, f"f_m/{setting.number}")
            axes.set_ylim(-0.03, 1.03)
            dimension_axis(axes, panel.classes, _widest(rows, setting.number))
        style.label_left(found, "$f_m$")
        style.legend(drawing, [*style.step_handles(steps), style.mark_handle(style.DIMENSIONS)])
    aggregated = f"{code.grouped(stored, 'step', 'index').removeprefix('rows')}.f_m.median()"
    cumulated = 'rows.groupby(["trial_id", "step"]).gradient_overlap.cumsum()'
    yield Figure(
        name="f-m",
        title="Gradient in the first m eigenvectors",
        caption="f_m = Σ (vᵢᵀg)²/‖g‖², i ≤ m; f_top is its value at m = k, the number of classes. Lines are medians over "
        f"seeds. {groups.cells_left_out}",
        code=code.code(stored, "eigenvalues", f"data = rows.assign(f_m={cumulated}){aggregated}"),
        drawing=drawing,
        rows=rows,
    )


def _overlap(stored: Stored) -> Iterator[Figure]:
    groups = stored.groups
    rows = groups.drawn(stored.subspace_overlaps).explode("by_dimension").astype({"by_dimension": float})
    rows = rows[rows.by_dimension.notna()]
    rows = rows.assign(dimension=rows.groupby(["trial_id", "since", "step"]).cumcount() + 1)
    if rows.dimension.nunique() < 2:
        return
    table = rows.groupby(["setting", "since", "step", "dimension"]).by_dimension.median().to_frame()
    starts = {number: sorted(own.since.unique().tolist()) for number, own in rows.groupby("setting")}
    every = [(*cell, start) for cell in groups.cells() for start in starts.get(cell[2].number, [])]
    cells, steps = every[:MOST_PANELS], some(rows.step.unique())
    with style.styled():
        drawing, found = style.panels(len(cells))
        for (title, panel, setting, start), (axes,) in zip(cells, found, strict=True):
            style.title(axes, f"{title}, since step {start}")
            later = [step for step in steps if step >= start]
            gid = f"by_dimension/{setting.number}/{start}"
            draw_steps(axes, table, (setting.number, start), later, gid, steps)
            axes.set_ylim(-0.03, 1.03)
            dimension_axis(axes, panel.classes, _widest(rows, setting.number, "dimension"))
        style.label_left(found, "overlap of the first m")
        style.legend(drawing, [*style.step_handles(steps), style.mark_handle(style.DIMENSIONS)])
    cut = f"The first {MOST_PANELS} of {len(every)} panels are drawn." if len(every) > MOST_PANELS else ""
    drawn = rows[rows.setting.isin({setting.number for _, _, setting, _ in cells})]
    yield Figure(
        name="overlap-by-dimension",
        title="Overlap of subspaces against their dimension",
        caption="(1/m)‖V₁ᵀV₂‖² of the first m eigenvectors at the earlier step and later: 1 where both span the same space, "
        "m/p by chance. It is robust where the spectrum has a gap behind λₘ, as expected at m = k − 1. Lines are medians "
        f"over seeds. {groups.left_out} {cut}",
        code=code.code(
            stored,
            "subspace_overlaps",
            'rows = rows.explode("by_dimension").astype({"by_dimension": float}).dropna(subset="by_dimension")',
            'dimension = rows.groupby(["trial_id", "since", "step"]).cumcount() + 1',
            "data = rows.assign(dimension=dimension)"
            f"{code.grouped(stored, 'since', 'step', 'dimension').removeprefix('rows')}.by_dimension.median()",
        ),
        drawing=drawing,
        rows=drawn,
    )


def some(steps: Sequence[int] | np.ndarray, most: int = MOST_STEPS) -> list[int]:
    """At most `most` of the steps, the first and the last among them, evenly spread in their order.

    >>> some([0, 1, 2, 5, 10, 20, 50], most=4)
    [0, 2, 10, 50]
    """
    found = sorted({int(step) for step in steps})
    places = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[place] for place in places]


def draw_steps(
    axes: Axes,
    table: pd.DataFrame,
    key: tuple[int, ...],
    steps: Sequence[int],
    gid: str,
    colored: Sequence[int] | None = None,
) -> None:
    """A line of the one column of `table` for each of the steps; colours are those of `step_handles(colored)`."""
    looks = style.step_looks(colored or steps)
    for step in steps:
        own = part(table, *key, step)
        if own is not None:
            color, marker = looks[step]
            axes.plot(own.index, own.iloc[:, 0], color=color, marker=marker, gid=f"{gid}/{step}")


def dimension_axis(axes: Axes, classes: int | None, widest: int) -> None:
    """m along x, with k − 1 and k marked."""
    axes.set_xlabel("m")
    axes.set_xlim(0.5, widest + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    if classes is not None and 1 < classes <= widest + 1:
        style.mark(axes, classes - 1)
        style.mark(axes, classes)


def _widest(rows: pd.DataFrame, number: int, column: str = "index") -> int:
    own = rows.loc[rows.setting == number, column]
    return int(own.max()) if len(own) else 1
