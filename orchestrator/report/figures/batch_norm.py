"""Outliers with batch statistics and with population statistics (Ghorbani, Krishnan, Xiao, arXiv:1901.10159)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.by_step import line
from orchestrator.report.figure import Figure
from orchestrator.report.figures.density import density_axes
from orchestrator.report.figures.eigenvalues import log_axis
from orchestrator.report.grouping import Groups, group, part, quantiles
from orchestrator.report.quadrature import curves

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
LOOKS = {
    "eval": ("population statistics (eval)", style.BLUE, "o"),
    "train": ("batch statistics (train)", style.VERMILION, "s"),
}
"""Name, colour and marker of each mode."""

EXPECTED = (
    "Measurements see batch norm with population statistics (eval) or with those of a batch (train); training is the same. "
    "arXiv:1901.10159 finds that outliers nearly vanish with batch statistics and return with population statistics; "
    "architectures without batch norm have one line."
)


def figures(stored: Stored) -> Iterator[Figure]:
    """Densities, or eigenvalues where there are none, of both modes, and how far λ₁ stands off by step."""
    if stored.trials.batch_norm.nunique() < 2:
        return
    groups = group(stored.trials.assign(batch_norm="eval"))
    rows, pairs = groups.in_cells(stored.measurements), groups.in_cells(stored.eigenvalues)
    rows = rows.dropna(subset="density_nodes") if stored.has("density_nodes") else rows[:0]
    if rows.batch_norm.nunique() == len(LOOKS):
        yield _densities(stored, groups, rows)
    elif pairs.batch_norm.nunique() == len(LOOKS):
        yield _eigenvalues(stored, groups, pairs)
    if pairs.batch_norm.nunique() == len(LOOKS):
        yield from _ratio(stored, groups, pairs)


def _densities(stored: Stored, groups: Groups, rows: pd.DataFrame) -> Figure:
    rows = rows[rows.step == rows.groupby("trial_id").step.transform("max")]
    table = curves(rows, ["setting", "batch_norm"])

    def draw(axes: Any, number: int, parameters: int | None) -> None:
        shown = {mode: curve for mode in LOOKS if (curve := part(table, number, mode)) is not None}
        for mode, curve in shown.items():
            axes.plot(curve.eigenvalue, curve.density, color=LOOKS[mode][1], gid=f"density/{number}/{mode}")
        density_axes(axes, list(shown.values()), parameters)

    return Figure(
        name="batch-norm",
        title="Batch norm: spectral density in both modes",
        caption=f"φ(λ) = (1/p) Σ δ(λ − λᵢ) by stochastic Lanczos quadrature, smoothed, at the last step that has it. "
        f"{EXPECTED} {groups.cells_left_out}".rstrip(),
        code="from orchestrator.report.quadrature import curves\n"
        + code.code(
            stored,
            "measurements",
            'rows = rows.dropna(subset="density_nodes")',
            'rows = rows[rows.step == rows.groupby("trial_id").step.transform("max")]',
            f"data = curves(rows, {code.keys(stored, *_mode(stored))})",
        ),
        drawing=_cells(groups, draw, "density", markers=False),
        rows=rows,
    )


def _eigenvalues(stored: Stored, groups: Groups, rows: pd.DataFrame) -> Figure:
    rows = rows[rows.step == rows.groupby("trial_id").step.transform("max")]
    table = quantiles(rows, "eigenvalue", ["setting", "batch_norm", "index"], groups.band)

    def draw(axes: Any, number: int, _: int | None) -> None:
        _lines(axes, table, number, "eigenvalue")
        log_axis(axes, table.to_numpy().T)
        axes.set_xlabel("index")

    return Figure(
        name="batch-norm",
        title="Batch norm: eigenvalues in both modes",
        caption=f"The largest eigenvalues of the Hessian at the last step where they were measured. {EXPECTED} "
        f"{groups.band_words} {groups.cells_left_out}".rstrip(),
        code=code.code(
            stored,
            "eigenvalues",
            'rows = rows[rows.step == rows.groupby("trial_id").step.transform("max")]',
            f"data = {code.grouped(stored, *_mode(stored), 'index')}.eigenvalue{code.spread(stored)}",
        ),
        drawing=_cells(groups, draw, "eigenvalue (loss per squared parameter)"),
        rows=rows,
    )


def _ratio(stored: Stored, groups: Groups, rows: pd.DataFrame) -> Iterator[Figure]:
    pairs = int(rows.groupby(["trial_id", "step"])["index"].max().min())
    if pairs < 2:
        return
    at = rows[rows["index"].isin([1, pairs])].pivot(
        index=["setting", "batch_norm", "trial_id", "step"], columns="index", values="eigenvalue"
    )
    at = at[at[pairs] > 0]
    if at.empty:
        return
    table = quantiles(
        (at[1] / at[pairs]).rename("ratio").reset_index(),
        "ratio",
        ["setting", "batch_norm", "step"],
        groups.band,
    )

    def draw(axes: Any, number: int, _: int | None) -> None:
        _lines(axes, table, number, "ratio")
        if table.high.max() > 10:
            style.log_axis(axes)
        style.step_axis(axes, rows.step.unique())

    yield Figure(
        name="batch-norm-ratio",
        title="Batch norm: how far outliers stand off",
        caption=f"λ₁/λ_K, with K = {pairs}, the number of eigenvalues that all measurements have; left out where λ_K is "
        f"not above 0. {EXPECTED} {groups.band_words} {groups.cells_left_out}".rstrip(),
        code=code.code(
            stored,
            "eigenvalues",
            f'at = rows[rows["index"].isin([1, {pairs}])].pivot(columns="index", values="eigenvalue", '
            f"index={code.keys(stored, *_mode(stored), 'trial_id', 'step')})",
            f"ratio = (at[1] / at[{pairs}])[at[{pairs}] > 0].rename('ratio').reset_index()",
            f"data = ratio{code.grouped(stored, *_mode(stored), 'step').removeprefix('rows')}.ratio{code.spread(stored)}",
        ),
        drawing=_cells(groups, draw, f"$λ_1/λ_{{{pairs}}}$"),
        rows=rows,
    )


def _lines(axes: Any, table: pd.DataFrame, number: int, name: str) -> None:
    """A line with its band for each mode."""
    for mode, (_, color, marker) in LOOKS.items():
        own = part(table, number, mode)
        if own is not None:
            line(axes, own, color, marker, gid=f"{name}/{number}/{mode}")


def _mode(stored: Stored) -> list[str]:
    """The column to group by beside the keys, where it is not among them."""
    return [] if "batch_norm" in stored.groups.keys else ["batch_norm"]


def _cells(groups: Groups, draw: Any, label: str, markers: bool = True) -> Any:
    """A panel for each setting, drawn by `draw(axes, number, p)`."""
    cells = groups.cells()
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.4)
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            draw(axes, setting.number, panel.parameters)
        style.label_left(found, label, 2.4)
        style.legend(
            drawing,
            [style.handle(name, color, marker if markers else "") for name, color, marker in LOOKS.values()],
        )
    return drawing
