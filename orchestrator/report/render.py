"""Drawings as files: SVG and PNG, the same to the byte for the same numbers."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from PIL import Image

from orchestrator.report.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def head(drawing: Drawing, text: str) -> None:
    """A line at the upper left, so that a picture that goes its own way still says what it is of."""
    drawing.suptitle(text, x=0.01, ha="left", color="#555555", fontsize=8)


def settle(drawing: Drawing) -> None:
    """Lay the drawing out for good: it need not be done again for each format, which is most of the work."""
    engine = drawing.get_layout_engine()
    assert engine is not None
    with styled():
        FigureCanvasAgg(drawing)
        engine.execute(drawing)
        drawing.set_layout_engine("none")


def svg(drawing: Drawing) -> bytes:
    """The picture as SVG, the same to the byte for the same numbers."""
    sink = BytesIO()
    with styled():
        canvas: Any = FigureCanvasSVG(drawing)
        canvas.print_svg(sink, metadata={"Date": None})  # `savefig` draws twice
    return sink.getvalue()


def png(drawing: Drawing, scale: float = 2.0) -> bytes:
    """The picture as PNG, with `scale` pixels for each of a screen's 96 to the inch."""
    sink = BytesIO()
    drawing.set_dpi(96 * scale)
    with styled():
        canvas: Any = FigureCanvasAgg(drawing)
        canvas.print_png(sink, metadata={"Software": None})
    return sink.getvalue()


def few_colors(png: bytes) -> bytes:
    """The same picture with 256 colours: a third of the bytes, and no difference to be seen."""
    sink = BytesIO()
    with Image.open(BytesIO(png)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(sink, "png")
    return sink.getvalue()
