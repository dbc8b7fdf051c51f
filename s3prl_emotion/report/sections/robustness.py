"""Scores over signal-to-noise ratios, where a split has noisy copies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.computing.scores import Part
from s3prl_emotion.report.drawing.figure import Figure, Panel, series_style
from s3prl_emotion.report.sections.base import Place, Scope, Section
from s3prl_emotion.report.sections.scores import drawn_metrics, drawn_value

NOISY = re.compile(r"(.+)_(\d+(?:\.\d+)?)dB")


class Robustness(Section):
    """Scores over signal-to-noise ratios on each upstream."""

    title = "robustness"
    scope = Scope.UPSTREAM
    main = True

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield a figure for each split that has noisy copies."""
        parts, systems = self.results.analysis.of(place.upstream), tuple(self.study.systems)
        for clean in dict.fromkeys(split for part in parts if (split := _clean_split(part.split))):
            levels = {part.split: part for part in parts if clean in (part.split, _clean_split(part.split))}
            ordered = sorted(levels.values(), key=lambda part: -_ratio(part.split))
            metrics = drawn_metrics(ordered[0])
            if len(levels) > 1 and metrics:
                panels = tuple(Panel(label(name), partial(_draw, ordered, name, systems)) for name in metrics)
                caption = f"{clean} and its noisy copies: scores with 95 % intervals over speakers."
                name = Place(place.upstream, clean).figure_name("robustness")
                yield Figure(name, caption, systems, panels)


def _draw(parts: Sequence[Part], metric: str, systems: Sequence[str], figure: Any) -> None:
    axes, factor = figure.subplots(), scale(metric)
    for index, system in enumerate(systems):
        rows = [next(row for row in part.rows if row.system == system) for part in parts]
        values = np.array([drawn_value(row, metric) for row in rows]) * factor
        if not np.isfinite(values).any():
            continue
        bounds = np.array([[row.scores[metric].low, row.scores[metric].high] if metric in row.scores else [np.nan] * 2
                           for row in rows]) * factor  # fmt: skip
        aside = (index - (len(systems) - 1) / 2) * min(0.12, 0.6 / len(systems))  # intervals must not hide each other
        places, style = np.arange(len(parts)) + aside, series_style(systems, system)
        axes.plot(places, values, **style, markersize=4, linewidth=1.4)
        axes.vlines(places, bounds[:, 0], bounds[:, 1], color=style["color"], linewidth=1)
    words = ["clean" if _clean_split(part.split) is None else f"{_ratio(part.split):g} dB" for part in parts]
    axes.set_xticks(range(len(parts)), words)
    axes.set_xlabel("signal-to-noise ratio")
    axes.grid(axis="x", visible=False)


def _clean_split(split: str) -> str | None:
    """Return the split that a noisy copy is of, or ``None`` for a split that is none."""
    match = NOISY.fullmatch(split)
    return match[1] if match else None


def _ratio(split: str) -> float:
    """Return the signal-to-noise ratio of a split in dB; infinity without noise."""
    match = NOISY.fullmatch(split)
    return float(match[2]) if match else float("inf")
