"""Drawings as files: SVG and PNG, the same to the byte for the same numbers."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from orchestrator.report.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def head(drawing: Drawing, text: str) -> None:
    """A line at the upper left, so that a picture that goes its own way still says what it is of."""
    drawing.suptitle(text, x=0.01, ha="left", color="#555555", fontsize=8)


def settle(drawing: Drawing) -> None:
    """Lay the drawing out for good: it need not be done again for each format, which is most of the work."""
    with styled():
        FigureCanvasAgg(drawing)
        drawing.draw_without_rendering()
        drawing.set_layout_engine("none")


def svg(drawing: Drawing) -> bytes:
    """The picture as SVG, the same to the byte for the same numbers."""
    with styled():
        FigureCanvasSVG(drawing)
        sink = BytesIO()
        drawing.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def png(drawing: Drawing, scale: float = 2.0) -> bytes:
    """The picture as PNG, with `scale` pixels for each of a screen's 96 to the inch."""
    with styled():
        FigureCanvasAgg(drawing)
        sink = BytesIO()
        drawing.savefig(sink, format="png", dpi=96 * scale, metadata={"Software": None})
    return sink.getvalue()
