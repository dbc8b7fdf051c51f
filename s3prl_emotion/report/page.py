"""Writing a report: Markdown, LaTeX, CSV, figures and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.versions import versions
from s3prl_emotion.files.writing import write_text
from s3prl_emotion.report import tables
from s3prl_emotion.report.budget import within_budget
from s3prl_emotion.report.drawing import SCALE, SERIES, Figure, glyph, svg_panels, write_figure
from s3prl_emotion.report.environment import environment, tex
from s3prl_emotion.report.evidence import Evidence, collect
from s3prl_emotion.report.evidence_figures import detail_figures
from s3prl_emotion.report.figures import figures_of
from s3prl_emotion.report.groups import cost_table, detail_scores, group_tables
from s3prl_emotion.report.latent import NOTE as LATENT_NOTE
from s3prl_emotion.report.latent import latent_tables
from s3prl_emotion.report.overview import overview
from s3prl_emotion.report.scores import Analysis, Part, Score
from s3prl_emotion.report.search_tables import NOTE as SEARCH_NOTE
from s3prl_emotion.report.search_tables import search_csv, search_figures, search_table
from s3prl_emotion.report.sections import sections

__all__ = ["tex", "write_report"]

DARK_SCALE = ("#8a6d22", "#7a9a3f", "#4fc4a0", "#86cdea", "#e2f1ff")
DARK = ("#6bb1ea", "#f0935a", "#4fc4a0", "#c792dc", "#e0b040", "#f07a9c", "#93b0f5", "#a9bd50")


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``report.tex``, ``report.csv`` and ``figures/*.svg``; after a search
    ``learning_rates.csv`` too.

    Args:
        analysis: of a study
        folder: made where it is not there

    Returns:
        the files, the page first, figures last

    Raises:
        UsageError: the folder cannot be written
        TrainingError: no room on the disk
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); name another with --out") from error
    evidence, searches = collect(analysis), analysis.study.searches
    drawn = {upstream: figures_of(analysis, upstream) for upstream in analysis.study.upstreams}
    details = {upstream: detail_figures(analysis, evidence, upstream) for upstream in analysis.study.upstreams}
    drawn, details, note = within_budget(drawn, details)
    searched = search_figures(searches, analysis.study.systems)
    everything = [*(figure for upstream in drawn for figure in [*drawn[upstream], *details[upstream]]), *searched]
    files = [write_figure(figure, folder / "figures") for figure in everything]
    content = _content(analysis, evidence)
    content["warnings"] += [*evidence.planes.warnings, *([note] if note else [])]
    on_page = {"figures": _panels(drawn, "f"), "details": _panels(details, "d"),
               "search_figures": _panels({"": searched}, "s")[""]}  # fmt: skip
    texts = {
        "report.html": environment().get_template("page.html.jinja").render(**content, **on_page),
        "report.md": environment(False).get_template("report.md.jinja").render(**content, figures=everything),
        "report.tex": environment(False).get_template("report.tex.jinja").render(**content),
        "report.csv": tables.csv_text(analysis, _detail_scores(evidence), content["ranked"]),
    }
    texts |= {"learning_rates.csv": search_csv(searches)} if searches else {}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *files]


def _content(analysis: Analysis, evidence: Evidence) -> dict[str, Any]:
    """What all templates are given."""
    study = analysis.study
    details = {place: group_tables(systems) for place, systems in evidence.parts.items()}
    cost = {upstream: cost_table(systems) for upstream, systems in evidence.training.items()}
    return {
        "tables": tables,
        "sections": sections,
        "glyph": glyph,
        "light": SERIES,
        "dark": DARK,
        "light_scale": SCALE,
        "dark_scale": DARK_SCALE,
        "analysis": analysis,
        "study": study,
        "statements": list(_statements(analysis)),
        "warnings": [*study.warnings, *_gathered(analysis.parts)],
        "tables_of": lambda part: [
            *tables.tables_of(part, study.baseline),
            *details[part.upstream, part.split],
        ],
        "detail_tables": details,
        "training_tables": {upstream: [table] if table else [] for upstream, table in cost.items()},
        "latent_tables": {name: latent_tables(analysis, evidence.parts, name) for name in study.upstreams},
        "latent_note": LATENT_NOTE,
        "search_tables": [table] if (table := search_table(study.searches)) else [],
        "search_note": SEARCH_NOTE,
        "anchors": {(part.upstream, part.split): f"part{index}" for index, part in enumerate(analysis.parts)},
        "versions": versions(),
        **overview(analysis),
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


def _detail_scores(evidence: Evidence) -> dict[tuple[str, str], list[tuple[str, Score]]]:
    return {place: list(detail_scores(systems)) for place, systems in evidence.parts.items()}


def _panels(drawn: dict[str, list[Figure]], prefix: str) -> dict[str, list[tuple[Figure, list[tuple[str, str]]]]]:
    """Figures with their panels; ``prefix`` keeps ids apart."""
    return {
        upstream: [
            (figure, list(svg_panels(figure, f"{prefix}{row}-{column}-"))) for column, figure in enumerate(figures)
        ]
        for row, (upstream, figures) in enumerate(drawn.items())
    }
