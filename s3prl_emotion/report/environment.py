"""Templates of a report, and how text is escaped in each kind of them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from s3prl_emotion.report import tables

TEMPLATES = Path(__file__).with_name("templates")
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", tables.MINUS: "$-$", "±": r"$\pm$", "–": "--",
    "<": "$<$", ">": "$>$",
}  # fmt: skip


@functools.cache
def environment(markup: bool = True) -> Any:
    """Templates that escape as HTML and SVG need it, or not."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=markup, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    found.filters |= {"tex": tex, "cell": markdown_cell}
    return found


def tex(text: str) -> str:
    """Text for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def markdown_cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", " ".join(text.split()))
