"""Draw figures as SVG: each panel once, for the page and for a file of its own.

On the page colours are CSS variables, so that panels follow its light and dark scheme; text stays text. The file of a
figure holds the same panels beside each other, each with its title, and the legend, in the colours of the light scheme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import escape

from s3prl_emotion.files.writing import write_text

INK, GRID = "#1b1b1f", "#d9d9de"
SERIES = ("#0b62a4", "#c2500a", "#11795a", "#8a3ea0", "#a87400", "#c0305f", "#3f6fd8", "#5b6b0f")
SCALE = ("#c99212", "#84a332", "#2f9a6f", "#0b78a0", "#0a3d78")  # low to high: contrast with the page grows
UNKNOWN = "#8e8e93"  # readable on both schemes
MARKERS = "osD^vPX*"
GLYPHS = "●■◆▲▼✚✖★"
PANEL = (3.5, 2.7)  # width and height in inches
UNITS_PER_INCH = 72  # of an SVG
PANELS_PER_ROW = 4  # of a figure's file
FONT = "font-family: 'DejaVu Sans', Arial, sans-serif"
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "s3prl-emotion", "font.size": 9, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "grid.color": GRID,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "axes.titlesize": 9.5, "legend.frameon": False, "text.parse_math": False, "figure.facecolor": "none",
    "axes.facecolor": "none",
}  # fmt: skip


class Drawable(Protocol):
    """A panel of a figure."""

    @property
    def title(self) -> str:
        """Title of the panel."""

    def svg(self) -> str:
        """Return the panel as SVG, in the colours above."""


@dataclass(frozen=True)
class Panel:
    """A diagram: ``draw`` fills a matplotlib figure, ``height`` is in inches."""

    title: str
    draw: Callable[[Any], None]
    height: float = PANEL[1]

    def svg(self) -> str:
        """Return the diagram as SVG, in the colours above."""
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Drawn

        with mpl.rc_context(STYLE):
            figure = Drawn(figsize=(PANEL[0], self.height), layout="constrained")
            self.draw(figure)
            text = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Type", "Format"))
            FigureCanvasSVG(figure).print_svg(text, metadata=nothing)  # savefig would draw it twice
        return text.getvalue()


@dataclass(frozen=True)
class Figure:
    """Panels beside each other.

    Attributes:
        name: name of the file, without its ending
        caption: what the panels show
        systems: systems of the legend, empty where panels have no series
        panels: the panels
    """

    name: str
    caption: str
    systems: tuple[str, ...]
    panels: tuple[Drawable, ...]

    @cached_property
    def drawn(self) -> tuple[str, ...]:
        """SVG of each panel, without what only a file of its own needs."""
        return tuple(_bare(panel.svg()) for panel in self.panels)


def svg_panels(figure: Figure, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield title and SVG of each panel, for the page; ``prefix`` keeps the ids of figures apart."""
    for number, (panel, svg) in enumerate(zip(figure.panels, figure.drawn, strict=True)):
        yield panel.title, _in_the_pages_colours(_with_ids(svg, f"{prefix}{number}-"))


def write_figure(figure: Figure, folder: Path) -> Path:
    """Write all panels with their legend as ``NAME.svg``.

    Raises:
        TrainingError: the disk is full
    """
    path = folder / f"{figure.name}.svg"
    write_text(path, _composed(figure), parents=True)
    return path


def glyph(systems: Sequence[str], system: str) -> tuple[str, int]:
    """Return a system's mark and the number of its colour."""
    index = list(systems).index(system)
    return GLYPHS[index % len(GLYPHS)], index % len(SERIES)


def series_style(systems: Sequence[str], system: str) -> dict[str, Any]:
    """Return a system's colour and marker for matplotlib."""
    index = list(systems).index(system)
    return {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}


def _composed(figure: Figure) -> str:
    """Return all panels, row by row, as one SVG."""
    parts, gap, title = [], 12.0, 20.0
    left = top = row = width = 0.0
    for number, (panel, svg) in enumerate(zip(figure.panels, figure.drawn, strict=True)):
        if number and number % PANELS_PER_ROW == 0:
            left, top, row = 0.0, top + row + title + gap, 0.0
        wide, high = _size(svg)
        parts.append(_text(left + wide / 2, top + 13, panel.title, "middle", size=12))
        inner = re.sub(r"^<svg", f'<svg x="{left:g}" y="{top + title:g}"', _with_ids(svg, f"p{number}-"))
        parts.append(inner)
        left, row = left + wide + gap, max(row, high)
        width = max(width, left - gap)
    legend, bottom = _legend(figure.systems, width, top + row + title + gap)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'width="{width:g}pt" height="{bottom:g}pt" viewBox="0 0 {width:g} {bottom:g}" style="{FONT}">'
    )
    whole = "\n".join(['<?xml version="1.0" encoding="utf-8"?>', head, *parts, *legend, "</svg>"])
    return whole.replace("currentColor", INK) + "\n"


def _legend(systems: Sequence[str], width: float, top: float) -> tuple[list[str], float]:
    """Return marks and names of the systems, wrapped into ``width``, and where they end."""
    parts, left = [], 0.0
    for system in systems:
        shape, colour = glyph(systems, system)
        needed = 26 + 7 * len(system)
        if left and left + needed > width:
            left, top = 0.0, top + 18
        parts.append(_text(left + 2, top + 10, shape, "start", 12, SERIES[colour]))
        parts.append(_text(left + 16, top + 10, system, "start", 11))
        left += needed
    return parts, top + 18 if systems else top


def _text(x: float, y: float, words: str, anchor: str, size: int, colour: str = INK) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def _size(svg: str) -> tuple[float, float]:
    """Return width and height of an SVG in its own units."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    return (float(box[1]), float(box[2])) if box else (PANEL[0] * UNITS_PER_INCH, PANEL[1] * UNITS_PER_INCH)


def _bare(svg: str) -> str:
    """Reduce an SVG to what it needs inside another one: no declarations, no fonts, sizes without units."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?\swidth="[\d.]+)pt" height="([\d.]+)pt"', r'\1" height="\2"', svg, count=1)
    svg = re.sub(r"xlink:href", "href", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # older matplotlib
    return re.sub(r"font-family: [^;\"]*;? ?", "", svg).strip()


def _with_ids(svg: str, prefix: str) -> str:
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)


def _in_the_pages_colours(svg: str) -> str:
    """Replace colours by the page's variables, and let the page set the width."""
    svg = re.sub(r'(<svg[^>]*?)\swidth="[\d.]+" height="[\d.]+"', r'\1 role="img"', svg, count=1)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    for index, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{index})")
    for index, colour in enumerate(SCALE):
        svg = svg.replace(colour, f"var(--scale-{index})")
    return svg
