"""Searches: the best value so far against the number of trials, and which parameters it depends on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import MOST_PANELS
from orchestrator.search_record import distribution
from orchestrator.search_table import asked, headings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from orchestrator.report.figure import Stored

COLUMNS = ()
TRIALS = "trials asked for"
LARGEST = 12
"""Parameters of which the importance is shown."""

FAR = 3.0
"""Distances between the quartiles by which a value lies beyond the worse one and is far out: no axis reaches there."""

LOOKS = {"completed": (style.BLUE, "o"), "pruned": (style.GREY, "x"), "best so far": (style.VERMILION, "")}


def figures(stored: Stored) -> Iterator[Figure]:
    """History and importance; nothing where no trial of a search has completed."""
    rows = stored.searched
    about = headings(stored.path)
    keys = [
        key for key in about if (rows.search == key).any() and rows[rows.search == key].best.notna().any()
    ]
    if keys:
        keys = keys[:MOST_PANELS]
        yield _history(stored, rows, {key: about[key] for key in keys})
        yield from _importance(stored, rows, {key: about[key] for key in keys})


def _history(stored: Stored, rows: pd.DataFrame, about: dict[str, Any]) -> Figure:
    drawn = rows[rows.search.isin(about)]
    out = 0
    lost = drawn.status.isin(["diverged", "failed"]).sum()
    with style.styled():
        drawing, found = style.panels(len(about))
        for (key, heading), (axes,) in zip(about.items(), found, strict=True):
            own = drawn[drawn.search == key].reset_index(drop=True)
            style.title(axes, heading["name"])
            out += draw_history(axes, key, own, heading["direction"])
            axes.set_xlabel(TRIALS)
            axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        metrics = dict.fromkeys(heading["metric"].replace("_", " ") for heading in about.values())
        style.label_left(found, ", ".join(metrics))
        shown = [name for name in LOOKS if name == "best so far" or (drawn.status == name).any()]
        style.legend(drawing, [_handle(name) for name in shown])
    first = next(iter(about.values()))
    also = (
        f"Trials that diverged count as the worst and are not drawn, nor are failed ones ({lost}). "
        if lost
        else ""
    )
    if out:
        also += f"Triangles at the edge are {out} values so far off that they would flatten the rest."
    return Figure(
        name="search-history",
        title=f"Search: {first['direction']} {first['metric']}",
        caption=f"The last value of {first['metric']} in each trial, in the order in which they were asked for, "
        "and the best of the completed ones so far. Pruned trials (crosses) are at the value at which they were stopped. "
        + also,
        code=code.code(stored, "searched", 'data = rows.set_index(["search", "number"])[["value", "best"]]'),
        drawing=drawing,
        rows=_trials(stored, drawn),
    )


def draw_history(axes: Axes, key: str, own: pd.DataFrame, direction: str) -> int:
    """The values of one search, and the best so far; how many are so far out that they lie on the edge."""
    least = direction == "minimize"
    worse = pd.Series.gt if least else pd.Series.lt
    edge, out = fence(own.value, least), 0
    far = worse(own.value, edge)
    for status in ("completed", "pruned"):
        color, marker = LOOKS[status]
        some = own[(own.status == status) & own.value.notna()]
        there, gone = some[~far[some.index]], some[far[some.index]]
        axes.plot(there.index + 1, there.value, marker, color=color, gid=f"{status}/{key}")
        axes.plot(
            gone.index + 1,
            [float(least)] * len(gone),
            "^" if least else "v",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            color=color,
            gid=f"far out, {status}/{key}",
        )
        out += len(gone)
    best = own.best.ffill()
    axes.step(
        own.index + 1,
        best.mask(worse(best, edge)),
        where="post",
        color=LOOKS["best so far"][0],
        gid=f"best/{key}",
    )
    _scale(axes, own.value[~far])
    return out


def _handle(name: str) -> Any:
    color, marker = LOOKS[name]
    return style.handle(name, color, marker, "" if marker else "-")


def _scale(axes: Axes, values: pd.Series[float]) -> None:
    """A logarithmic axis where the values are positive and differ tenfold."""
    if _tenfold(values):
        style.log_axis(axes)


def _tenfold(values: pd.Series[float]) -> bool:
    return bool(values.min() > 0 and values.max() > 10 * values.min())


def fence(values: pd.Series[float], least: bool) -> float:
    """The worst value that is drawn in its place, ±∞ where all are: the worse quartile and FAR distances between both.

    Of values that differ tenfold the logarithms are meant. `least` says whether small values are good.

    >>> fence(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]), least=True), fence(pd.Series([1.0]), least=False)
    (12.25, -inf)
    """
    finite = values[np.isfinite(values)]
    logarithms, sign = _tenfold(finite), 1.0 if least else -1.0
    scaled = sign * (finite.map(math.log) if logarithms else finite)
    low, high = scaled.quantile(0.25), scaled.quantile(0.75)
    if not high > low:
        return sign * math.inf
    edge = sign * (high + FAR * (high - low))
    return math.exp(edge) if logarithms else float(edge)


def _importance(stored: Stored, rows: pd.DataFrame, about: dict[str, Any]) -> Iterator[Figure]:
    from orchestrator.search import importances  # with it optuna

    found = {}
    for key, heading in about.items():
        done = rows[(rows.search == key) & (rows.status == "completed") & rows.value.map(math.isfinite)]
        space = {name: distribution(one) for name, one in heading["parameters"].items()}
        given = {one["trial_id"]: one["parameters"] for one in asked(stored.path, key)}
        trials = [(given[trial_id], value) for trial_id, value in zip(done.trial_id, done.value, strict=True)]
        found[key] = importances(space, trials, heading["direction"])
    found = {key: shares for key, shares in found.items() if shares}
    if not found:
        return
    most = min(LARGEST, max(map(len, found.values())))
    with style.styled():
        drawing, panels = style.panels(len(found), height=0.5 + 0.2 * most)
        for (key, shares), (axes,) in zip(found.items(), panels, strict=True):
            names = list(shares)[:LARGEST]
            style.title(axes, about[key]["name"])
            axes.barh(names, [shares[name] for name in names], color=style.BLUE, gid=f"importance/{key}")
            axes.invert_yaxis()
            axes.set_xlim(0, 1)
            axes.set_xlabel("share of importance")
            axes.grid(visible=False, axis="y")
    drawn = rows[rows.search.isin(found) & (rows.status == "completed")]
    yield Figure(
        name="search-importance",
        title="What the search depends on",
        caption="How far the values of a parameter in the best tenth of the completed trials are from those in all, as a "
        "share of the sum (PED-ANOVA, arXiv:2304.10255 and, for options that only some choices have, 2601.20800). It tells "
        "what decided between the trials that were tried, and is rough below a hundred of them.",
        code=code.code(stored, "searched", 'data = rows[rows.status == "completed"].drop(columns="best")'),
        drawing=drawing,
        rows=_trials(stored, drawn),
    )


def _trials(stored: Stored, rows: pd.DataFrame) -> pd.DataFrame:
    return stored.trials.loc[stored.trials.trial_id.isin(rows.trial_id), ["trial_id", "seed"]]
