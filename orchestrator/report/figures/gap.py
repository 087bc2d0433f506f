"""Where the spectrum has its gap: λ_m/λ_{m+1} against m."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.figures.dimension import dimension_axis, draw_steps, some

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
FLOOR = 1e-10
"""Of the largest eigenvalue: what is below it is 0 to rounding, and no quotient."""


def figures(stored: Stored) -> Iterator[Figure]:
    """The quotient of neighbouring eigenvalues at some steps, a panel per setting."""
    groups = stored.groups
    cells = groups.cells()
    rows = gaps(groups.in_cells(stored.eigenvalues)).dropna(subset="gap")
    if rows.empty:
        return
    table = rows.groupby(["setting", "step", "index"]).gap.median().to_frame()
    steps = some(rows.step.unique())
    with style.styled():
        drawing, found = style.panels(len(cells))
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            draw_steps(axes, table, (setting.number,), steps, f"gap/{setting.number}")
            own = rows.loc[(rows.setting == setting.number) & rows.step.isin(steps), ["gap", "index"]]
            if len(own):
                if own.gap.max() > 30:
                    style.log_axis(axes)
                dimension_axis(axes, panel.classes, int(own["index"].max()))
        style.label_left(found, "$λ_m/λ_{m+1}$")
        style.legend(drawing, [*style.step_handles(steps), style.mark_handle(style.DIMENSIONS)])
    yield Figure(
        name="gap",
        title="Gap of the spectrum",
        caption="The quotient of neighbouring eigenvalues of the Hessian. The gap is where it is largest: with k classes it "
        f"is expected behind m = k − 1. Left out where the lower one is below {FLOOR:g} of the largest. Lines are medians "
        f"over seeds. {groups.cells_left_out}",
        code="from orchestrator.report.figures.gap import gaps\n"
        + code.code(
            stored,
            "eigenvalues",
            f"data = gaps(rows){code.grouped(stored, 'step', 'index').removeprefix('rows')}.gap.median()",
        ),
        drawing=drawing,
        rows=rows,
    )


def gaps(eigenvalues: pd.DataFrame) -> pd.DataFrame:
    """The rows of `results.eigenvalues` with λ_m/λ_{m+1} in `gap`; null at the last, and where λ_{m+1} is 0 to rounding.

    >>> rows = pd.DataFrame({"trial_id": "a", "step": 0, "index": [1, 2, 3, 4], "eigenvalue": [6.0, 2.0, 1.0, 1e-16]})
    >>> gaps(rows).gap.tolist()
    [3.0, 2.0, nan, nan]
    """
    by_moment = eigenvalues.groupby(["trial_id", "step"]).eigenvalue
    following = by_moment.shift(-1)
    above = following > FLOOR * by_moment.transform("first").abs()
    return eigenvalues.assign(gap=eigenvalues.eigenvalue / following.where(above))
