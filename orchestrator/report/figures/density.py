"""The whole spectrum: the density of eigenvalues from the stored quadrature nodes and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.figures.dimension import some
from orchestrator.report.grouping import part
from orchestrator.report.quadrature import curves

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
MOST_STEPS = 4


def figures(stored: Stored) -> Iterator[Figure]:
    """A curve for each of some steps, a panel per setting."""
    if not stored.has("density_nodes", "density_weights"):
        return
    groups = stored.groups
    cells = groups.cells()
    rows = groups.drawn(stored.measurements)
    rows = rows[rows.setting.isin([setting.number for _, _, setting in cells]) & rows.density_nodes.notna()]
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
            lowest = np.inf
            for step in steps:
                own = part(table, setting.number, step)
                if own is not None:
                    gid = f"density/{setting.number}/{step}"
                    axes.plot(own.eigenvalue, own.density, color=looks[step][0], gid=gid)
                    lowest = min(
                        lowest,
                        0.1 * own.density.max()
                        if panel.parameters is None
                        else own.single.iloc[0] / panel.parameters / 10,
                    )
            if np.isfinite(lowest):
                axes.set_yscale("log", nonpositive="mask")
                axes.set_ylim(lowest, None)
                style.log_axis(axes)
            axes.set_xlabel("eigenvalue\n(loss per squared parameter)")
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
        trials=rows.trial_id.nunique(),
        seeds=rows.seed.nunique(),
    )
