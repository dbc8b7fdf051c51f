"""Scores over one factor, with a line for each level of another, where a matrix's systems differ by two recipe keys."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.computing.factors import Grid, Level, grid_of
from s3prl_emotion.report.computing.scores import Part
from s3prl_emotion.report.drawing.figure import MARKERS, PANEL, SERIES, Figure, Panel
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.sections.scores import drawn_metrics
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, spread

LEGEND_COLUMNS = 4


class TwoFactors(SplitSection):
    """How the systems' scores follow from two recipe keys, as Fig. 3 of Kakouros et al. 2023 shows it."""

    title = "two factors"
    main = True

    @cached_property
    def grids(self) -> dict[str, Grid | None]:
        """The grid of the systems on each upstream."""
        recipes: dict[str, dict[str, Any]] = {upstream: {} for upstream in self.study.upstreams}
        for (upstream, system), provenance in self.results.provenance.items():
            recipes.setdefault(upstream, {})[system] = provenance.recipe
        return {upstream: grid_of(self.study.overrides, own) for upstream, own in recipes.items()}

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield a table for each main metric: a row for each line of the figure, a column for each place on it."""
        part, grid = self.results.parts[place], self.grids.get(place.upstream)
        if grid is None:
            return
        rows = {row.system: row for row in part.rows}
        for metric in drawn_metrics(part):
            cells = []
            for line in grid.lines.levels:
                own = [rows.get(grid.systems.get((level, line), "")) for level in grid.across.levels]
                scores = [None if row is None else row.scores.get(metric) for row in own]
                cells.append([words_of(line), *(NONE if score is None else spread(score) for score in scores)])
            head = [f"{grid.lines.name} / {grid.across.name}", *map(words_of, grid.across.levels)]
            yield Table(f"{label(metric)} by {grid.across.name} and {grid.lines.name}", head, cells)

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the scores over one factor, a line for each level of the other, with the published numbers."""
        part, grid = self.results.parts[place], self.grids.get(place.upstream)
        metrics = drawn_metrics(part)
        if grid is None or not metrics:
            return
        theirs = any(row.scores[name].published for row in part.rows for name in metrics if name in row.scores)
        caption = f"Scores over {grid.across.name}, means over runs, with a line for each {grid.lines.name}."
        caption += " Large and hollow: published." if theirs else ""
        height = PANEL[1] + 0.2 * -(-len(grid.lines.levels) // LEGEND_COLUMNS)
        panels = tuple(Panel(label(name), partial(_draw, part, grid, name), height) for name in metrics)
        yield Figure(place.figure_name("two_factors"), caption, (), panels)


def words_of(level: Level) -> str:
    """Return a level as YAML writes it, numbers without trailing zeros."""
    if level is None or isinstance(level, bool):
        return {None: "null", True: "true", False: "false"}[level]
    return level if isinstance(level, str) else f"{level:g}"


def _draw(part: Part, grid: Grid, metric: str, figure: Any) -> None:
    axes, factor = figure.subplots(), scale(metric)
    rows = {row.system: row for row in part.rows}
    places = np.array(grid.across.levels, dtype=float) if grid.across.numeric else np.arange(len(grid.across.levels))
    for index, line in enumerate(grid.lines.levels):
        own = [rows.get(grid.systems.get((level, line), "")) for level in grid.across.levels]
        scores = [None if row is None else row.scores.get(metric) for row in own]
        values = np.array([np.nan if score is None else score.mean for score in scores]) * factor
        published = [score.published.value if score and score.published else np.nan for score in scores]
        colour, marker = SERIES[index % len(SERIES)], MARKERS[(index + index // len(SERIES)) % len(MARKERS)]
        axes.plot(places, values, color=colour, marker=marker, markersize=4, linewidth=1.4, label=words_of(line))
        axes.plot(
            places, np.array(published) * factor, color=colour, marker=marker, markersize=8, linestyle="none",
            fillstyle="none",
        )  # fmt: skip
    if not grid.across.numeric:
        axes.set_xticks(places, [words_of(level) for level in grid.across.levels])
    axes.set_xlabel(grid.across.name)
    figure.legend(
        *axes.get_legend_handles_labels(), title=grid.lines.name, loc="outside lower center", ncols=LEGEND_COLUMNS
    )
