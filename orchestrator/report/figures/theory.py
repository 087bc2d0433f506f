"""The solvable model: measured eigenvalues on the levels that theory gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure, Table
from orchestrator.report.grouping import group, part
from orchestrator.report.solvable import Model, beside_theory, levels_of, model_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored
    from orchestrator.report.grouping import Groups
    from workers.solvable_model import Level

COLUMNS = ()
ROUNDING = 1e-16
"""Errors are drawn no smaller than this: float64 has none."""

LINE = 0.075
"""Height of a line of words, of that of the axes."""


def figures(stored: Stored) -> Iterator[Figure | Table]:
    """Eigenvalues on their levels, the relative error of each level, and the last step in numbers."""
    rows = beside_theory(stored.eigenvalues)
    if rows.empty:
        return
    groups = group(stored.trials[stored.trials.trial_id.isin(rows.trial_id)])
    rows = groups.drawn(rows)
    found = {setting.number: model_of(setting.fields) for _, setting in groups}
    models = {number: model for number, model in found.items() if model is not None}
    each = code.grouped(stored, "step", "index").removeprefix("rows")
    imported = "from orchestrator.report.solvable import beside_theory\n"
    yield Figure(
        name="theory",
        title="Solvable model: eigenvalues and theory",
        caption="Dots: the measured eigenvalues of the Hessian, medians over seeds. Lines: the levels of softmax regression "
        "on orthonormal means without noise, trained by gradient descent from zero (arXiv:1812.04754, section 4), with how "
        f"many eigenvectors share each at the last step. {_zeros(rows)} {groups.cells_left_out}".rstrip(),
        code=imported
        + code.code(
            stored, "eigenvalues", f'data = beside_theory(rows){each}[["eigenvalue", "theory"]].median()'
        ),
        drawing=_spectra(groups, rows, models),
        rows=rows,
    )
    levels = code.grouped(stored, "step", "level").removeprefix("rows")
    yield Figure(
        name="theory-error",
        title="Solvable model: relative error",
        caption="|λ − theory|/theory, the largest of the eigenvalues of a level and of all seeds, matched by rank; level 1 "
        f"is the largest eigenvalue's. Errors below {ROUNDING:g}, the rounding of float64, are drawn there. "
        f"{groups.cells_left_out}".rstrip(),
        code=imported
        + code.code(
            stored,
            "eigenvalues",
            'rows = beside_theory(rows).query("theory > 0")',
            "error = (rows.eigenvalue / rows.theory - 1).abs()",
            f"data = rows.assign(error=error.clip(lower={ROUNDING:g})){levels}.error.max()",
        ),
        drawing=_errors(groups, rows, models),
        rows=rows,
    )
    yield Table(
        name="theory-table",
        title="Solvable model: the last step",
        caption="“Found” counts the measured eigenvalues that lie nearer to this level than to any other or to 0; with "
        "K below k(k − 1) the last level cannot be complete. “Measured” is their median, the relative error the largest.",
        code=imported
        + code.code(
            stored,
            "eigenvalues",
            "rows = beside_theory(rows)",
            'data = rows[rows.step == rows.groupby("trial_id").step.transform("max")]',
        ),
        frame=_table(rows, models),
        rows=rows,
    )


def _zeros(rows: pd.DataFrame) -> str:
    """What became of the eigenvalues that theory says are zero, and have no place on a log axis."""
    zero = rows[rows.level == 0]
    if zero.empty:
        return ""
    return f"The eigenvalues measured beyond them are zero in theory and {zero.eigenvalue.abs().max():.0e} at most."


def _title(model: Model, label: str) -> str:
    return f"k = {model.classes}, {'with' if model.bias else 'no'} bias {label}".rstrip()


def _panels(groups: Groups, models: Mapping[int, Model]) -> tuple[Any, list[tuple[int, Model, Axes]]]:
    known = sorted(groups.cells(), key=lambda cell: models[cell[2].number])
    cells = [(setting.number, _title(models[setting.number], setting.label)) for _, _, setting in known]
    drawing, found = style.panels(len(cells), height=2.3)
    for (_, title), (axes,) in zip(cells, found, strict=True):
        style.title(axes, title)
    return drawing, [(number, models[number], own[0]) for (number, _), own in zip(cells, found, strict=True)]


def _spectra(groups: Groups, rows: pd.DataFrame, models: Mapping[int, Model]) -> Any:
    table = rows.groupby(["setting", "step", "index"])[["eigenvalue", "theory"]].median().reset_index("index")
    levels = rows[rows.level > 0].groupby(["setting", "level", "step"]).theory.first().to_frame()
    count = max(int(rows.level.max()), 1)
    with style.styled():
        drawing, panels = _panels(groups, models)
        for number, model, axes in panels:
            points = table.loc[number]
            for level, color in enumerate(style.colors(count), 1):
                own = part(levels, number, level)
                if own is None:
                    continue
                axes.plot(
                    own.index,
                    own.theory,
                    color=color,
                    linewidth=3,
                    alpha=0.45,
                    zorder=1,
                    gid=f"theory/{number}/{level}",
                )
            axes.plot(
                points.index,
                points.eigenvalue,
                ".",
                color=style.BLACK,
                markersize=2.5,
                gid=f"eigenvalue/{number}",
            )
            axes.set_yscale("log", nonpositive="mask")
            lowest = points.theory[points.theory > 0].min()
            axes.set_ylim(lowest / 3, 3 * points.eigenvalue.max())
            style.log_axis(axes)
            _multiplicities(axes, levels_of(model, int(points.index.max())), style.colors(count))
            style.step_axis(axes, points.index.unique().to_numpy())
        style.label_left([[axes] for _, _, axes in panels], "eigenvalue", 2.3)
        style.legend(
            drawing,
            [
                style.handle("measured", style.BLACK, ".", ""),
                style.handle("theory, × multiplicity", style.BLUE, linewidth=3, alpha=0.45),
            ],
        )
    return drawing


def _multiplicities(axes: Axes, levels: Sequence[Level], colors: Sequence[str]) -> None:
    """How many share each level, beside its line's end, or as far below as the words above it need."""
    low, high = np.log(axes.get_ylim())
    above = np.inf
    for level, color in zip(levels, colors, strict=False):
        above = min((np.log(level.value) - low) / (high - low), above - LINE)
        axes.annotate(
            f"×{level.multiplicity}",
            (1, above),
            xycoords="axes fraction",
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=color,
        )


def _errors(groups: Groups, rows: pd.DataFrame, models: Mapping[int, Model]) -> Any:
    rows = rows[rows.theory > 0]
    error = (rows.eigenvalue / rows.theory - 1).abs().clip(lower=ROUNDING)
    table = rows.assign(error=error).groupby(["setting", "level", "step"]).error.max().to_frame()
    count = max(int(rows.level.max()), 1)
    with style.styled():
        drawing, panels = _panels(groups, models)
        for number, _, axes in panels:
            for level, color in enumerate(style.colors(count), 1):
                own = part(table, number, level)
                if own is not None:
                    marker = style.MARKERS[(level - 1) % len(style.MARKERS)]
                    axes.plot(own.index, own.error, color=color, marker=marker, gid=f"error/{number}/{level}")
            axes.set_ylim(min(ROUNDING, table.error.min()) / 3, 3 * max(table.error.max(), 1e-12))
            style.log_axis(axes)
            style.step_axis(axes, rows.step.unique())
        style.label_left([[axes] for _, _, axes in panels], "relative error", 2.3)
        handles = [
            style.handle(f"level {level}", color, style.MARKERS[(level - 1) % len(style.MARKERS)])
            for level, color in enumerate(style.colors(count), 1)
        ]
        style.legend(drawing, handles)
    return drawing


def _table(rows: pd.DataFrame, models: Mapping[int, Model]) -> pd.DataFrame:
    lines = []
    for number, model in sorted(models.items(), key=lambda item: item[1]):
        own = rows[rows.setting == number]
        own = own[own.step == own.step.max()]
        step = int(own.step.iloc[0])
        levels = levels_of(model, step)
        values = np.array([*(level.value for level in levels), 0.0])
        nearest = np.abs(own.eigenvalue.to_numpy()[:, None] - values).argmin(axis=1) + 1
        pairs = int(own["index"].max())
        for at, level in enumerate(levels, 1):
            ranked = own[own.level == at]
            each = pd.Series(nearest == at).groupby(own.trial_id.to_numpy()).sum()
            lines.append(
                {
                    "k": model.classes,
                    "bias": "yes" if model.bias else "no",
                    "learning rate": model.learning_rate,
                    "step": step,
                    "K": pairs,
                    "level": at,
                    "multiplicity": level.multiplicity,
                    "found": " or ".join(str(n) for n in sorted(set(each.tolist()))),
                    "theory": level.value,
                    "measured": ranked.eigenvalue.median(),
                    "largest relative error": (ranked.eigenvalue / level.value - 1).abs().max(),
                }
            )
    return pd.DataFrame(lines)
