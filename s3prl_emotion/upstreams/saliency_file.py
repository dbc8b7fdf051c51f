"""Read saliency files: check that they match a recipe's data and upstream, and select dimensions and layers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.fingerprint import TARGETS, audio_hash, labels_hash, names_hash
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.upstreams.saliency_format import Header, read_saliency, write_saliency
from s3prl_emotion.upstreams.salient import salient_dimensions, salient_layer
from s3prl_emotion.upstreams.streams import Stream, slices_of

MAY_DIFFER = {"layer", "dtype", "batched"}  # of an upstream's identity: checked separately, or equal within rounding
AGAIN = "run s3prl-emotion saliency again on the training data"


@dataclass(frozen=True)
class SaliencyFile:
    """A saliency file in memory.

    Attributes:
        path: of the file
        header: its metadata
        tensors: see :mod:`~s3prl_emotion.upstreams.saliency_format`
    """

    path: Path
    header: Header
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SaliencyFile:
        """Read and check a file.

        Raises:
            ConfigError: missing, damaged, of another kind or of an unknown format
        """
        path = Path(path).expanduser()
        return cls(path, *read_saliency(path))

    def write(self) -> None:
        """Write the file whole or not at all; equal content gives equal bytes.

        Raises:
            StoreError: it cannot be written; an older file is unchanged
        """
        write_saliency(self.path, self.header, self.tensors)

    @property
    def method(self) -> str:
        """One of ccs, mis and pca."""
        return self.header.method

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers, from 0."""
        return self.header.layers

    # --- checks -------------------------------------------------------------------------------------------

    def check_corpus(
        self, utterances: Sequence[Utterance], max_duration: float | None = None, classes: Sequence[str] = ()
    ) -> None:
        """Check that the file was computed from the training split; reads the split's audio files.

        Args:
            utterances: of the training split
            max_duration: ``datarc.max_duration`` (s)
            classes: of the corpus, by name; none if the head learns none

        Raises:
            LabelError: it was not; the message names the difference
            AudioError: an audio file cannot be read
        """
        theirs, where = self.header.training, f"{self.path}: was computed from"
        if len(utterances) != theirs.utterances:
            raise LabelError(
                f"{where} {theirs.utterances} training utterances ({self.header.fold}), the recipe trains on "
                f"{len(utterances)}: other data or another fold; {AGAIN}"
            )
        if names_hash(utterances) != theirs.names:
            raise LabelError(
                f"{where} other utterances, though as many ({self.header.fold}): other data or another fold; {AGAIN}"
            )
        strangers = [name for name in self.header.targets if name not in TARGETS and name not in classes]
        if strangers:
            learnt = f"has the classes {', '.join(classes)}" if classes else "learns no classes"
            raise LabelError(
                f"{self.path}: is for {', '.join(strangers)} among others, but the recipe {learnt}; {AGAIN}"
            )
        if labels_hash(utterances, self.header.targets, classes) != theirs.labels:
            raise LabelError(f"{where} other labels ({', '.join(self.header.targets)}) of these utterances; {AGAIN}")
        if max_duration != theirs.max_duration:
            raise LabelError(
                f"{where} audio cut after max_duration {theirs.max_duration} s, the recipe's is {max_duration}; {AGAIN}"
            )
        if audio_hash(utterances) != theirs.audio:
            raise LabelError(f"{where} other audio of these utterances: the files differ; {AGAIN}")

    def check_upstream(self, identity: Mapping[str, Any], layer: int | None) -> None:
        """Check that the file was computed from this upstream and covers the layer.

        The type of stored values, and whether they were computed in batches, may differ: the difference is rounding.

        Args:
            identity: values of the run's :class:`~s3prl_emotion.store.identity.Identity`
            layer: ``-l``, or ``None`` if layers are summed

        Raises:
            ConfigError: it was not, or does not; the message names the difference
        """
        theirs = self.header.upstream
        names = sorted({*theirs, *identity} - MAY_DIFFER, key=lambda name: (name != "upstream", name))
        differences = [text for name in names if (text := _difference(name, theirs.get(name), identity.get(name)))]
        if differences:
            what = differences[0] if theirs.get("upstream") != identity.get("upstream") else ", ".join(differences)
            raise ConfigError(f"{self.path}: was computed from another upstream: {what}; {AGAIN}")
        self._indices(layer)

    def check_lexical(self, streams: Sequence[Stream]) -> None:
        """Check that the file covers the lexical embeddings that a head joins to its acoustic input.

        Args:
            streams: the lexical streams of the training split; empty where none is joined early

        Raises:
            ConfigError: it does not; the message says how to fix it
        """
        theirs, what = [item for item in self.header.streams if item.lexical], "modelrc.lexical_join: early"
        if streams and not theirs:
            raise ConfigError(
                f"{self.path}: lacks the lexical embedding that {what} joins to the input; {AGAIN} and with this recipe"
            )
        if theirs and not streams:
            raise ConfigError(
                f"{self.path}: covers a lexical embedding too; set {what}, or {AGAIN} and with this recipe"
            )
        if [(item.dims, item.lexical) for item in theirs] != [(item.dims, item.lexical) for item in streams]:
            raise ConfigError(
                f"{self.path}: was computed with other transcripts, or another text encoder or layer of it; {AGAIN}"
            )

    # --- selection ----------------------------------------------------------------------------------------------

    def dimensions(self, keep: float, layer: int | None) -> Tensor:
        """Return the dimensions to keep, Mitra et al. 2024, Table 2: this share of each stream, or of all dimensions.

        If a head sums layers, the score of a dimension is its mean over them; the papers use one layer.

        Args:
            keep: share of the dimensions that are ranked together, in (0, 1]; their number is rounded to the nearest,
                halves up, at least 1
            layer: ``-l``, or ``None`` if layers are summed

        Returns:
            indices in ascending order, int64

        Raises:
            ConfigError: ``keep`` out of range, a layer that the file does not cover, or a file of components
        """
        self._refuse_components("dimensions to keep")
        scores = self.tensors["mean"][self._indices(layer)].double().mean(dim=0)
        parts = slices_of(self.header.stream_sizes)
        return torch.cat([salient_dimensions(scores[part], keep) + part.start for part in parts])

    def projection(self, keep: float, layer: int | None) -> PCAProjection:
        """Return the projection to the first principal components of a layer, Mitra et al. 2024, Table 3.

        Args:
            keep: share of the components, rounded as in :meth:`dimensions`
            layer: ``-l``; ``None`` if the upstream has one layer

        Raises:
            ConfigError: ``keep`` out of range, a layer that the file does not cover, or a file of scores
        """
        if self.method != "pca":
            raise ConfigError(f"{self.path}: holds {self.method} scores, not components; make it with --method pca")
        (index,) = self._indices(layer)
        number = len(salient_dimensions(torch.zeros(self.header.dims), keep))
        mean, components, variance = (
            self.tensors[f"pca_{name}"][index].double() for name in ("mean", "components", "variance")
        )
        return PCAProjection(mean, components[:number], variance[:number], variance.sum())

    def layer_scores(self, per_target: bool = False) -> Tensor:
        """Return the saliency of each layer, Mitra et al. 2025, eq. 3: the mean over its dimensions.

        Returns:
            ``[L]``, or ``[D, L]`` with ``per_target``, float64

        Raises:
            ConfigError: a file of components
        """
        self._refuse_components("saliency of layers")
        if per_target:
            return self.tensors["scores"].double().mean(dim=2).T
        return self.tensors["mean"].double().mean(dim=1)

    def salient_layer(self) -> int:
        """Return the number of the most salient layer; of equal ones the lowest.

        Raises:
            ConfigError: a file of components
        """
        return self.layers[salient_layer(self.layer_scores())]

    # --- inside ----------------------------------------------------------------------------------------------------

    def _refuse_components(self, what: str) -> None:
        if self.method == "pca":
            raise ConfigError(f"{self.path}: holds principal components, no {what}; make it with --method ccs or mis")

    def _indices(self, layer: int | None) -> list[int]:
        """Return the indices of a layer in the tensors, or of all layers if they are summed."""
        available = self.header.available
        has = f"{self.path}: holds layer {', '.join(map(str, self.layers))}{f' of {available}' if available else ''}"
        if layer is None:
            if len(self.layers) != available:
                raise ConfigError(
                    f"{has}, but without -l all are summed; give -l {self.layers[0]}, or compute saliency without -l"
                )
            if self.method == "pca" and available > 1:
                raise ConfigError(f"{self.path}: components are of one layer, but without -l all are summed; give -l")
            return list(range(available))
        number = layer + (available or 0) if layer < 0 else layer
        if number not in self.layers:
            raise ConfigError(f"{has}, not -l {layer}; compute the saliency of that layer, or without -l")
        return [self.layers.index(number)]


def _difference(name: str, theirs: Any, ours: Any) -> str:
    """Return how two values differ, or an empty string."""
    if _as_text(theirs) == _as_text(ours):
        return ""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(key for key in {*theirs, *ours} if _as_text(theirs.get(key)) != _as_text(ours.get(key)))
        return f"{name} ({', '.join(keys)})"
    return f"{name} {theirs} (here {ours})" if name in ("upstream", "selection") else name


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class PCAProjection:
    """A fitted projection in plain float64 tensors.

    Attributes:
        mean: ``[N]``
        components: orthonormal rows by falling variance, ``[K, N]``; the largest entry of each is positive
        variance: along each component (population, ÷ U), ``[K]``
        total_variance: over all N dimensions, scalar
    """

    mean: Tensor
    components: Tensor
    variance: Tensor
    total_variance: Tensor

    def transform(self, features: Tensor) -> Tensor:
        """Project ``[..., N]`` to ``[..., K]``, in the features' own precision."""
        return (features - self.mean.to(features)) @ self.components.to(features).T
