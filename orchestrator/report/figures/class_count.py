"""Where the gap lies, against the number of classes: behind k − 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure, Table
from orchestrator.report.figures.gap import FLOOR, gaps
from orchestrator.report.grouping import group
from orchestrator.report.options import without

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
APART = 0.5
"""How far the points of one k are spread along the axis, so that those of several seeds are seen."""


def figures(stored: Stored) -> Iterator[Figure | Table]:
    """The index of the largest gap of each trial against its k, and how many are where they should be."""
    if stored.trials.classes.nunique() < 2:
        return
    found = largest_gaps(stored.eigenvalues, stored.trials)
    groups = group(_as_one(stored.trials))
    found = groups.drawn(found.reset_index()).sort_values(["setting", "classes", "seed"])
    if found.classes.nunique() < 2:
        return
    counts = sorted(found.classes.unique().tolist())
    with style.styled():
        drawing, panels = style.panels(len(groups.panels), height=2.6)
        for panel, (axes,) in zip(groups.panels, panels, strict=True):
            style.title(axes, panel.title)
            axes.plot(
                counts,
                [k - 1 for k in counts],
                color=style.GREY,
                linewidth=1,
                zorder=1,
                gid=f"k-1/{panel.title}",
            )
            for at, setting in enumerate(panel.settings):
                own = found[found.setting == setting.number]
                share = own.groupby("classes").cumcount() * len(panel.settings) + at + 0.5
                most = own.classes.value_counts().max()
                axes.plot(
                    own.classes + APART * (share / (most * len(panel.settings)) - 0.5),
                    own["index"],
                    linestyle="",
                    marker=setting.marker,
                    color=setting.color,
                    markersize=4.5,
                    alpha=0.8,
                    gid=f"gap/{setting.number}",
                )
            axes.set_xlabel("number of classes k")
            axes.set_xticks(counts)
            axes.set_ylim(0, max(max(counts), int(found["index"].max())) + 0.5)
            axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        style.label_left(panels, "m of the largest $λ_m/λ_{m+1}$", 2.6)
        handles = {
            setting.label: style.handle(setting.label or "a trial", setting.color, setting.marker, "")
            for _, setting in groups
        }
        style.legend(drawing, [style.handle("k − 1", style.GREY), *handles.values()])
    lines = "from orchestrator.report.figures.class_count import largest_gaps\n" + code.code(
        stored, "eigenvalues", f"data = largest_gaps(rows, {code.read(stored, 'trials')})"
    )
    right = int((found["index"] == found.classes - 1).sum())
    looked = sorted(found["pairs"].unique().tolist())
    extent = f"{looked[0]}" if len(looked) == 1 else f"{looked[0]} to {looked[-1]}, by trial,"
    yield Figure(
        name="class-count",
        title="The gap against the number of classes",
        caption=f"The m at which λₘ/λₘ₊₁ is largest, at the last step measured of each trial, among the {extent} "
        f"largest eigenvalues, which were stored, as far as they are above {FLOOR:g} of the largest. Points are trials; "
        f"those of one k are spread sideways. Expected is k − 1, the line: so it is in {right} of {len(found)} trials. "
        f"{groups.left_out}",
        drawing=drawing,
        code=lines,
        rows=found,
    )
    yield Table(
        name="class-count-table",
        title="Which gaps are where they should be",
        caption="“At k − 1” counts trials. “Gap” is the largest λₘ/λₘ₊₁, “gap at k − 1” the one there, as medians; "
        "exceptions name each trial's seed and its m.",
        frame=_table(found, {setting.number: _name(panel.title, setting.label) for panel, setting in groups}),
        code=lines,
        rows=found,
    )


def _as_one(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` without their numbers of classes, and of samples where that only follows from it."""
    merged = without(trials, "dataset", "classes", "samples")
    kept = without(trials, "dataset", "classes")
    several = kept.dataset_options.groupby([merged.dataset, merged.dataset_options, trials.classes]).nunique()
    return merged if several.max() == 1 else kept


def largest_gaps(eigenvalues: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The largest gap of each trial at its last step: `index` m, `gap` λ_m/λ_{m+1}, `pairs` K, `classes` k, `expected`.

    Looked for is m from 1 to K − 1 where `gaps` has a quotient. `expected` is the gap at k − 1; null where it is beyond.
    One row a trial, indexed by trial_id; trials with no gap and those of fewer than two classes (regressions) have none.

    >>> values = pd.DataFrame({"trial_id": "a", "step": 9, "index": [1, 2, 3], "eigenvalue": [6.0, 5.0, 1.0]})
    >>> found = largest_gaps(values, pd.DataFrame({"trial_id": ["a"], "classes": [3], "seed": [0]}))
    >>> found[["index", "gap", "classes"]].iloc[0].tolist()
    [2.0, 5.0, 3.0]
    """
    last = eigenvalues[eigenvalues.step == eigenvalues.groupby("trial_id").step.transform("max")]
    last = gaps(last.sort_values(["trial_id", "index"]))
    known = trials[trials.classes >= 2].set_index("trial_id").classes
    last = last.assign(
        pairs=last.groupby("trial_id")["index"].transform("size"), classes=last.trial_id.map(known)
    )
    last = last[np.isfinite(last.gap) & last.classes.notna()].astype({"classes": int})
    expected = last[last["index"] == last.classes - 1].set_index("trial_id").gap
    largest = last.loc[last.groupby("trial_id").gap.idxmax()].set_index("trial_id")
    seeds = trials.set_index("trial_id").seed.reindex(largest.index)
    columns = ["index", "gap", "pairs", "classes"]
    found: pd.DataFrame = largest[columns].assign(expected=expected.reindex(largest.index), seed=seeds)
    return found


def _table(found: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    lines = []
    each = [
        (name, own)
        for number, name in names.items()
        for _, own in found[found.setting == number].groupby("classes")
    ]
    for name, own in each:
        classes = int(own.classes.iloc[0])
        exceptions = own[own["index"] != classes - 1]
        lines.append(
            {
                "trials of": name,
                "k": classes,
                "trials": len(own),
                "at k − 1": len(own) - len(exceptions),
                "gap": own.gap.median(),
                "gap at k − 1": own.expected.median(),
                "exceptions": "; ".join(
                    f"seed {seed}: m = {m}"
                    for seed, m in zip(exceptions.seed, exceptions["index"], strict=True)
                ),
            }
        )
    return pd.DataFrame(lines)


def _name(panel: str, line: str) -> str:
    return f"{panel} {line}".strip()
