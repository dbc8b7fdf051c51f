"""Figures of training and of layers: learning curves, learned weights, saliency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.report.drawing import INK, SERIES, Figure, Panel, series_style
from s3prl_emotion.report.evidence import TrainingEvidence
from s3prl_emotion.report.traces import Array, Curve, LayerSaliency, mean_curve, thinned

NAMES = {
    "dev-acc": "dev: accuracy",
    "dev-mean_CCC": "dev: mean CCC",
    "dev-loss": "dev: loss",
    "train-loss": "train: loss",
}


def training_figures(
    systems: Mapping[str, TrainingEvidence], saliency: Sequence[LayerSaliency], stem: str
) -> list[Figure]:
    """Figures of an upstream that have something to show.

    Args:
        systems: of the report, in their order
        saliency: of layers, as its files have it
        stem: of the figures' names
    """
    names = tuple(systems)
    found = []
    curves = dict.fromkeys(name for system in systems.values() for run in system.curves for name in run)
    order = sorted(curves, key=lambda name: (name == "train-loss", name == "dev-loss", name))
    if order:
        panels = [Panel(NAMES.get(name, name), partial(_draw_curves, systems, name)) for name in order]
        caption = (
            "Learning curves: each run (faint) and the mean over runs as far as all of them go. Loss is that of the "
            "training batches since the last time it was logged, and of all of dev's batches."
        )
        found.append(Figure("-".join(filter(None, [stem, "curves"])), "", caption, names, tuple(panels), "curves"))
    if any(system.weights for system in systems.values()):
        panels = [Panel("weights of layers", partial(_draw_weights, systems))]
        caption = (
            "Weights that were learnt of the upstream's layers (softmax), in the best dev checkpoint: each run (faint) "
            "and the mean over runs; dotted: all alike."
        )
        found.append(
            Figure("-".join(filter(None, [stem, "layer_weights"])), "", caption, names, tuple(panels), "layer_weights")
        )
    return found + _saliency(saliency, "-".join(filter(None, [stem, "layer_saliency"])))


def _draw_curves(systems: Mapping[str, TrainingEvidence], name: str, figure: Any) -> None:
    axes = figure.subplots()
    for system, found in systems.items():
        colour = series_style(tuple(systems), system)["color"]
        runs = [run[name] for run in found.curves if name in run]
        mean = mean_curve(runs) if runs else None
        for curve in map(thinned, runs):
            single = {"marker": "."} if len(curve.steps) == 1 else {}
            axes.plot(curve.steps, curve.values, color=colour, linewidth=0.8, alpha=0.4 if mean else 1.0, **single)
        if mean is not None:
            _draw_mean(axes, thinned(mean), systems, system)
    axes.set_xlabel("steps")
    axes.margins(x=0.02)


def _draw_mean(axes: Any, curve: Curve, systems: Mapping[str, Any], system: str) -> None:
    style = series_style(tuple(systems), system)
    every = max(1, len(curve.steps) // 8)
    axes.plot(curve.steps, curve.values, **style, markersize=4, markevery=every, linewidth=1.5)


def _draw_weights(systems: Mapping[str, TrainingEvidence], figure: Any) -> None:
    axes = figure.subplots()
    for system, found in systems.items():
        style = series_style(tuple(systems), system)
        most = max(map(len, found.weights), default=0)
        if most:
            axes.axhline(1 / most, color=INK, linestyle=":", linewidth=0.9)
        for weights in found.weights:
            axes.plot(range(len(weights)), weights, color=style["color"], linewidth=0.8, alpha=0.4)
        alike = [weights for weights in found.weights if len(weights) == most]
        if alike:
            axes.plot(range(most), np.mean(alike, axis=0), **style, markersize=4, linewidth=1.5)
    axes.set(xlabel="layer", ylabel="weight")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _saliency(found: Sequence[LayerSaliency], name: str) -> list[Figure]:
    """Saliency of layers for each target; Mitra et al. 2025, Figs. 2 and 3."""
    figures = []
    methods = dict.fromkeys(item.method for item in found)
    for method in methods:
        files = [item for item in found if item.method == method]
        targets = dict.fromkeys(target for item in files for target in item.scores)
        panels = [Panel(target, partial(_draw_saliency, files, target)) for target in targets]
        best = ", ".join(str(layer) for layer in sorted({item.best for item in files}))
        caption = (
            f"Saliency of layers ({method.upper()}; Mitra et al. 2025, eq. 3, Figs. 2 and 3): of each training split "
            f"(faint) and their mean; stars: the most salient. By the mean over targets: layer {best}."
        )
        figures.append(
            Figure(name if len(methods) == 1 else f"{name}-{method}", "", caption, (), tuple(panels), "layer_saliency")
        )
    return figures


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
    """Mean over files that hold the same layers."""
    if len({layers for layers, _ in given}) != 1:
        return None
    mean: Array = np.mean([scores for _, scores in given], axis=0)
    return mean
