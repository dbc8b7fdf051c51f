"""Draw the figures of a saliency file: sorted curves, scatter over targets, layers, variance of components."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.figures.canvas import save_figure
from s3prl_emotion.upstreams.saliency_file import SaliencyFile
from s3prl_emotion.upstreams.salient import salient_dimensions
from s3prl_emotion.upstreams.streams import slices_of

COLOURS = {"activation": "tab:orange", "valence": "tab:blue", "dominance": "tab:green"}
OTHER = ("tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan", "tab:gray", "gold", "navy")
SCATTERED = ("valence", "activation", "dominance")  # which of many targets: those of Mitra et al. 2024, Fig. 2


def draw(saliency: SaliencyFile, keep: float) -> list[Path]:
    """Draw the figures of a saliency file beside it.

    Args:
        saliency: the file
        keep: share of the dimensions that is shown as kept

    Returns:
        paths: ``STEM_sorted.png``, ``STEM_scatter.png`` (of two targets or more) and ``STEM_layers.png`` (of several
        layers); of ``pca`` ``STEM_variance.png``
    """
    drawn = []
    for name, figure in _figures(saliency, keep):
        drawn.append(save_figure(figure, saliency.path.with_name(f"{saliency.path.stem}_{name}.png")))
    return drawn


def _figures(saliency: SaliencyFile, keep: float) -> Iterator[tuple[str, Any]]:
    if saliency.method == "pca":
        yield "variance", plot_variance(saliency, keep)
        return
    yield "sorted", plot_sorted(saliency, keep)
    if len(saliency.header.targets) > 1:
        yield "scatter", plot_scatter(saliency, keep)
    if len(saliency.layers) > 1:
        yield "layers", plot_layers(saliency)


def plot_sorted(saliency: SaliencyFile, keep: float) -> Any:
    """Plot the sorted scores of each target (Mitra et al. 2024, Fig. 1), in the most salient layer and averaged.

    Streams that are ranked on their own have a panel each, in the most salient layer.
    """
    panels, names = _sorted_panels(saliency), saliency.header.targets
    figure, row = _panels(len(panels), 6.0 if len(panels) < 3 else 4.2, 4.2)
    for axes, (title, values) in zip(row, panels, strict=True):
        dims = values.shape[1]
        marker = "." if dims < 50 else None
        for name, colour, target in zip(names, _colours(saliency), values, strict=True):
            axes.plot(target.sort().values.tolist(), color=colour, linewidth=1.6, marker=marker, label=name)
        if len(names) > 1:
            mean = values.double().mean(dim=0).sort().values.tolist()
            axes.plot(mean, color="black", linewidth=1.2, linestyle="--", marker=marker, label="mean")
        _mark_kept(axes, dims, keep)
        axes.set(xlabel="dimensions, each curve sorted", ylabel=f"saliency ({saliency.method.upper()})", title=title)
        axes.set_ylim(bottom=0)
    if len(names) > 4:
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    else:
        row[0].legend(loc="upper left", frameon=False)
    return figure


def _sorted_panels(saliency: SaliencyFile) -> list[tuple[str, Tensor]]:
    """Return the panels of :func:`plot_sorted`: a title, and scores ``[D, N]``."""
    index, scores, header = saliency.layers.index(saliency.salient_layer()), saliency.tensors["scores"], saliency.header
    if len(header.stream_sizes) > 1:
        parts = zip(header.streams, slices_of(header.stream_sizes), strict=True)
        return [(item.name, scores[index][:, part]) for item, part in parts]
    panels = [(_title(saliency), scores[index])]
    if len(scores) > 1:
        panels.append((f"mean over {len(scores)} layers", scores.double().mean(dim=0)))
    return panels


def _mark_kept(axes: Any, dims: int, keep: float) -> None:
    """Mark the kept dimensions, at the right of the curves, with a line."""
    left = dims - len(salient_dimensions(torch.zeros(dims), keep))
    if left:
        axes.axvline(left - 0.5, color="0.5", linewidth=1.0, linestyle=":")
        position = {"xycoords": ("data", "axes fraction"), "xytext": (4, 0), "textcoords": "offset points"}
        axes.annotate(f"{100 * keep:.3g} % kept", (left - 0.5, 0.02), color="0.35", fontsize=9, **position)


def plot_scatter(saliency: SaliencyFile, keep: float) -> Any:
    """Plot each dimension over pairs of targets, the kept ones filled (Mitra et al. 2024, Fig. 2)."""
    layer = saliency.salient_layer()
    index, targets = saliency.layers.index(layer), saliency.header.targets
    chosen = [name for name in SCATTERED if name in targets] if set(SCATTERED) <= set(targets) else targets[:3]
    scores, mean = saliency.tensors["scores"][index], saliency.tensors["mean"][index]
    kept = torch.zeros(saliency.header.dims, dtype=torch.bool)
    kept[saliency.dimensions(keep, layer)] = True
    pairs = list(itertools.combinations(chosen, 2))
    figure, row = _panels(len(pairs), 4.2, 4.2)
    filled = None
    for axes, (first, second) in zip(row, pairs, strict=True):
        x, y = scores[targets.index(first)], scores[targets.index(second)]
        size = 14.0 if saliency.header.dims > 200 else 28.0
        axes.scatter(x[~kept], y[~kept], s=size, facecolors="none", edgecolors="0.6", linewidths=0.7)
        filled = axes.scatter(x[kept], y[kept], s=size, c=mean[kept], cmap="viridis", edgecolors="0.3", linewidths=0.3)
        axes.set(xlabel=f"saliency for {first}", ylabel=f"saliency for {second}", xlim=_range(x), ylim=_range(y))
    figure.colorbar(filled, ax=row, label="mean saliency", pad=0.01)
    figure.suptitle(f"{_title(saliency)}: filled, the {int(kept.sum())} of {len(kept)} dimensions that are kept")
    return figure


def plot_layers(saliency: SaliencyFile) -> Any:
    """Plot the saliency of layers for each target and their mean (Mitra et al. 2025, Figs. 2-3)."""
    figure, (axes,) = _panels(1, 8.0, 4.2)
    for name, colour, curve in zip(
        saliency.header.targets, _colours(saliency), saliency.layer_scores(per_target=True), strict=True
    ):
        axes.plot(saliency.layers, curve.tolist(), color=colour, marker="o", markersize=4, linewidth=1.4, label=name)
    mean, best, targets = saliency.layer_scores(), saliency.salient_layer(), len(saliency.header.targets)
    if targets > 1:
        label = f"mean of the {targets}"
        axes.plot(saliency.layers, mean.tolist(), color="black", linestyle="--", linewidth=1.2, label=label)
    top = mean[saliency.layers.index(best)].item()
    label = f"most salient: layer {best}"
    axes.plot([best], [top], color="black", marker="*", markersize=13, linestyle="none", label=label)
    axes.set(xlabel="layer", ylabel=f"mean saliency ({saliency.method.upper()})", title=_upstream(saliency))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.08)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def plot_variance(saliency: SaliencyFile, keep: float) -> Any:
    """Plot the cumulative share of variance of the components, a curve per layer."""
    import matplotlib

    figure, (axes,) = _panels(1, 6.5, 4.2)
    variance = saliency.tensors["pca_variance"].double()
    shares = variance.cumsum(dim=1) / variance.sum(dim=1, keepdim=True).clamp(min=1e-300)
    colours = matplotlib.colormaps["viridis"].resampled(max(2, len(shares)))
    numbers = list(range(1, saliency.header.dims + 1))
    for index, (layer, share) in enumerate(zip(saliency.layers, shares.tolist(), strict=True)):
        axes.plot(numbers, share, color=colours(index), linewidth=1.4, label=f"layer {layer}")
    kept = len(salient_dimensions(torch.zeros(saliency.header.dims), keep))
    axes.axvline(kept, color="0.5", linewidth=1.0, linestyle=":", label=f"{100 * keep:.3g} % kept")
    axes.set(xlabel="components", ylabel="share of the variance", title=_upstream(saliency), ylim=(0, 1.03))
    axes.legend(frameon=False, fontsize=9, ncols=1 + len(shares) // 10, loc="lower right")
    return figure


def _panels(number: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure, which needs no screen, and its panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # deferred: half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * number, height), layout="constrained")
    FigureCanvasAgg(figure)
    row = list(figure.subplots(1, number, squeeze=False)[0])
    for axes in row:
        axes.grid(visible=True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, row


def _range(values: Tensor) -> tuple[float, float]:
    """Return an axis range from 0 with a margin at the top; not empty where all values are 0."""
    return 0.0, 1.05 * float(values.max()) or 1.0


def _colours(saliency: SaliencyFile) -> list[str]:
    others = itertools.cycle(OTHER)
    return [COLOURS.get(name) or next(others) for name in saliency.header.targets]


def _title(saliency: SaliencyFile) -> str:
    layer = saliency.salient_layer()
    note = " (most salient)" if len(saliency.layers) > 1 else ""
    return f"{_upstream(saliency)}, layer {layer}{note}"


def _upstream(saliency: SaliencyFile) -> str:
    return str(saliency.header.upstream.get("upstream"))
