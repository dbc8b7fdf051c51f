"""Write a report: one self-contained HTML page, Markdown, LaTeX, CSV, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_emotion.files.outputs import check_folder, new_folder
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.report import words
from s3prl_emotion.report.computing.scores import Analysis, Part
from s3prl_emotion.report.drawing.budget import within_budget
from s3prl_emotion.report.drawing.figure import SCALE, SERIES, Figure, glyph, svg_panels, write_figure
from s3prl_emotion.report.environment import environment
from s3prl_emotion.report.sections import SECTIONS
from s3prl_emotion.report.sections.base import Results
from s3prl_emotion.report.sections.explanation import statements
from s3prl_emotion.report.writing.chapters import Chapter, arrange, with_figures
from s3prl_emotion.report.writing.csv_file import csv_text

DARK_SCALE = ("#8a6d22", "#7a9a3f", "#4fc4a0", "#86cdea", "#e2f1ff")
DARK_SERIES = ("#6bb1ea", "#f0935a", "#4fc4a0", "#c792dc", "#e0b040", "#f07a9c", "#93b0f5", "#a9bd50")
COLOURS = {"series": (SERIES, DARK_SERIES), "scale": (SCALE, DARK_SCALE)}  # of the light and of the dark scheme


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``report.tex``, ``report.csv``, further CSV files and ``figures/*.svg``.

    Args:
        analysis: the scores of a study
        folder: where to write, created if it does not exist

    Returns:
        the files, the page first, figures last

    Raises:
        UsageError: the folder cannot be created
        TrainingError: the disk is full
    """
    check_folder(folder)
    results = Results(analysis)
    sections = [section(results) for section in SECTIONS]
    chapters, dropped = _within_budget(arrange(results, sections))
    study = analysis.study
    warnings = [*study.warnings, *_gathered(analysis.parts)]
    warnings += [warning for section in sections for warning in section.warnings()] + dropped
    figures = _figures(chapters)
    content: dict[str, Any] = {
        "study": study, "analysis": analysis, "warnings": warnings, "statements": list(statements(analysis)),
        "chapters": chapters,
        "by_section": sorted(chapters, key=lambda chapter: chapter.order),  # for Markdown and LaTeX
        "figures": figures,
    }  # fmt: skip
    page = {
        "words": words, "glyph": glyph, "colours": COLOURS,
        "panels": {figure.name: list(svg_panels(figure, f"f{number}-")) for number, figure in enumerate(figures)},
    }  # fmt: skip
    texts = {
        "report.html": environment().get_template("page.html.jinja").render(**content, **page),
        "report.md": environment(False).get_template("report.md.jinja").render(**content),
        "report.tex": environment(False).get_template("report.tex.jinja").render(**content),
        "report.csv": _csv(results),
    }
    for section in sections:
        texts |= section.files()
    with new_folder(folder):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [*(folder / name for name in texts), *(write_figure(figure, folder / "figures") for figure in figures)]


def _within_budget(chapters: Sequence[Chapter]) -> tuple[list[Chapter], list[str]]:
    """Return the chapters with the figures that fit the budget, and a warning if some do not."""
    contents = [content for chapter in chapters for content in chapter.contents]
    ordered = sorted(contents, key=lambda content: not content.section.main)
    figures = [figure for content in ordered for figure in content.figures]
    chosen = within_budget(figures)
    missing = sum(figure.name not in chosen for figure in figures)
    warning = (
        f"{missing} of {len(figures)} figures are not drawn, since there are too many; all numbers are in the tables"
    )
    return with_figures(chapters, chosen), [warning] if missing else []


def _figures(chapters: Sequence[Chapter]) -> list[Figure]:
    return [figure for chapter in chapters for content in chapter.contents for figure in content.figures]


def _gathered(parts: Sequence[Part]) -> list[str]:
    """Return the warnings of the parts, each once with the parts that it is about."""
    where: dict[str, list[str]] = {}
    for part in parts:
        for warning in part.warnings:
            where.setdefault(warning, []).append(" ".join(filter(None, [part.upstream, part.split])))
    return [f"{warning} ({', '.join(names)})" for warning, names in where.items()]


def _csv(results: Results) -> str:
    """Return the long table of all scores, those of the details among them."""
    details = {
        place: {system: list(own.scores.values()) for system, own in systems.items()}
        for place, systems in results.details.splits.items()
    }
    ranked = {
        (entry.upstream, entry.split, entry.system): {
            "head": entry.head, "track": entry.track.name, "rank": entry.rank,
        }
        for entry in results.board.entries
    }  # fmt: skip
    return csv_text(results.analysis, details, ranked, results.ensembles.of)
