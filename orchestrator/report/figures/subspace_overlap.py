"""How long the top subspace of an early step lasts: figure 2 of arXiv:1812.04754."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report import code, style
from orchestrator.report.by_step import line
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import part, quantiles

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
BY = ["setting", "since", "step"]


def figures(stored: Stored) -> Iterator[Figure]:
    """The overlap of the top k with those of each start, by step; dashed the next k, the control."""
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.subspace_overlaps).dropna(subset="top")
    if rows.empty:
        return
    starts = sorted(rows.since.unique().tolist())
    looks = style.step_looks(starts)
    top, following = (quantiles(rows, column, BY, groups.band) for column in ("top", "next"))
    with style.styled():
        drawing, found = style.panels(len(cells))
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            for start in starts:
                for name, table, dash in (("top", top, "-"), ("next", following, "--")):
                    own = part(table, setting.number, start)
                    if own is not None:
                        gid = f"{name}/{setting.number}/{start}"
                        line(axes, own, *looks[start], dash, gid=gid)
            if panel.chance is not None:
                style.mark(axes, panel.chance, along="y")
            axes.set_ylim(-0.03, 1.03)
            style.step_axis(axes, [*starts, *rows.step.unique()])
        style.label_left(found, "subspace overlap")
        handles = [*style.step_handles(starts, "since step"), style.handle("top k", style.GREY)]
        handles += [style.handle("next k", style.GREY, dash="--")] if len(following) else []
        handles += [style.mark_handle(style.CHANCE)] if any(panel.chance for _, panel, _ in cells) else []
        style.legend(drawing, handles)
    aggregated = f'{code.grouped(stored, "since", "step")}[["top", "next"]]{code.spread(stored)}'
    yield Figure(
        name="subspace-overlap",
        title="Overlap of the top subspace with that of an earlier step",
        caption="(1/k)‖V₁ᵀV₂‖² of the first k eigenvectors of the Hessian at the earlier step and now: 1 where both span "
        "the same space, k/p by chance. "
        + ("Dashed: the same of the eigenvectors k + 1 to 2k, the control. " if len(following) else "")
        + f"{groups.band_words} {groups.cells_left_out}",
        code=code.code(stored, "subspace_overlaps", f"data = {aggregated}"),
        drawing=drawing,
        rows=rows,
    )
