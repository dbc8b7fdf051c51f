"""Figures of utterance embeddings in a plane, coloured by what is known of the utterances."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.figures.embedding_plots import MOST_NAMED
from s3prl_emotion.report.drawing import INK, MARKERS, PANEL, SCALE, SERIES, UNKNOWN, Figure, Panel
from s3prl_emotion.report.planes import POINTS, SEED, Plane

STYLE = {"linestyle": "none", "markersize": 4.2, "markeredgewidth": 0, "alpha": 0.75}
HEIGHT = PANEL[1] + 0.6  # inches, with the legend


def plane_figures(planes: Mapping[str, Plane], places: Mapping[str, int], stem: str) -> list[Figure]:
    """A figure for each system, with a panel for each thing that is known.

    Args:
        planes: of an upstream and split, by system
        places: of the systems in the report, which tell the figures' names apart
        stem: of the names
    """
    return [
        Figure(
            f"{stem}-embeddings-{places[system]}", plane.split, _caption(system, plane), (),
            tuple(
                Panel(name or "utterances", partial(_draw, plane, plane.known.get(name)), HEIGHT)
                for name in list(plane.known) or [""]
            ),
            "embeddings",
        )
        for system, plane in planes.items()
    ]  # fmt: skip


def _caption(system: str, plane: Plane) -> str:
    run = ", ".join(filter(None, [plane.run.fold, None if plane.run.seed is None else f"seed {plane.run.seed}"]))
    drawn = f"{POINTS} of {plane.total:,} utterances, drawn with seed {SEED}" if plane.total > POINTS else (
        f"all {plane.total} utterances")  # fmt: skip
    return (
        f"{system}: what its last layer is given of each utterance of {plane.split}, by t-SNE (as Neumann and Vu 2019, "
        f"Figs. 3 and 4). Of the first run that kept it ({run}); {drawn}; perplexity {plane.perplexity:.3g}. Axes have "
        "no meaning, nor have distances between groups that lie far apart."
    )


def _draw(plane: Plane, values: NDArray[Any] | None, figure: Any) -> None:
    if values is not None and values.dtype.kind == "f":
        _draw_numbers(plane.points, values, figure)
        return
    axes = _bare(figure.subplots())
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
        axes.set_xlabel(f"{len(words)} of them", fontsize=8.5)


def _draw_numbers(points: NDArray[np.float64], values: NDArray[np.float64], figure: Any) -> None:
    """Steps of a scale from the lowest value to the highest, and the scale below."""
    axes, scale = figure.subplots(2, 1, height_ratios=(24, 1))
    _bare(axes)
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
    scale.set_xticks(shown, [f"{edges[place]:.3g}" for place in shown])
    scale.set_yticks([])
    scale.grid(False)
    scale.spines[:].set_visible(False)
    if not known.all():
        axes.set_xlabel(f"grey: not known of {int((~known).sum())}", fontsize=8.5)


def _bare(axes: Any) -> Any:
    """Axes that mean nothing: a frame alone."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set(visible=True, color=INK, linewidth=0.5, alpha=0.4)
    axes.margins(0.05)
    return axes
