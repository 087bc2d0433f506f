"""Table 1 of arXiv:1812.04754 beside the same trials of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.labels import labels
from orchestrator.report import code, style
from orchestrator.report.figure import Figure, Table
from orchestrator.report.lines import plain
from orchestrator.report.options import given
from orchestrator.report.reference import TABLE_1, titles
from workers.spec import spec_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from orchestrator.report.figure import Stored

COLUMNS = ()
LAST = 1000
"""Steps at the end of a trial over which the paper averages; of a shorter trial than twice that, its second half."""

CAPTION = (
    "Mean of gᵀHg/(‖g‖‖Hg‖) over the measurements within the last 1,000 steps of a trial, or its second half if that is "
    "shorter, then mean, lowest and highest "
    "over seeds, beside table 1 of arXiv:1812.04754. The paper trains “a few epochs” and gives few settings; nothing here "
    "was tuned to agree with it. “Data” is what the trials used, whatever the paper's. Only completed trials count."
)


def figures(stored: Stored) -> Iterator[Figure | Table]:
    """The table and a dot for each of its numbers, where a trial is one of the paper's experiments."""
    if not stored.has("hessian_gradient_overlap"):
        return
    completed = stored.trials.trial_id[stored.trials.status == "completed"]
    rows = stored.measurements
    rows = rows[rows.trial_id.isin(completed)]
    last = rows.groupby("trial_id").step.transform("max")
    late = rows[rows.step >= last - (last / 2).clip(upper=LAST)]
    late = late.assign(case=titles(late)).dropna(subset=["case", "hessian_gradient_overlap"])
    if late.empty:
        return
    lines = code.code(
        stored,
        "measurements",
        f"rows = rows[rows.trial_id.isin({code.read(stored, 'trials')}.query(\"status == 'completed'\").trial_id)]",
        f'late = rows[rows.step >= rows.groupby("trial_id").step.transform(lambda s: s.max() - min(s.max() / 2, {LAST}))]',
        'data = late.assign(case=titles(late)).groupby(["case", "trial_id"]).hessian_gradient_overlap.mean()',
    )
    table = _table(late)
    with style.styled():
        drawing = _dots(table)
    lines = f"from orchestrator.report.reference import titles\n{lines}"
    both: dict[str, Any] = {"title": "Table 1 of the paper", "caption": CAPTION, "code": lines, "rows": late}
    yield Table(name="table-1", frame=table, **both)
    yield Figure(name="table-1-dots", drawing=drawing, **both | {"title": "Table 1 of the paper, drawn"})


def _table(late: pd.DataFrame) -> pd.DataFrame:
    """A row for each experiment and each setting in which we made it, in the paper's order."""
    setting = [name for name in spec_columns() if name in late and name not in ("seed", "measure")]
    trials = late.groupby(["case", *setting, "seed", "trial_id"], dropna=False)
    means = trials.agg(
        ours=("hessian_gradient_overlap", "mean"), first=("step", "min"), last=("step", "max")
    ).reset_index()
    lines = []
    for reference in TABLE_1:
        own = means[means.case == reference.title]
        groups = [group for _, group in own.groupby(setting, dropna=False, sort=False)]
        for words, group in zip(
            _words([group[setting].iloc[0].to_dict() for group in groups]), groups, strict=True
        ):
            lines.append(
                {
                    "experiment": reference.title,
                    "data": words[0],
                    "settings": words[1],
                    "seeds": group.seed.nunique(),
                    "steps": f"{group['first'].min()} to {group['last'].max()}",
                    "paper": reference.paper,
                    "ours": group.ours.mean(),
                    "lowest": group.ours.min(),
                    "highest": group.ours.max(),
                    "difference": group.ours.mean() - reference.paper,
                }
            )
    found = pd.DataFrame(lines)
    return found if found.settings.any() else found.drop(columns="settings")


def _words(rows: list[dict[Any, Any]]) -> list[tuple[str, str]]:
    """The data set of each, with its options but the labels, and what else tells those of one experiment apart."""
    data = []
    for row in rows:
        options = {name: value for name, value in given(row, "dataset").items() if name != "labels"}
        texts = [f"{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in options.items()]
        data.append(" ".join([row["dataset"], *texts]))
    apart = ("architecture", "dataset", "dataset_options")
    others = [{name: value for name, value in plain(row).items() if name not in apart} for row in rows]
    return list(zip(data, labels(others) if len(set(data)) < len(data) else [""] * len(data), strict=True))


def _dots(table: pd.DataFrame) -> Drawing:
    """The paper's value and ours on a line for each row of the table."""
    drawing, [[axes]] = style.panels(1, height=0.6 + 0.36 * len(table))
    drawing.set_figwidth(style.PAGE)
    places = list(range(len(table)))
    axes.hlines(places, table.lowest, table.highest, color=style.BLUE, linewidth=2.5, alpha=0.35)
    axes.plot(table.ours, places, "o", color=style.BLUE, markersize=5, gid="ours")
    axes.plot(table.paper, places, "D", color=style.VERMILION, markersize=5, fillstyle="none", gid="paper")
    names = (
        table.experiment
        + "\n(ours: "
        + table["data"]
        + (", " + table.settings if "settings" in table else "")
        + ")"
    )
    axes.set_yticks(places, [name.replace(", )", ")") for name in names])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(None, 1.0 + 0.02 * (1.0 - min(0.9, table[["lowest", "paper"]].min().min())))
    axes.set_xlabel("overlap of g and Hg, mean over the last steps")
    seeds = "ours: mean over seeds, and their range" if (table.seeds > 1).any() else "ours"
    paper, ours = (
        style.handle("paper", style.VERMILION, "D", "", markersize=5, fillstyle="none"),
        style.handle(seeds, style.BLUE, "o", "", markersize=5),
    )
    style.legend(drawing, [paper, ours])
    return drawing
