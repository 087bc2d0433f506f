"""How figures look: sizes at which 8 points are 8 points in print, and colours that colour-blind people tell apart.

A drawing is a `matplotlib.figure.Figure` of its own; nothing here touches pyplot or its state. One panel is a column
wide, 3.5 inches, several are a page wide, 7 inches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN, PAGE = 3.5, 7.0
"""Widths in inches."""

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#777777",
)  # fmt: skip
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
"""Of Okabe and Ito ("Color universal design", 2008), with grey instead of yellow, which vanishes on white."""

LEGEND_LINE = 0.17
"""Height of a line of a legend in inches."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.minor.pad": 5,  # so that labels of minor ticks, which are shorter, stand as low as the others
    "ytick.minor.pad": 5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "legend.frameon": False,
    "svg.hashsalt": "tiny-subspace",
    "svg.fonttype": "path",
}


def colors(count: int, ordered: bool = False) -> list[str]:
    """As many different colours; ordered from dark to light where the lines are, or where there are many.

    >>> colors(2)
    ['#0072B2', '#D55E00']
    >>> len(set(colors(30, ordered=True)))
    30
    """
    if count <= len(PALETTE) and not ordered:
        return list(PALETTE[:count])
    scale = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(scale(at)) for at in np.linspace(0.0, 0.88, count)]  # beyond, too pale on white


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib's settings within, those of before afterwards."""
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    with mpl.rc_context(defaults | SETTINGS):
        yield


def panels(count: int, rows: int = 1, height: float = 2.2) -> tuple[Drawing, list[list[Axes]]]:
    """A drawing with `count` panels of `rows` axes each, one above the other with a common x-axis.

    `height` is that of one of the axes, in inches. The second value has a list of `rows` axes for each panel.
    """
    across = count if count <= 3 else 2 if count == 4 else 3
    down = -(-count // across)
    width = COLUMN if count == 1 else PAGE
    drawing = Drawing(figsize=(width, down * (rows * height + 0.5)), layout="constrained")
    grid = drawing.subplots(down * rows, across, squeeze=False)
    found = []
    for at in range(down * across):
        own = [grid[at // across * rows + row][at % across] for row in range(rows)]
        if at >= count:
            for axes in own:
                axes.remove()
            continue
        for axes in own[1:]:
            axes.sharex(own[0])
        for axes in own[:-1]:
            axes.tick_params(which="both", labelbottom=False)
        found.append(own)
    return drawing, found


def title(axes: Axes, text: str) -> None:
    """A panel's title, on as many lines as its width needs."""
    drawing = axes.figure.get_figure(root=True)
    assert drawing is not None
    across = axes.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    characters = int(drawing.get_figwidth() / across * 12)  # of 8 points, and room for the y-axis
    axes.set_title("\n".join(textwrap.wrap(text, characters, break_on_hyphens=False)), loc="left")


def y_label(axes: Axes, text: str, height: float) -> None:
    """A name for the y-axis of an axes of so many inches, on as many lines as it needs."""
    axes.set_ylabel("\n".join(textwrap.wrap(text, int(height * 13.5))))


def step_axis(axes: Axes, steps: Sequence[int] | np.ndarray) -> None:
    """Steps along x: evenly, or where they were measured more and more rarely, so that 0, 1, 2, 5, … stay apart.

    It reaches from the first of the steps to the last that is drawn. Even ticks are set for good: those that change
    with the width of the axes are cut off at its end.
    """
    found = np.unique(np.asarray(steps))
    drawn = max(other.dataLim.x1 for other in axes.get_shared_x_axes().get_siblings(axes))
    first, last = float(found[0]), float(drawn if np.isfinite(drawn) else found[-1])
    margin = 0.02 * (last - first) or 0.5
    axes.set_xlabel("step")
    if len(found) < 3 or 3 * (found[1] - found[0]) >= (found[-1] - found[0]) / (len(found) - 1):
        across = axes.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
        ticks = MaxNLocator(4 if across > 2 else 6, steps=[1, 2, 2.5, 5, 10], integer=True)
        axes.set_xticks([at for at in ticks.tick_values(first, last + 1e-9) if first <= at <= last])
        axes.set_xlim(first - margin, last + margin)
    else:
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        few = last <= 100 * max(first, 1)
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        if few:
            axes.xaxis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[2.0, 5.0]))
            axes.xaxis.set_minor_formatter(FuncFormatter(plain))
        axes.set_xlim(first - 0.1 if first == 0 else first / 1.1, last * 1.1)


def log_axis(axes: Axes) -> None:
    """A logarithmic y-axis, on which what is not positive has no place; 2 and 5 are named where it is short."""
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    short = high < 200 * low
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_locator(
        LogLocator(base=10, subs=[2.0, 5.0], numticks=12) if short else NullLocator()
    )
    axes.yaxis.set_minor_formatter(FuncFormatter(plain))


def symlog_axis(axes: Axes, linear: float) -> None:
    """A y-axis that is logarithmic beyond ±`linear`, from 0 where nothing is below, with a handful of ticks."""
    negative = axes.dataLim.y0 < 0
    decades = np.log10(max(np.abs(axes.dataLim.intervaly).max() / linear, 10))
    axes.set_yscale(
        "symlog", linthresh=linear, linscale=max(1, decades / 4)
    )  # room for 0 beside the first power
    if not negative:
        axes.set_ylim(-0.05 * linear, None)
    locator = SymmetricalLogLocator(base=10, linthresh=linear)
    locator.set_params(numticks=5)
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def plain(value: float, _: object = None) -> str:
    """A number as people write it, and as a power of ten where that would be long.

    >>> plain(0.02), plain(2000.0), plain(1e-12)
    ('0.02', '2000', '$10^{-12}$')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    factor = value / 10.0**exponent
    return (f"${factor:.3g}·" if abs(factor - 1) > 1e-6 else "$") + f"10^{{{exponent}}}$"


CHANCE = "chance k/p"
DIMENSIONS = "m = k − 1 and k"


def mark(axes: Axes, place: float, along: str = "x") -> None:
    """A thin reference line across the axes at `place` of x or of y; `mark_handle` names it in the legend."""
    draw = axes.axvline if along == "x" else axes.axhline
    draw(place, color="#444444", linewidth=0.9, linestyle=":", zorder=1)


def legend(drawing: Drawing, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, below them, for which the drawing grows; none for lines without a name."""
    named = [
        handle for handle in handles if not str(handle.get_label()).startswith("_") and handle.get_label()
    ]
    if not named:
        return
    lengths = [len(str(handle.get_label())) + 6 for handle in named]
    characters = drawing.get_figwidth() * 15.5
    room = len(named) if sum(lengths) <= characters else characters / max(lengths)
    across = max(1, min(len(named), int(room)))
    drawing.set_figheight(drawing.get_figheight() + LEGEND_LINE * -(-len(named) // across))
    drawing.legend(
        handles=named,
        loc="outside lower center",
        ncols=across,
        handlelength=2.2,
        columnspacing=1.2,
    )


def label_left(found: Sequence[Sequence[Axes]], text: str, height: float = 2.2) -> None:
    """A name for the y-axis, on the panels at the left; `height` as in `panels`."""
    for own in found:
        for axes in own:
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                y_label(axes, text, height)


def step_looks(steps: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Colour and marker of each step, where steps are what tells lines apart."""
    shades = colors(len(steps), ordered=True)
    return {step: (shades[at], MARKERS[at % len(MARKERS)]) for at, step in enumerate(steps)}


def step_handles(steps: Sequence[int], words: str = "step", markers: bool = True) -> list[Line2D]:
    """The legend of `step_looks`."""
    return [
        handle(f"{words} {step}", color, marker if markers else "")
        for step, (color, marker) in step_looks(steps).items()
    ]


def handle(label: str, color: str, marker: str = "", dash: Any = "-", **more: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], color=color, marker=marker, linestyle=dash, label=label, **more)


def mark_handle(label: str) -> Line2D:
    """The legend of `mark`."""
    return handle(label, "#444444", dash=":", linewidth=0.9)
