"""What the class and cross-class means of gradients explain of the outliers (Papyan, arXiv:2008.11865)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.report import code, style
from orchestrator.report.by_step import Quantity, by_step, chance
from orchestrator.report.figure import Figure
from orchestrator.report.figures.eigenvalues import log_axis
from orchestrator.report.grouping import part

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.report.figure import Stored

COLUMNS = ("class_mean_overlap", "cross_class_overlap")
LOOKS = {
    "eigenvalues": ("Hessian H", style.BLACK, "o"),
    "gauss_newton_eigenvalues": ("Gauss-Newton G", style.SKY, "s"),
    "class_mean_eigenvalues": ("class means", style.VERMILION, "^"),
    "cross_class_eigenvalues": ("cross-class means", style.GREEN, "v"),
}
"""Name, colour and marker of each column."""


def figures(stored: Stored) -> Iterator[Figure]:
    """The eigenvalues beside each other at the last step that has them all, and both overlaps by step."""
    yield from _eigenvalues(stored)
    yield from by_step(
        stored,
        name="class-means-overlap",
        title="Class means and the top subspace",
        caption="Share of the span of the k class means δ_c of gradients in the top k eigenvectors of the Hessian, and of "
        "the top k in the span of all cross-class means δ_cc′. Both are 1 where one space holds the other; by chance k/p "
        "and the dimension of the larger span over p.",
        quantities=[
            Quantity("class means in the top k", ("class_mean_overlap",), (), (0.0, 1.0), chance),
            Quantity("top k in cross-class means", ("cross_class_overlap",), (), (0.0, 1.0)),
        ],
    )


def long_form(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row for each number of these lists at the last step of each trial that has them all: `variable`, `index`, `value`.

    `index` counts from 1 within a list, but for the cross-class eigenvalues on from those of the class means: k class
    outliers are expected first.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"trial_id": ["a"], "step": [9], "eigenvalues": [[3.0, 1.0]]})
    >>> long_form(rows, ["eigenvalues"])[["variable", "index", "value"]].to_numpy().tolist()
    [['eigenvalues', 1, 3.0], ['eigenvalues', 2, 1.0]]
    """
    last = rows.dropna(subset=columns).sort_values("step").groupby("trial_id").tail(1)
    others = [name for name in last if name not in columns]
    long = last.melt(others, columns).explode("value").dropna(subset="value").astype({"value": float})
    index = long.groupby(["trial_id", "variable"]).cumcount() + 1
    if "cross_class_eigenvalues" in columns:
        before = last.set_index("trial_id").class_mean_eigenvalues.map(len)
        index += long.trial_id.map(before) * (long.variable == "cross_class_eigenvalues")
    return long.assign(index=index)


def _eigenvalues(stored: Stored) -> Iterator[Figure]:
    columns = [name for name in LOOKS if stored.has(name)]
    if not {"class_mean_eigenvalues", "cross_class_eigenvalues", "eigenvalues"} <= set(columns):
        return
    groups = stored.groups
    cells = groups.cells()
    rows = long_form(groups.in_cells(stored.measurements).dropna(subset=columns), columns)
    if rows.empty:
        return
    table = rows.groupby(["setting", "variable", "index"]).value.median().to_frame()
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.6)
        for (title, panel, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            own = part(table, setting.number)
            if own is None:
                continue
            for column in columns:
                if column in own.index.get_level_values(0):
                    _, color, marker = LOOKS[column]
                    line = own.loc[column].value
                    whole = column != "gauss_newton_eigenvalues"  # which lie on those of H, and around them
                    axes.plot(line.index, line, color=color, marker=marker, linewidth=0.7, markersize=3 if whole else 5.5,
                              fillstyle="full" if whole else "none", gid=f"{column}/{setting.number}")  # fmt: skip
            log_axis(axes, own.to_numpy().T)
            if panel.classes is not None:
                style.mark(axes, panel.classes + 0.5)
            axes.set_xlabel("index")
            axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        style.label_left(found, "eigenvalue (loss per squared parameter)", 2.6)
        style.legend(drawing, [style.handle(*LOOKS[column]) for column in columns])
    steps = np.unique(rows.step)
    when = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    yield Figure(
        name="class-means",
        title="Outliers and the means that make them",
        caption="The largest eigenvalues of the Hessian and, where measured, of its Gauss-Newton part, beside the k of the "
        "class means of gradients and the k(k − 2) of the cross-class means about them, drawn from index k + 1 on; "
        f"the dotted line stands behind k. At {when}. What is not above 0 has no place on a log axis. Medians over seeds. "
        f"{groups.cells_left_out}".rstrip(),
        code="from orchestrator.report.figures.class_means import long_form\n"
        + code.code(
            stored,
            "measurements",
            f"rows = long_form(rows, {json.dumps(columns)})",
            f"data = {code.grouped(stored, 'variable', 'index')}.value.median()",
        ),
        drawing=drawing,
        rows=rows,
    )
