"""Layers: which ones are used, what they cost, their learned weights and their saliency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.report.computing.details import TrainingDetails
from s3prl_emotion.report.computing.scores import Score
from s3prl_emotion.report.drawing.figure import INK, SERIES, Figure, Panel, series_style
from s3prl_emotion.report.reading.training import Array, LayerSaliency
from s3prl_emotion.report.sections.base import Place, TrainingSection
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import NONE, count, number


class Layers(TrainingSection):
    """Layers of an upstream and their cost."""

    title = "Layers and cost"
    note = (
        "Parameters of the upstream: up to the layer that is used, and of the whole model. Training seconds include "
        "evaluations on dev; a run that fills the feature store also spends the time that later runs save."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield the cost of the systems."""
        yield cost_table(self.details(place))

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield learned weights, and saliency by each method that measured it."""
        systems = self.details(place)
        if any(details.weights for details in systems.values()):
            caption = (
                "Learned weights of the upstream's layers (softmax) in the checkpoints that the scores are of: each "
                "run (faint) and the mean over runs; dotted: equal weights."
            )
            panels = (Panel("weights of layers", partial(_draw_weights, systems)),)
            yield Figure(place.figure_name("layer_weights"), caption, tuple(systems), panels)
        saliency = self.results.details.saliency[place.upstream]
        methods = dict.fromkeys(item.method for item in saliency)
        for method in methods:
            kind = "layer_saliency" if len(methods) == 1 else f"layer_saliency-{method}"
            yield saliency_figure(place.figure_name(kind), [item for item in saliency if item.method == method])


def cost_table(systems: Mapping[str, TrainingDetails]) -> Table | None:
    """Return which layers are used, and how much of the upstream they need; Mitra et al. 2025, Table 7."""
    rows = []
    for system, details in systems.items():
        if details.parameters or details.seconds or any(layer is not None for layer in details.layers):
            whole, computed = details.parameters or (None, None)
            saved = None if whole is None or computed is None else 1 - computed / whole
            sizes = [count(computed), count(whole), number(saved, "relative_size"), count(details.head_parameters)]
            rows.append([system, _layers(details.layers), *sizes, _seconds(details.seconds)])
    header = ["system", "layer", "upstream, computed", "upstream, whole", "saved, %", "head", "training, s"]
    return table_of("layers and cost", header, rows)


def _layers(layers: Sequence[int | None]) -> str:
    """Return ``6``, or ``2, 3`` where folds chose different layers; ``all`` where all are summed."""
    used = sorted(set(layers), key=lambda layer: (layer is None, layer or 0))
    return ", ".join("all" if layer is None else str(layer) for layer in used) or NONE


def _seconds(score: Score | None) -> str:
    if score is None:
        return NONE
    return f"{score.mean:.1f}" + (f" ± {score.std:.1f}" if math.isfinite(score.std) else "")


def saliency_figure(name: str, saliency: Sequence[LayerSaliency]) -> Figure:
    """Return the saliency of layers by one method, a panel for each target; Mitra et al. 2025, Figs. 2 and 3."""
    targets = dict.fromkeys(target for item in saliency for target in item.scores)
    panels = [Panel(target, partial(_draw_saliency, saliency, target)) for target in targets]
    best = ", ".join(str(layer) for layer in sorted({item.best for item in saliency}))
    caption = (
        f"Saliency of layers ({saliency[0].method.upper()}; Mitra et al. 2025, eq. 3, Figs. 2 and 3): each training "
        f"split (faint) and their mean; stars: the most salient layer. By the mean over targets: layer {best}."
    )
    return Figure(name, caption, (), tuple(panels))


def _draw_weights(systems: Mapping[str, TrainingDetails], figure: Any) -> None:
    axes = figure.subplots()
    for system, details in systems.items():
        style = series_style(tuple(systems), system)
        most = max(map(len, details.weights), default=0)
        if most:
            axes.axhline(1 / most, color=INK, linestyle=":", linewidth=0.9)
        for weights in details.weights:
            axes.plot(range(len(weights)), weights, color=style["color"], linewidth=0.8, alpha=0.4)
        alike = [weights for weights in details.weights if len(weights) == most]
        if alike:
            axes.plot(range(most), np.mean(alike, axis=0), **style, markersize=4, linewidth=1.5)
    axes.set(xlabel="layer", ylabel="weight")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_saliency(files: Sequence[LayerSaliency], target: str, figure: Any) -> None:
    axes = figure.subplots()
    given = [(item.layers, item.scores[target]) for item in files if target in item.scores]
    for layers, scores in given:
        faint = 0.35 if len(given) > 1 else 1.0
        axes.plot(layers, scores, color=SERIES[0], linewidth=0.9, alpha=faint)
        axes.plot([layers[int(scores.argmax())]], [scores.max()], color=SERIES[0], marker="*", markersize=9, alpha=0.7)
    mean = _mean_over_layers(given)
    if mean is not None:
        axes.plot(given[0][0], mean, color=SERIES[0], marker="o", markersize=4, linewidth=1.6)
    axes.set(xlabel="layer", ylabel="mean saliency")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _mean_over_layers(given: Sequence[tuple[tuple[int, ...], Array]]) -> Array | None:
    """Return the mean over files, or ``None`` where they hold different layers."""
    if len({layers for layers, _ in given}) != 1:
        return None
    mean: Array = np.mean([scores for _, scores in given], axis=0)
    return mean
