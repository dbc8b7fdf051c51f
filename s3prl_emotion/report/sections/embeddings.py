"""Utterance embeddings in a plane, coloured by the properties of the utterances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.figures.embedding_plots import MOST_NAMED
from s3prl_emotion.report.drawing.figure import INK, MARKERS, PANEL, SCALE, SERIES, UNKNOWN, Figure, Panel
from s3prl_emotion.report.reading.embeddings import MOST_POINTS, SEED, Plane, Planes, planes_of
from s3prl_emotion.report.sections.base import Place, SplitSection

STYLE = {"linestyle": "none", "markersize": 4.2, "markeredgewidth": 0, "alpha": 0.75}
HEIGHT = PANEL[1] + 0.6  # inches, legend included


class UtteranceEmbeddings(SplitSection):
    """Utterance embeddings of one run of each system, by t-SNE."""

    title = "Utterance embeddings"

    @cached_property
    def planes(self) -> Planes:
        """The embeddings of the study."""
        return planes_of(self.study)

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield a figure for each system that has embeddings, with a panel for each property."""
        planes = self.planes.planes.get((place.upstream, place.split), {})
        for index, system in enumerate(self.study.systems):
            if system in planes:
                yield plane_figure(place.figure_name(f"embeddings-{index}"), system, planes[system])

    def warnings(self) -> Iterable[str]:
        """Return warnings about embeddings that are not shown."""
        return self.planes.warnings


def plane_figure(name: str, system: str, plane: Plane) -> Figure:
    """Return the figure of a plane, with a panel for each property of the utterances."""
    panels = [
        Panel(title or "utterances", partial(_draw, plane, plane.known.get(title)), HEIGHT)
        for title in list(plane.known) or [""]
    ]
    return Figure(name, _caption(system, plane), (), tuple(panels))


def _caption(system: str, plane: Plane) -> str:
    run = ", ".join(filter(None, [plane.run.fold, None if plane.run.seed is None else f"seed {plane.run.seed}"]))
    drawn = f"{MOST_POINTS} of {plane.total:,} utterances, drawn with seed {SEED}" if plane.total > MOST_POINTS else (
        f"all {plane.total} utterances")  # fmt: skip
    return (
        f"{system}: input of the last layer for each utterance of {plane.split}, by t-SNE (as Neumann and Vu 2019, "
        f"Figs. 3 and 4). From the first run that saved it ({run}); {drawn}; perplexity {plane.perplexity:.3g}. Axes "
        "have no meaning, nor do distances between groups that lie far apart."
    )


def _draw(plane: Plane, values: NDArray[Any] | None, figure: Any) -> None:
    if values is not None and values.dtype.kind == "f":
        _draw_numbers(plane.points, values, figure)
        return
    axes = _framed(figure.subplots())
    if values is None:
        axes.plot(*plane.points.T, color=SERIES[0], marker="o", **STYLE)
        return
    words = sorted(set(values.tolist()), key=lambda word: (word == "", word))
    for number, word in enumerate(words):
        marker = MARKERS[(number + number // len(SERIES)) % len(MARKERS)]
        colour = SERIES[number % len(SERIES)] if word else UNKNOWN
        axes.plot(*plane.points[values == word].T, color=colour, marker=marker, label=word or "unknown", **STYLE)
    if len(words) <= MOST_NAMED:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(4, len(words)), fontsize=8.5, markerscale=1.3,
            handletextpad=0.1, columnspacing=0.8,
        )  # fmt: skip
    else:
        axes.set_xlabel(f"{len(words)} values", fontsize=8.5)


def _draw_numbers(points: NDArray[np.float64], values: NDArray[np.float64], figure: Any) -> None:
    """Draw points in the steps of a scale from the lowest value to the highest, and the scale below."""
    axes, scale = figure.subplots(2, 1, height_ratios=(24, 1))
    _framed(axes)
    known = np.isfinite(values)
    low, high = float(values[known].min()), float(values[known].max())
    steps = np.clip(((values[known] - low) / (high - low) * len(SCALE)).astype(int), 0, len(SCALE) - 1)
    axes.plot(*points[~known].T, color=UNKNOWN, marker="o", **STYLE)
    for step, colour in enumerate(SCALE):
        axes.plot(*points[known][steps == step].T, color=colour, marker="o", **STYLE)
        scale.axvspan(step, step + 1, color=colour, linewidth=0)
    scale.set_xlim(0, len(SCALE))
    edges = np.linspace(low, high, len(SCALE) + 1)
    shown = (0, len(SCALE) // 2, len(SCALE))
    scale.set_xticks(shown, [f"{edges[step]:.3g}" for step in shown])
    scale.set_yticks([])
    scale.grid(False)
    scale.spines[:].set_visible(False)
    if not known.all():
        axes.set_xlabel(f"grey: {int((~known).sum())} unknown", fontsize=8.5)


def _framed(axes: Any) -> Any:
    """Leave axes only their frame, since their values have no meaning."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set(visible=True, color=INK, linewidth=0.5, alpha=0.4)
    axes.margins(0.05)
    return axes
