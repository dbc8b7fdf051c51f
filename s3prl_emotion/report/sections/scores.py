"""The scores of each split: with intervals, differences to the baseline, published numbers, errors by label."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.computing.scores import Part, Row, is_tested
from s3prl_emotion.report.drawing.figure import INK, PANEL, Figure, Panel, series_style
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import (
    NONE,
    beside_published,
    count,
    difference,
    number,
    p_value,
    published,
    score_words,
)


class Scores(SplitSection):
    """The main scores, shown right below the heading of the split."""

    title = "Scores"
    template = "scores.html.jinja"
    always = True
    main = True

    def part(self, place: Place) -> Part:
        """Return the scores on the split."""
        return self.results.parts[place]

    def opens(self, place: Place) -> bool:
        """Return whether the page shows the figures at once: those of an upstream's first split."""
        return self.results.analysis.of(place.upstream)[0] is self.part(place)

    def lead(self, place: Place) -> str:
        """Return the size of the split."""
        part = self.part(place)
        return f"{part.utterances:,} utterances of {part.speakers:,} speakers"

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield scores, further metrics, differences to the baseline and published numbers."""
        part = self.part(place)
        yield from score_tables(part)
        for baseline in dict.fromkeys(self.study.baseline_of(row.system) for row in part.rows):
            rows = tuple(row for row in part.rows if self.study.baseline_of(row.system) == baseline)
            yield difference_table(replace(part, rows=rows), baseline)
        yield published_table(part)

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the scores with their intervals, and the errors by label."""
        part, systems = self.part(place), tuple(self.study.systems)
        metrics = drawn_metrics(part)
        if metrics:
            height = 0.75 + 0.34 * len(part.rows)
            draw = partial(_draw_scores, part, systems, self.study.baseline)
            caption = (
                "Scores over all folds' predictions together, with 95 % intervals over speakers; dotted: the baseline."
            )
            panels = tuple(Panel(label(name), partial(draw, name), height) for name in metrics)
            yield Figure(place.figure_name("scores"), caption, systems, panels)
        dimensions = dict.fromkeys(name for row in part.rows for name in row.bins)
        if dimensions:
            caption = (
                "Mean squared error by true value, and the number of utterances of each value (as Mitra et al. 2024, "
                "Fig. 4)."
            )
            draw, height = partial(_draw_bins, part, systems), PANEL[1] + 0.4
            panels = tuple(Panel(label(f"MSE.{name}"), partial(draw, name), height) for name in dimensions)
            yield Figure(place.figure_name("mse_per_bin"), caption, systems, panels)


def score_tables(part: Part) -> Iterator[Table]:
    """Yield scores with spread and interval: the main metrics, then the others."""
    head = ["system", "runs"]
    if part.main_metrics:
        rows = [
            [row.system, str(row.runs), count(row.num_parameters), number(row.relative_size, "relative_size")]
            + [score_words(row, name) for name in part.main_metrics]
            for row in part.rows
        ]
        yield Table("scores", [*head, "parameters", "size, %", *map(label, part.main_metrics)], rows)
    if part.other_metrics:
        rows = [
            [row.system, str(row.runs), *(score_words(row, name) for name in part.other_metrics)] for row in part.rows
        ]
        yield Table("errors and correlations", [*head, *map(label, part.other_metrics)], rows)


def difference_table(part: Part, baseline: str | None) -> Table | None:
    """Return differences to the baseline with p-values corrected by Holm's method, or ``None``."""
    metrics = [name for name in part.main_metrics if is_tested(name)]
    rows = [row for row in part.rows if any(row.scores[name].difference for name in metrics if name in row.scores)]
    words = [[row.system, *(_difference_words(row, name) for name in metrics)] for row in rows]
    return table_of(f"difference to {baseline}", ["system", *map(label, metrics)], words)


def _difference_words(row: Row, metric: str) -> str:
    gap = row.scores[metric].difference if metric in row.scores else None
    if gap is None:
        return NONE
    return f"{difference(gap, metric)}, {p_value(gap.p_holm)}{' *' if gap.significant else ''}"


def published_table(part: Part) -> Table | None:
    """Return our numbers beside published ones and their difference, a number in each row, or ``None``."""
    rows, notes = [], dict[tuple[str, str], str]()
    for row in part.rows:
        size = number(row.relative_size, "relative_size")
        ours = [(name, score.mean, beside_published(score), score.published) for name, score in row.scores.items()]
        for metric, value, words, theirs in [*ours, ("relative_size", row.relative_size, size, row.published_size)]:
            if theirs is not None:
                gap = None if value is None else value - theirs.value
                name = "size, %" if metric == "relative_size" else label(metric)
                cells = [words, published(theirs, metric), number(gap, metric, True)]
                rows.append([row.system, name, *cells, theirs.source])
                if theirs.note:
                    notes[theirs.source, theirs.note] = f"{theirs.source}: {theirs.note.strip()}"
    head = ["system", "metric", "ours", "published", "difference", "source"]
    return table_of("published numbers", head, rows, " ".join(notes.values()))


def drawn_metrics(part: Part) -> list[str]:
    """Return the main metrics that have a value; means over dimensions are in the table only."""
    metrics = [name for name in part.main_metrics if not name.startswith("mean_")]
    return [name for name in metrics if any(np.isfinite(drawn_value(row, name)) for row in part.rows)]


def drawn_value(row: Row, metric: str) -> float:
    """Return the pooled score, or the mean over runs where there are no predictions; NaN where there is neither."""
    score = row.scores.get(metric)
    if score is None:
        return float("nan")
    return score.pooled if np.isfinite(score.pooled) else score.mean


def _draw_scores(part: Part, systems: Sequence[str], baseline: str | None, metric: str, figure: Any) -> None:
    axes, factor = figure.subplots(), scale(metric)
    for height, row in enumerate(reversed(part.rows)):
        value = drawn_value(row, metric) * factor
        if not np.isfinite(value):
            continue
        score, style = row.scores[metric], series_style(systems, row.system)
        if np.isfinite(score.low) and np.isfinite(score.high):
            axes.plot([score.low * factor, score.high * factor], [height] * 2, color=style["color"], linewidth=1.6)
        axes.plot([value], [height], linestyle="none", markersize=5.5, **style)
        if row.system == baseline:
            axes.axvline(value, color=INK, linestyle=":", linewidth=0.9)
    axes.set_yticks(range(len(part.rows)), ["\n".join(textwrap.wrap(row.system, 20)) for row in reversed(part.rows)])
    axes.set_ylim(-0.6, len(part.rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _draw_bins(part: Part, systems: Sequence[str], dimension: str, figure: Any) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts: dict[float, int] = {}
    for row in part.rows:
        bins = row.bins.get(dimension, [])
        errors = [np.nan if item["MSE"] is None else item["MSE"] for item in bins]
        upper.plot(
            [item["centre"] for item in bins], errors, **series_style(systems, row.system), markersize=4, linewidth=1.4
        )
        counts |= {item["centre"]: item["utterances"] for item in bins}
    upper.set_ylim(bottom=0)
    upper.set_ylabel("MSE")
    width = 0.7 * min(np.diff(sorted(counts)), default=1.0)
    lower.bar(list(counts), list(counts.values()), width=width, color=INK, alpha=0.35)
    lower.set(xlabel=label(f"true.{dimension}"), ylabel="utterances")
    lower.grid(axis="x", visible=False)
