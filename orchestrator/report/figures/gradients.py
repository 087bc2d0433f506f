"""The full gradient beside the mini-batch's and the actual update, in the top subspace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report import code, style
from orchestrator.report.by_step import line
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import part, quantiles

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ("f_top", "f_top_batch", "f_top_update")
WORDS = dict(zip(COLUMNS, ("full gradient", "mini-batch gradient", "update"), strict=True))
LOOKS = {
    "f_top": (style.BLUE, "o", "-"),
    "f_top_batch": (style.ORANGE, "s", "-"),
    "f_top_update": (style.BLACK, "", ":"),  # on the line of the batch for plain SGD, and must not hide it
}


def figures(stored: Stored) -> Iterator[Figure]:
    """f_top, f_top_batch and f_top_update by step, a panel per setting."""
    groups = stored.groups
    columns = [column for column in COLUMNS if stored.has(column)]
    cells = groups.cells()
    rows = groups.in_cells(stored.measurements)
    rows = rows[rows[columns].notna().any(axis=1)]
    if len(columns) < 2 or rows.empty:
        return
    tables = {column: quantiles(rows, column, ["setting", "step"], groups.band) for column in columns}
    with style.styled():
        drawing, found = style.panels(len(cells))
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            for column, table in tables.items():
                own = part(table, setting.number)
                if own is not None:
                    gid, band = f"{column}/{setting.number}", column != "f_top_update"
                    line(axes, own, *LOOKS[column], band=band, gid=gid)
            if panel.chance is not None:
                style.mark(axes, panel.chance, along="y")
            axes.set_ylim(-0.03, 1.03)
            style.step_axis(axes, rows.step.unique())
        style.label_left(found, "share in the top subspace")
        handles = [style.handle(WORDS[column], *LOOKS[column]) for column in columns]
        handles += [style.mark_handle(style.CHANCE)] if any(panel.chance for _, panel, _ in cells) else []
        style.legend(drawing, handles)
    aggregated = f"{code.grouped(stored, 'step')}{code.chosen(columns)}{code.spread(stored)}"
    yield Figure(
        name="f-top-batch-update",
        title="Full gradient, mini-batch gradient and update in the top subspace",
        caption=f"Share ‖P x‖²/‖x‖² in the top k eigenvectors of the Hessian, of x = ∇L on the measurement set, of the "
        f"gradient of the step's mini-batch, and of the step's actual update. {groups.band_words} "
        f"{groups.cells_left_out}",
        code=code.code(stored, "measurements", f"data = {aggregated}"),
        drawing=drawing,
        rows=rows,
    )
