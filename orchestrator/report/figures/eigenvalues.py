"""The largest eigenvalues of the Hessian by step, the top k set off from the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.figures.gap import FLOOR
from orchestrator.report.grouping import part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored

COLUMNS = ()
TOP, LAST, REST = (style.BLUE, 1.1), (style.VERMILION, 1.3), ("#9a9a9a", 0.7)


def figures(stored: Stored) -> Iterator[Figure]:
    """Medians over seeds of λ₁ … λ_K, a line each, a panel per setting."""
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.eigenvalues).dropna(subset="eigenvalue")
    if rows["index"].nunique() < 2:
        return
    table = rows.groupby(["setting", "step", "index"]).eigenvalue.median().unstack("index")
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.4)
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            own = part(table, setting.number)
            if own is None:
                continue
            for index in reversed(own.columns):
                color, width = look(int(index), panel.classes)
                axes.plot(own.index, own[index], color=color, linewidth=width, marker=".", markersize=2.5,
                          gid=f"eigenvalue/{setting.number}/{index}")  # fmt: skip
            log_axis(axes, own.to_numpy())
            style.step_axis(axes, rows.step.unique())
        style.label_left(found, "eigenvalue (loss per squared parameter)")
        names = {"$λ_1$ to $λ_{k-1}$": TOP, "$λ_k$": LAST, "$λ_{k+1}$ and after": REST}
        style.legend(drawing, [style.handle(name, color) for name, (color, _) in names.items()])
    aggregated = f'{code.grouped(stored, "step", "index")}.eigenvalue.median().unstack("index")'
    yield Figure(
        name="eigenvalues",
        title="Largest eigenvalues of the Hessian",
        caption="λ₁ ≥ λ₂ ≥ … by value, k being the number of classes; the gap is expected behind λₖ₋₁. What is not "
        f"above 0, or below {FLOOR:g} of the largest, has no place on a log axis. Lines are medians over seeds. "
        f"{groups.cells_left_out}",
        code=code.code(stored, "eigenvalues", f"data = {aggregated}"),
        drawing=drawing,
        rows=rows,
    )


def look(index: int, classes: int | None) -> tuple[str, float]:
    """Colour and width of the line of λ_index."""
    if classes is None or index < classes:
        return TOP
    return LAST if index == classes else REST


def log_axis(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where anything is positive, down to what is above FLOOR of the largest in its row of `values`."""
    positive = np.where(np.isfinite(values) & (values > 0), values, 0.0)
    if positive.any():
        axes.set_yscale("log", nonpositive="mask")
        lowest = positive[positive > FLOOR * positive.max(axis=1, keepdims=True)].min()
        if positive[positive > 0].min() < lowest:
            axes.set_ylim(lowest / 2, None)
        style.log_axis(axes)
