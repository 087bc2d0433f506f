"""Which eigenvectors hold the gradient: `gradient_overlaps` by step and index, as a heat map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored

COLUMNS = ()
MOST_TICKS = 4


def figures(stored: Stored) -> Iterator[Figure]:
    """Medians over seeds of (vᵢᵀg)²/‖g‖², a panel per setting."""
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.eigenvalues).dropna(subset="gradient_overlap")
    if rows["index"].nunique() < 2:
        return
    table = rows.groupby(["setting", "index", "step"]).gradient_overlap.median().unstack("step")
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.4)
        mesh, highest = None, float(np.nanmax(table.to_numpy()))
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            own = part(table, setting.number)
            if own is None:
                continue
            own = own.dropna(axis=1, how="all")
            places = np.arange(len(own.columns) + 1) - 0.5
            edges = np.append(own.index.to_numpy() - 0.5, own.index.max() + 0.5)
            mesh = axes.pcolormesh(
                places, edges, own.to_numpy(), vmin=0.0, vmax=highest, cmap="viridis", rasterized=True
            )
            mesh.set_gid(f"gradient_overlap/{setting.number}")
            axes.grid(False)
            axes.invert_yaxis()
            axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
            _ticks(axes, [int(step) for step in own.columns])
            if panel.classes is not None and panel.classes <= own.index.max():
                axes.axhline(panel.classes + 0.5, color=style.ORANGE, linewidth=1, linestyle="--")
        style.label_left(found, "index i of the eigenvector")
        if mesh is not None:
            drawing.colorbar(
                mesh, ax=[axes for own in found for axes in own], label="(vᵢᵀg)²/‖g‖²", aspect=40
            )
    aggregated = f'{code.grouped(stored, "index", "step")}.gradient_overlap.median().unstack("step")'
    yield Figure(
        name="gradient-overlaps",
        title="Which eigenvectors hold the gradient",
        caption="(vᵢᵀg)²/‖g‖² of the gradient g with each eigenvector of the Hessian, the largest on top; a column "
        "for each step measured, not to scale. The dashed line is below the k-th. A random vector has 1/p in each. "
        f"Medians over seeds. {groups.cells_left_out}",
        code=code.code(stored, "eigenvalues", f"data = {aggregated}"),
        drawing=drawing,
        rows=rows,
    )


def _ticks(axes: Axes, steps: list[int]) -> None:
    """Some of the steps, the first and the last among them."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(MOST_TICKS, len(steps))).round().astype(int))
    axes.set_xticks(places, [str(steps[place]) for place in places])
    axes.set_xlabel("step")
