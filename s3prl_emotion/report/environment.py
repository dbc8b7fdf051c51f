"""Load the report's templates, and escape text for each of their formats."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import visible
from s3prl_emotion.metrics.registry import label
from s3prl_emotion.report.words import MINUS

TEMPLATES = Path(__file__).with_name("templates")
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MINUS: "$-$", "±": r"$\pm$", "–": "--",
    "<": "$<$", ">": "$>$",
}  # fmt: skip


@functools.cache
def environment(markup: bool = True) -> Any:
    """Return the templates, which escape text as HTML and SVG need it if ``markup``."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=markup, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, finalize=_finalized,
    )  # fmt: skip
    templates.filters |= {"tex": tex, "cell": markdown_cell}
    templates.globals["label"] = label
    return templates


def _finalized(value: Any) -> Any:
    """Return what a template shows of a value: control characters of names are escaped."""
    return type(value)(visible(value, keep="\n\t")) if isinstance(value, str) else value


def tex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def markdown_cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", " ".join(text.split()))
