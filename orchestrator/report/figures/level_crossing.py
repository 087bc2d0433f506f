"""Noise in the solvable model: f_top falls where the gradient's eigenvector sinks into the bulk, its overlap with Hg not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.by_step import line
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import Groups, group, part, quantiles
from orchestrator.report.options import complete, without

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ("f_top", "hessian_gradient_overlap")
LABELS = ("gradient in the top k", "overlap of g and Hg")


def figures(stored: Stored) -> Iterator[Figure]:
    """Both by step, a line for each noise: a figure for each architecture, a panel for each k and kind of means."""
    rows = stored.measurements
    rows = rows[rows.dataset == "gaussians"]
    columns = [name for name in COLUMNS if name in rows and rows[name].notna().any()]
    noises = {row["trial_id"]: _noise(row) for row in rows.drop_duplicates("trial_id").to_dict("records")}
    rows = rows.assign(noise=rows.trial_id.map(noises))
    if len(columns) < len(COLUMNS) or rows.noise.nunique() < 2:
        return
    architectures = list(rows.groupby(["architecture", "architecture_options"], sort=True))
    for at, (_, own) in enumerate(architectures, 1):
        trials = stored.trials[stored.trials.trial_id.isin(own.trial_id)]
        groups = group(without(trials, "dataset", "noise"))
        drawn = groups.in_cells(own)
        yield Figure(
            name="level-crossing" + (f"-{at}" if len(architectures) > 1 else ""),
            title=f"Level crossing: {_architecture(own)} on Gaussians",
            caption="Fraction of the gradient in the top k eigenvectors, and gᵀHg/(‖g‖‖Hg‖), for each noise σ. The gradient "
            "may lie on the smallest of the outliers; where that sinks below λₖ the fraction in a fixed k falls to 0 while "
            f"the gradient is as much an eigenvector as before. {groups.band_words} {groups.cells_left_out}".rstrip(),
            code=code.code(
                stored,
                "measurements",
                'rows = rows[rows.dataset == "gaussians"]',
                f"data = {code.grouped(stored, 'step')}{code.chosen(COLUMNS)}{code.spread(stored)}",
            ),
            drawing=_draw(groups, drawn),
            rows=drawn,
        )


def _data(row: Mapping[str, Any]) -> tuple[str, int]:
    options = complete(row, "dataset")
    return options["means"], options["classes"]


def _noise(row: Mapping[Any, Any]) -> float:
    return float(complete({str(name): value for name, value in row.items()}, "dataset")["noise"])


def _architecture(rows: pd.DataFrame) -> str:
    options = complete({str(name): value for name, value in rows.iloc[0].items()}, "architecture")
    words = [
        str(rows.architecture.iloc[0]),
        *(f"{name}={json.dumps(value)}" for name, value in options.items()),
    ]
    return " ".join(words)


def _draw(groups: Groups, rows: pd.DataFrame) -> Any:
    shades = sorted(rows.noise.unique().tolist())
    colors = dict(zip(shades, style.colors(len(shades), ordered=True), strict=True))
    markers = dict(zip(shades, style.MARKERS * len(shades), strict=False))
    tables = {name: quantiles(rows, name, ["setting", "noise", "step"], groups.band) for name in COLUMNS}
    cells = sorted(groups.cells(), key=lambda cell: _data(cell[2].fields))
    with style.styled():
        drawing, found = style.panels(len(cells), 2, 1.35)
        for (_, _, setting), own in zip(cells, found, strict=True):
            means, classes = _data(setting.fields)
            style.title(own[0], f"k = {classes}, {means} means {setting.label}".rstrip())
            for axes, (name, table), label in zip(own, tables.items(), LABELS, strict=True):
                for noise in shades:
                    each = part(table, setting.number, noise)
                    if each is not None:
                        gid = f"{name}/{setting.number}/{noise:g}"
                        line(axes, each, colors[noise], markers[noise], gid=gid)
                axes.set_ylim(-0.03, 1.03)
                if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                    style.y_label(axes, label, 1.35)
            style.step_axis(own[-1], rows.step.unique())
        style.legend(
            drawing, [style.handle(f"σ = {noise:g}", colors[noise], markers[noise]) for noise in shades]
        )
    return drawing
