"""SGD and its parts within and outside the top subspace, from the switch on (Song, Ahn, Yun, arXiv:2405.16002)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.by_step import line
from orchestrator.report.figure import Figure, Table
from orchestrator.report.grouping import Groups, group, part, quantiles
from orchestrator.report.options import complete, without
from workers.spec import spec_columns

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ("switch_average",)
LOOKS = {
    "full": ("SGD", style.BLACK, "o"),
    "dominant": ("dominant: top k only", style.VERMILION, "s"),
    "bulk": ("bulk: all but the top k", style.BLUE, "^"),
}
"""Name, colour and marker of each branch."""


def figures(stored: Stored) -> Iterator[Figure | Table]:
    """The training loss of the three branches against steps from the switch, and what it was there and at the end."""
    if not stored.has("switch_step", "train_loss"):
        return
    rows = aligned(stored.measurements)
    if rows.empty:
        return
    groups = group(without(stored.trials[stored.trials.trial_id.isin(rows.trial_id)], "optimizer", "update"))
    rows = groups.drawn(rows)
    imported = "from orchestrator.report.figures.branches import aligned\n"
    keys = code.grouped(stored, "branch", "x").removeprefix("rows")
    never = stored.measurements.query("optimizer == 'projected'").trial_id.nunique() - rows.trial_id.nunique()
    trials = (
        "1 trial that never came to a switch is"
        if never == 1
        else f"{never} trials that never came to a switch are"
    )
    left = f"{trials} left out." if never else ""
    every = int(rows.every.iloc[0])
    rounded = (
        f"Steps are rounded down to multiples of {every}: seeds switch at different steps."
        if every > 1
        else ""
    )
    yield Figure(
        name="branches",
        title="Dominant and bulk SGD: training loss",
        caption="Up to the switch, 0, the three are the same SGD; from there SGD goes on, or only its part in the top k "
        "eigenvectors (dominant), or only the rest (bulk) moves the parameters. arXiv:2405.16002 finds that the dominant "
        f"branch stops learning and the bulk branch learns as SGD does. {groups.band_words} "
        + " ".join(words for words in (rounded, left, groups.cells_left_out) if words),
        code=imported
        + code.code(
            stored,
            "measurements",
            "rows = aligned(rows)",
            f"data = rows[rows.shared]{keys}.train_loss{code.spread(stored)}",
        ),
        drawing=_draw(groups, rows[rows.shared]),
        rows=rows,
    )
    yield Table(
        name="branches-table",
        title="Dominant and bulk SGD: loss at the switch and at the end",
        caption="Medians over seeds; the ratio is loss at the end over loss at the switch of one trial; the latter is "
        f"the last measured up to it. {left}".rstrip(),
        code=imported
        + code.code(
            stored,
            "measurements",
            "rows = aligned(rows)",
            "before = rows[rows.step <= rows.switch].groupby('trial_id').train_loss.last()",
            "data = rows.groupby(['branch', 'trial_id']).train_loss.last().to_frame('end').join(before.rename('before'))",
        ),
        frame=_table(groups, rows),
        rows=rows,
    )


def aligned(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows with a training loss of trials that switched, by step, with columns that put them beside each other.

    `branch`; `switch`, the trial's step of it; `x`, steps from there, rounded down to multiples of `every`, the usual
    distance of measurements, where trials switch at different steps; `shared`: whether the other trials that differ in
    seed and branch only, have rows as early and as late as this x. A median over others would jump where one begins.

    >>> trial = {"trial_id": "a", "optimizer": "projected", "optimizer_options": '{"update": "bulk"}', "seed": 0}
    >>> rows = {"step": [0, 5, 9], "train_loss": [2.0, 1.0, 0.5], "switch_step": [None, None, 6.0]}
    >>> aligned(pd.DataFrame(trial | rows))[["branch", "switch", "x", "shared"]].to_numpy().tolist()
    [['bulk', 6, -6, True], ['bulk', 6, -1, True], ['bulk', 6, 3, True]]
    """
    rows = measurements[measurements.optimizer == "projected"]
    rows = rows.assign(switch=rows.groupby("trial_id").switch_step.transform("max"))
    rows = rows[rows.switch.notna() & rows.train_loss.notna()].astype({"switch": int})
    rows = rows.sort_values(["trial_id", "step"])
    branches = {
        row["trial_id"]: complete({str(name): v for name, v in row.items()}, "optimizer")["update"]
        for row in rows.drop_duplicates("trial_id").to_dict("records")
    }
    distance = rows.groupby("trial_id").step.diff().median()  # null where each has one row
    every = max(1, int(distance)) if rows.switch.nunique() > 1 and distance > 0 else 1
    rows = rows.assign(
        branch=rows.trial_id.map(branches), every=every, x=(rows.step - rows.switch) // every * every
    )
    same = [name for name in spec_columns() if name in rows and name not in ("seed", "measure")]
    setting = without(rows, "optimizer", "update").groupby(same, dropna=False).ngroup()
    ends = (
        rows.groupby([setting, "trial_id"])
        .x.agg(["min", "max"])
        .groupby(level=0)
        .agg({"min": "max", "max": "min"})
    )
    return rows.assign(shared=(rows.x >= setting.map(ends["min"])) & (rows.x <= setting.map(ends["max"])))


def _draw(groups: Groups, rows: pd.DataFrame) -> Any:
    table = quantiles(rows, "train_loss", ["setting", "branch", "x"], groups.band)
    cells = groups.cells()
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.6)
        for (title, _, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            for branch, (_, color, marker) in LOOKS.items():
                own = part(table, setting.number, branch)
                if own is not None:
                    line(axes, own, color, marker, gid=f"train_loss/{setting.number}/{branch}")
            style.log_axis(axes)
            style.mark(axes, 0)
            axes.set_xlabel("steps from the switch")
        style.label_left(found, "training loss", 2.6)
        present = [look for branch, look in LOOKS.items() if branch in set(rows.branch)]
        style.legend(drawing, [style.handle(*look) for look in present])
    return drawing


def _table(groups: Groups, rows: pd.DataFrame) -> pd.DataFrame:
    names = {setting.number: title for title, _, setting in groups.cells()}
    before = rows[rows.step <= rows.switch].groupby("trial_id").train_loss.last()
    trials = rows.groupby("trial_id").last().assign(before=before)
    trials = trials.assign(ratio=trials.train_loss / trials.before)
    lines = []
    for number, name in names.items():
        for branch in LOOKS:
            own = trials[(trials.setting == number) & (trials.branch == branch)]
            if len(own):
                lines.append(
                    {
                        "trials of": name,
                        "branch": branch,
                        "seeds": own.seed.nunique(),
                        "switch at step": " to ".join(
                            str(n) for n in sorted({own.switch.min(), own.switch.max()})
                        ),
                        "last step": int(own.step.max()),
                        "loss at the switch": own.before.median(),
                        "loss at the end": own.train_loss.median(),
                        "ratio": own.ratio.median(),
                        "lowest ratio": own.ratio.min(),
                        "highest ratio": own.ratio.max(),
                    }
                )
    return pd.DataFrame(lines)
