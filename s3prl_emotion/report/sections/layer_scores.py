"""Scores over the layers of an upstream, where systems differ by the layer that they use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.computing.details import TrainingDetails
from s3prl_emotion.report.computing.scores import Row
from s3prl_emotion.report.drawing.figure import INK, MARKERS, PANEL, SERIES, Figure, Panel
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.sections.scores import drawn_metrics, drawn_value
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import NONE, spread

FEWEST = 3  # layers that make a curve
LEGEND_COLUMNS = 3
Curve = dict[int, Row]  # by layer, ascending


class ScoresByLayer(SplitSection):
    """How well each layer serves; Mitra et al. 2025, Fig. 2."""

    title = "scores by layer"
    main = True

    def curves(self, place: Place) -> dict[str, Curve]:
        """Return the rows of systems that are alike but for their layer, by what their names have in common."""
        return curves_of(self.results.parts[place].rows, self.results.details.training[place.upstream])

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield a table for each curve: a row for each layer."""
        metrics = drawn_metrics(self.results.parts[place])
        for name, curve in self.curves(place).items():
            rows = []
            for layer, row in curve.items():
                scores = [row.scores.get(metric) for metric in metrics]
                rows.append([str(layer), *(NONE if score is None else spread(score) for score in scores)])
            yield table_of(f"scores by {name}", ["layer", *map(label, metrics)], rows if metrics else [])

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the scores over layers: a panel for each metric and curve, a line for each dimension."""
        curves, best = self.curves(place), self._salient(place)
        families: dict[str, list[str]] = {}
        for metric in drawn_metrics(self.results.parts[place]):
            families.setdefault(metric.partition(".")[0], []).append(metric)
        panels = []
        for family, metrics in families.items():
            for name, curve in curves.items():
                title = label(family) if len(curves) == 1 else f"{label(family)}: {name}"
                height = PANEL[1] + (0.25 if len(metrics) > 1 else 0)
                panels.append(Panel(title, partial(_draw, curve, metrics, best), height))
        if panels:
            caption = "Scores over the layers of the upstream (as Mitra et al. 2025, Fig. 2), with 95 % intervals."
            caption += " Dotted: the most salient layer of each training split." if best else ""
            yield Figure(place.figure_name("scores_by_layer"), caption, (), tuple(panels))

    def _salient(self, place: Place) -> list[int]:
        return sorted({item.best for item in self.results.details.saliency[place.upstream]})


def curves_of(rows: Sequence[Row], training: Mapping[str, TrainingDetails]) -> dict[str, Curve]:
    """Group systems that each use a single layer by their names without its number; groups of three layers or more.

    Args:
        rows: of the systems on a split
        training: details of each system's training

    Returns:
        rows by layer, ascending, by name: ``layer`` for systems ``layer 0``, ``layer 1``, …
    """
    curves: dict[str, Curve] = {}
    for row in rows:
        details = training.get(row.system)
        layers = set(details.layers) if details is not None else set()
        layer = next(iter(layers)) if len(layers) == 1 else None
        name, found = re.subn(rf"(?<!\d){layer}(?!\d)", "", row.system)
        if layer is not None and found:
            curves.setdefault(" ".join(name.split()) or "layer", {})[layer] = row
    return {name: dict(sorted(curve.items())) for name, curve in curves.items() if len(curve) >= FEWEST}


def _draw(curve: Curve, metrics: Sequence[str], best: Sequence[int], figure: Any) -> None:
    axes = figure.subplots()
    layers = np.array(list(curve))
    for index, metric in enumerate(metrics):
        rows, factor = list(curve.values()), scale(metric)
        values = np.array([drawn_value(row, metric) for row in rows]) * factor
        nothing = [np.nan] * 2
        bounds = np.array([[row.scores[metric].low, row.scores[metric].high] if metric in row.scores else nothing
                           for row in rows]) * factor  # fmt: skip
        aside = layers + (index - (len(metrics) - 1) / 2) * 0.12  # intervals must not hide each other
        colour = SERIES[index % len(SERIES)]
        words = label(metric).removeprefix(label(metric.partition(".")[0])).strip()
        axes.plot(aside, values, color=colour, marker=MARKERS[index], markersize=3.5, linewidth=1.4, label=words)
        axes.vlines(aside, bounds[:, 0], bounds[:, 1], color=colour, linewidth=0.8, alpha=0.6)
    for layer in best:
        axes.axvline(layer, color=INK, linestyle=":", linewidth=0.9)
    axes.set(xlabel="layer", ylabel=label(metrics[0].partition(".")[0]))
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(metrics) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS)
