"""The whole spectrum: the density of eigenvalues from the stored quadrature nodes and weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.figures.dimension import some
from orchestrator.report.grouping import part
from orchestrator.report.quadrature import curves

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored

COLUMNS = ()
MOST_STEPS = 4


def figures(stored: Stored) -> Iterator[Figure]:
    """A curve for each of some steps, a panel per setting."""
    if not stored.has("density_nodes", "density_weights"):
        return
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.measurements).dropna(subset="density_nodes")
    if rows.empty:
        return
    steps = some(rows.step.unique(), MOST_STEPS)
    rows = rows[rows.step.isin(steps)]
    table = curves(rows, ["setting", "step"])
    with style.styled():
        drawing, found = style.panels(len(cells))
        looks = style.step_looks(steps)
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            shown = {step: own for step in steps if (own := part(table, setting.number, step)) is not None}
            for step, own in shown.items():
                gid = f"density/{setting.number}/{step}"
                axes.plot(own.eigenvalue, own.density, color=looks[step][0], gid=gid)
            density_axes(axes, list(shown.values()), panel.parameters)
        style.label_left(found, "density")
        style.legend(drawing, style.step_handles(steps, markers=False))
    yield Figure(
        name="spectral-density",
        title="Spectral density of the Hessian",
        caption="φ(λ) = (1/p) Σ δ(λ − λᵢ), by stochastic Lanczos quadrature, each node as a Gaussian, its width the range "
        "of nodes divided by their number; the mean over probes and seeds. The axis ends at a tenth of the peak that a "
        f"single one of the p eigenvalues makes. {groups.cells_left_out}",
        code="from orchestrator.report.quadrature import curves\n"
        + code.code(
            stored,
            "measurements",
            f'data = curves(rows.dropna(subset="density_nodes"), {code.keys(stored, "step")})',
        ),
        drawing=drawing,
        rows=rows,
    )


def density_axes(axes: Axes, shown: Sequence[pd.DataFrame], parameters: int | None) -> None:
    """A log axis down to a tenth of the peak of one in p eigenvalues; where p is not known, of the highest peak."""
    floors = [
        0.1 * (own.density.max() if parameters is None else own.single.iloc[0] / parameters) for own in shown
    ]
    if floors:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(min(floors), None)
        style.log_axis(axes)
    axes.set_xlabel("eigenvalue\n(loss per squared parameter)")
