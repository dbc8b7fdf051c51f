"""Compute saliency from the utterances of a training split, in one pass through the upstream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.fingerprint import by_name, target_values
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.files.progress import progress
from s3prl_emotion.loading.dataset import UtteranceDataset, collate
from s3prl_emotion.processes.loaders import Loader
from s3prl_emotion.saliency.checks import in_range
from s3prl_emotion.saliency.moments import StreamedMoments
from s3prl_emotion.saliency.mutual_information import mutual_information_saliency
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.upstreams.source import UpstreamSource
from s3prl_emotion.upstreams.streams import slices_of

MOST_MEMORY = 8e9  # bytes of memory that a pass may use
REMEDY = "set max_duration in the recipe (-o config.downstream_expert.datarc.max_duration=S), or leave it out"
MOST_COMPONENTS = 64e6  # bytes of principal components in a file


def compute_saliency(
    source: UpstreamSource,
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    method: str,
    max_duration: float | None = None,
    workers: int = 0,
    classes: Sequence[str] = (),
    lexical: Mapping[str, Tensor] | None = None,
    sizes: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Compute the saliency of all layers of a source, or of the layer that it selects.

    ``ccs`` and ``pca`` need memory for moments, O(L N²), whatever the corpus's size; ``mis`` keeps the utterance means,
    O(U L N), and processes them layer by layer.

    Args:
        source: the upstream
        utterances: utterances of the training split, in any order
        targets: names of :data:`~s3prl_emotion.corpora.fingerprint.TARGETS` and of ``classes``
        method: ccs, mis or pca
        max_duration: duration at which training cuts audio (s); ``None`` for no limit
        workers: number of processes that decode audio
        classes: of the corpus, by name
        lexical: embedding ``[E]`` of each utterance by name, joined to each layer's dimensions; ``None`` for none
        sizes: numbers of dimensions of the streams that are ranked on their own; ``None`` to rank all together

    Returns:
        tensors of a saliency file, see :mod:`~s3prl_emotion.upstreams.saliency_format`

    Raises:
        UsageError: so many layers and dimensions that memory or the file would not hold them
        AudioError: unreadable audio, or the upstream fails on it, gives no frame or values that are not finite
        LabelError: an utterance lacks a target
    """
    utterances = by_name(utterances)
    labels = target_values(utterances, targets, classes)
    layers, dims = len(layers_of(source)), int(source.featurizer.output_dim)
    rows = [] if lexical is None else [lexical[item.name].double() for item in utterances]
    dims += len(rows[0]) if rows else 0
    check_size(method, layers, dims, len(utterances))
    means = utterance_means(source, utterances, max_duration, workers)
    if rows:  # an embedding that is repeated over an utterance's frames is its own mean over them
        means = (torch.cat([mean, row.expand(layers, -1)], dim=1) for mean, row in zip(means, rows, strict=True))
    sizes = sizes or [dims]
    if method == "mis":
        return _ranked(_information(source, means, labels, torch.empty(layers, len(utterances), dims), sizes), sizes)
    moments = StreamedMoments(layers, dims, len(targets))
    for mean, label in zip(means, labels, strict=True):
        moments.update(mean, label)
    if method == "ccs":
        return _ranked(moments.cross_correlation_saliency(per_target=True, sizes=sizes), sizes)
    fitted = [moments.pca(layer, dims) for layer in range(layers)]
    names = ("mean", "components", "variance")
    return {f"pca_{name}": torch.stack([getattr(item, name) for item in fitted]).float() for name in names}


def layers_of(source: UpstreamSource) -> tuple[int, ...]:
    """Return the numbers, from 0, of the layers that a source returns."""
    layer = source.featurizer.layer
    return tuple(range(source.layers)) if layer is None else (layer,)


def available_layers(source: UpstreamSource) -> int | None:
    """Return how many layers the upstream has; ``None`` where layers above the selected one may have been cut off."""
    cut = source.uncut is not None and source.layers == (source.featurizer.layer or 0) + 1
    return None if cut else source.layers


def identity_of(source: UpstreamSource) -> Identity:
    """Return what the features of a source depend on; the same with and without a store."""
    return source.identity() if source.store is None else source.store.identity


def check_size(method: str, layers: int, dims: int, utterances: int) -> None:
    """Refuse a computation that would not fit into memory or the file, before it starts.

    Raises:
        UsageError: says how much it would need, and how to need less
    """
    shape, less = f"{layers} layers of {dims} dimensions", "; select one layer with -l" if layers > 1 else ""
    memory = 4 * layers * dims * utterances if method == "mis" else 8 * layers * dims * dims
    if memory > MOST_MEMORY:
        what = f"{method} of {shape}{f' and {utterances} utterances' if method == 'mis' else ''}"
        raise UsageError(
            f"--method {method}: {what} takes {memory / 1e9:.1f} GB; the limit is {MOST_MEMORY / 1e9:.0f} GB{less}"
        )
    if method == "pca" and 4 * layers * dims * dims > MOST_COMPONENTS and layers > 1:
        raise UsageError(
            f"--method pca: components of {shape} would make a file of {4 * layers * dims * dims / 1e6:.0f} MB; the "
            f"limit is {MOST_COMPONENTS / 1e6:.0f} MB{less}"
        )


def utterance_means(
    source: UpstreamSource, utterances: Sequence[Utterance], max_duration: float | None, workers: int = 0
) -> Iterator[Tensor]:
    """Yield the mean of each dimension over the frames of each utterance, ``[L, N]``, in the order given.

    They are those that a store keeps, rounded to float32, as float64.

    Raises:
        AudioError: as :func:`compute_saliency`
    """
    source.memory.remedy = REMEDY
    source.keep_means()
    dataset = UtteranceDataset(utterances, pre_load=False, max_duration=max_duration)
    loader = Loader(dataset, workers, "datarc.num_workers", collate_fn=collate, generator=torch.Generator())
    for waveforms, _, names in progress(loader, "saliency", "utterances"):
        mean = next(source.means([torch.from_numpy(waveforms[0])], names)).double()
        if not in_range(mean):
            raise AudioError(f"{names[0]}: the upstream's features are not finite; check its audio, or leave it out")
        yield mean


def _information(
    source: UpstreamSource, means: Iterator[Tensor], labels: Tensor, buffer: Tensor, sizes: Sequence[int]
) -> Tensor:
    """Return the MIS of each layer, ``[L, D, N]``; ``buffer`` receives the utterance means, ``[L, U, N]``."""
    for number, mean in enumerate(means):
        buffer[:, number] = mean
    bar = progress(buffer, "mutual information", "layers", hidden=len(buffer) == 1)
    scores = []
    for layer in bar:
        values = layer.to(source.device)
        streams = [mutual_information_saliency(values[:, part], labels, True).cpu() for part in slices_of(sizes)]
        scores.append(torch.cat(streams, dim=1))
    return torch.stack(scores)


def _ranked(scores: Tensor, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Return scores ``[L, D, N]`` with their mean over the targets and its ranks within each stream."""
    mean = scores.mean(dim=1).float()
    parts = [mean[:, part] for part in slices_of(sizes)]
    ranks = [part.argsort(dim=1, descending=True, stable=True).argsort(dim=1) for part in parts]
    return {"scores": scores.float(), "mean": mean, "ranks": torch.cat(ranks, dim=1)}
