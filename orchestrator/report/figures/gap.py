"""Where the spectrum has its gap: λ_m/λ_{m+1} against m."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.figures.dimension import dimension_axis, draw_steps, some

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()


def figures(stored: Stored) -> Iterator[Figure]:
    """The quotient of neighbouring eigenvalues at some steps, a panel per setting."""
    groups = stored.groups
    cells = groups.cells()
    rows = groups.drawn(stored.eigenvalues)
    rows = rows[rows.setting.isin([setting.number for _, _, setting in cells])]
    following = rows.groupby(["trial_id", "step"]).eigenvalue.shift(-1)
    rows = rows.assign(gap=rows.eigenvalue / following.where(following > 0))
    rows = rows[rows.gap.notna()]
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
        "is expected behind m = k − 1. Left out where the lower one is not above 0. Lines are medians over seeds. "
        f"{groups.cells_left_out}",
        code=code.code(
            stored,
            "eigenvalues",
            'following = rows.groupby(["trial_id", "step"]).eigenvalue.shift(-1)',
            f"data = rows.assign(gap=rows.eigenvalue / following.where(following > 0))"
            f"{code.grouped(stored, 'step', 'index').removeprefix('rows')}.gap.median()",
        ),
        drawing=drawing,
        trials=rows.trial_id.nunique(),
        seeds=rows.seed.nunique(),
    )
