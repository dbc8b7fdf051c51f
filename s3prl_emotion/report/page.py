"""Writing a report: Markdown, LaTeX, CSV, figures and one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.report import tables
from s3prl_emotion.report.analysis import Analysis, Part
from s3prl_emotion.report.figures import SERIES, Figure, figures_of, glyph, svg_panels, write_figure
from s3prl_emotion.results import versions, write_text

TEMPLATES = Path(__file__).with_name("templates")
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", tables.MINUS: "$-$", "±": r"$\pm$", "–": "--",
    "<": "$<$", ">": "$>$",
}  # fmt: skip
DARK = ("#6bb1ea", "#f0935a", "#4fc4a0", "#c792dc", "#e0b040", "#f07a9c", "#93b0f5", "#a9bd50")


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``report.tex``, ``report.csv`` and ``figures/*.svg``.

    Args:
        analysis: of a study
        folder: made where it is not there

    Returns:
        the files, the page first

    Raises:
        UsageError: the folder cannot be written
        TrainingError: no room on the disk
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); name another with --out") from error
    drawn = {upstream: figures_of(analysis, upstream) for upstream in analysis.study.upstreams}
    files = [write_figure(figure, folder / "figures") for figures in drawn.values() for figure in figures]
    content = _content(analysis)
    texts = {
        "report.html": _environment(html=True)
        .get_template("page.html.jinja")
        .render(**content, figures=_panels(drawn)),
        "report.md": _environment().get_template("report.md.jinja").render(**content, figures=drawn),
        "report.tex": _environment().get_template("report.tex.jinja").render(**content),
        "report.csv": tables.csv_text(analysis),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *files]


def _content(analysis: Analysis) -> dict[str, Any]:
    """What all templates are given."""
    study = analysis.study
    return {
        "analysis": analysis,
        "study": study,
        "statements": list(_statements(analysis)),
        "warnings": [*study.warnings, *_gathered(analysis.parts)],
        "tables_of": lambda part: tables.tables_of(part, study.baseline),
        "anchors": {(part.upstream, part.split): f"part{index}" for index, part in enumerate(analysis.parts)},
        "versions": versions(),
    }


def _statements(analysis: Analysis) -> Iterator[str]:
    """What the numbers are, in sentences."""
    folds = {run.key for run in analysis.study.runs}
    yield (
        "A score is the mean over runs (folds and seeds), each with its best dev checkpoint, and ± their standard "
        "deviation (n − 1)."
        if len(folds) > 1
        else "A score is that of one run, with its best dev checkpoint."
    )
    yield (
        "Brackets hold a 95 % interval of the score of all folds' test predictions taken together (“pooled”; mean "
        "over seeds): a bootstrap that draws whole speakers "
        f"({analysis.resamples:,} times), expanded for their small number. It says how the score would vary with other "
        "speakers, not with other training runs."
    )
    if analysis.comparisons:
        yield (
            f"Differences are to the baseline, “{analysis.study.baseline}”, on the same utterances, by a paired "
            "permutation test that swaps whole speakers, two-sided. p-values are corrected by Holm's method over the "
            f"{analysis.comparisons} comparisons of this report; * marks those below 0.05."
        )
    if any(part.metrics and any(name.startswith("CCC") for name in part.metrics) for part in analysis.parts):
        yield "CCC uses population moments. MSE is on the corpus's scale."
    if any("UAR" in part.metrics for part in analysis.parts):
        yield "UA (UAR) is the mean recall over the classes, WA the share of correct utterances."


def _gathered(parts: tuple[Part, ...]) -> list[str]:
    """Warnings of the parts, each once with where it holds."""
    where: dict[str, list[str]] = {}
    for part in parts:
        for warning in part.warnings:
            where.setdefault(warning, []).append(" ".join(filter(None, [part.upstream, part.split])))
    return [f"{warning} ({', '.join(places)})" for warning, places in where.items()]


def _panels(drawn: dict[str, list[Figure]]) -> dict[str, list[tuple[Figure, list[tuple[str, str]]]]]:
    return {
        upstream: [(figure, list(svg_panels(figure, f"f{row}-{column}-"))) for column, figure in enumerate(figures)]
        for row, (upstream, figures) in enumerate(drawn.items())
    }


def _environment(html: bool = False) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=html, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"tex": tex, "cell": _markdown_cell}
    environment.globals |= {
        "tables": tables, "glyph": glyph, "light": SERIES, "dark": DARK
    }  # fmt: skip
    return environment


def tex(text: str) -> str:
    """Text for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def _markdown_cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", " ".join(text.split()))
