"""Format a saliency file as text: the CSV table beside it, and the ranking of layers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from s3prl_emotion.errors import visible
from s3prl_emotion.upstreams.saliency_file import SaliencyFile


def table(saliency: SaliencyFile) -> str:
    """Return CSV with scores and rank of each dimension of each layer; for ``pca``, with each component's variance."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(_components(saliency) if saliency.method == "pca" else _dimensions(saliency))
    return text.getvalue()


def layer_ranking(saliency: SaliencyFile) -> str:
    """Return lines of text with the layers, the most salient first."""
    each, mean = saliency.layer_scores(per_target=True).T, saliency.layer_scores()
    names = ["mean", *map(visible, saliency.header.targets)]
    widths = [max(12, len(name) + 2) for name in names]
    lines = ["rank  layer" + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    best = saliency.salient_layer()
    for rank, index in enumerate(mean.argsort(descending=True, stable=True).tolist(), start=1):
        number, values = saliency.layers[index], [mean[index].item(), *each[index].tolist()]
        mark = "  most salient" if number == best else ""
        lines.append(
            f"{rank:>4}{number:>7}"
            + "".join(f"{value:>{width}.4f}" for value, width in zip(values, widths, strict=True))
            + mark
        )
    return "\n".join(lines) + "\n"


def _dimensions(saliency: SaliencyFile) -> Iterator[list[str]]:
    streams = [visible(item.name) for item in saliency.header.streams for _ in range(item.dims)]
    names = [*map(visible, saliency.header.targets), "mean", "rank"]
    yield ["layer", "dimension", *names, *(["stream"] if streams else [])]
    scores, mean, ranks = (saliency.tensors[name].tolist() for name in ("scores", "mean", "ranks"))
    for index, layer in enumerate(saliency.layers):
        for k in range(saliency.header.dims):
            values = [*(target[k] for target in scores[index]), mean[index][k]]
            stream = streams[k : k + 1]
            yield [str(layer), str(k), *(f"{value:.9g}" for value in values), str(ranks[index][k]), *stream]


def _components(saliency: SaliencyFile) -> Iterator[list[str]]:
    yield ["layer", "component", "variance", "share"]
    for index, layer in enumerate(saliency.layers):
        variance = saliency.tensors["pca_variance"][index].double()
        shares = variance / variance.sum().clamp(min=1e-300)
        for k, (value, share) in enumerate(zip(variance.tolist(), shares.tolist(), strict=True)):
            yield [str(layer), str(k), f"{value:.9g}", f"{share:.9g}"]
