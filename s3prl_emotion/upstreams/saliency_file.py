"""The file that recipes name: what to keep of a representation, and whether it was computed from what is trained on."""

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
from s3prl_emotion.corpora.fingerprint import audio_hash, labels_hash, names_hash
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.upstreams.saliency_format import Header, read_saliency, write_saliency
from s3prl_emotion.upstreams.salient import salient_dimensions, salient_layer

MAY_DIFFER = {"layer", "dtype", "batched"}  # of an upstream's identity: checked apart, or equal within rounding
AGAIN = "run s3prl-emotion saliency again on what is trained on"


@dataclass(frozen=True)
class SaliencyFile:
    """A saliency file in memory.

    Attributes:
        path: where it lies
        header: what it says of itself
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
            StoreError: no room, or no right to write there; an older file is untouched
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

    # --- whether it fits -------------------------------------------------------------------------------------------

    def check_corpus(self, utterances: Sequence[Utterance], max_duration: float | None = None) -> None:
        """Refuse another training split than the one that the file was computed from; reads its audio files.

        Args:
            utterances: what is trained on
            max_duration: ``datarc.max_duration`` (s)

        Raises:
            LabelError: says what differs
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
        if labels_hash(utterances, self.header.targets) != theirs.labels:
            raise LabelError(f"{where} other labels ({', '.join(self.header.targets)}) of these utterances; {AGAIN}")
        if max_duration != theirs.max_duration:
            raise LabelError(
                f"{where} audio cut after max_duration {theirs.max_duration} s, the recipe's is {max_duration}; {AGAIN}"
            )
        if audio_hash(utterances) != theirs.audio:
            raise LabelError(f"{where} other audio of these utterances: the files differ; {AGAIN}")

    def check_upstream(self, identity: Mapping[str, Any], layer: int | None) -> None:
        """Refuse another upstream, and a layer that the file does not cover.

        The type of stored values, and whether they were computed in batches, may differ: that is rounding.

        Args:
            identity: values of the run's :class:`~s3prl_emotion.store.identity.Identity`
            layer: ``-l``, or ``None`` where layers are summed

        Raises:
            ConfigError: says what differs
        """
        theirs = self.header.upstream
        names = sorted({*theirs, *identity} - MAY_DIFFER, key=lambda name: (name != "upstream", name))
        differing = [_difference(name, theirs.get(name), identity.get(name)) for name in names]
        found = [text for text in differing if text]
        if found:
            what = found[0] if theirs.get("upstream") != identity.get("upstream") else ", ".join(found)
            raise ConfigError(f"{self.path}: was computed from another upstream: {what}; {AGAIN}")
        self._places(layer)

    # --- what it says ----------------------------------------------------------------------------------------------

    def dimensions(self, keep: float, layer: int | None) -> Tensor:
        """Which dimensions to keep, Mitra et al. 2024, Table 2.

        Where a head sums layers, a dimension counts with its mean over them; the papers take one layer.

        Args:
            keep: share of the dimensions, in (0, 1], rounded to the nearest, halves up, at least 1
            layer: ``-l``, or ``None`` where layers are summed

        Returns:
            indices in ascending order, int64

        Raises:
            ConfigError: ``keep`` out of range, a layer that the file does not cover, or a file of components
        """
        self._refuse_components("dimensions to keep")
        return salient_dimensions(self.tensors["mean"][self._places(layer)].double().mean(dim=0), keep)

    def projection(self, keep: float, layer: int | None) -> PCAProjection:
        """Projection to the first principal components of a layer, Mitra et al. 2024, Table 3.

        Args:
            keep: share of the components, counted as :meth:`dimensions` does
            layer: ``-l``; ``None`` where the upstream has one layer

        Raises:
            ConfigError: ``keep`` out of range, a layer that the file does not cover, or a file of scores
        """
        if self.method != "pca":
            raise ConfigError(f"{self.path}: holds {self.method} scores, no components; make it with --method pca")
        (place,) = self._places(layer)
        number = len(salient_dimensions(torch.zeros(self.header.dims), keep))
        mean, components, variance = (
            self.tensors[f"pca_{name}"][place].double() for name in ("mean", "components", "variance")
        )
        return PCAProjection(mean, components[:number], variance[:number], variance.sum())

    def layer_scores(self, per_target: bool = False) -> Tensor:
        """Saliency of each layer, Mitra et al. 2025, eq. 3: the mean over its dimensions.

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
        """Number of the most salient layer; of equal ones the lowest.

        Raises:
            ConfigError: a file of components
        """
        return self.layers[salient_layer(self.layer_scores())]

    # --- inside ----------------------------------------------------------------------------------------------------

    def _refuse_components(self, what: str) -> None:
        if self.method == "pca":
            raise ConfigError(f"{self.path}: holds principal components, no {what}; make it with --method ccs or mis")

    def _places(self, layer: int | None) -> list[int]:
        """Places in the tensors of a layer, or of all where they are summed."""
        available = self.header.available
        held = f"{self.path}: holds layer {', '.join(map(str, self.layers))}{f' of {available}' if available else ''}"
        if layer is None:
            if len(self.layers) != available:
                raise ConfigError(
                    f"{held}, but without -l all are summed; give -l {self.layers[0]}, or compute saliency without -l"
                )
            if self.method == "pca" and available > 1:
                raise ConfigError(f"{self.path}: components are of one layer, but without -l all are summed; give -l")
            return list(range(available))
        number = layer + (available or 0) if layer < 0 else layer
        if number not in self.layers:
            raise ConfigError(f"{held}, not -l {layer}; compute the saliency of that layer, or without -l")
        return [self.layers.index(number)]


def _difference(name: str, theirs: Any, ours: Any) -> str:
    """Say what differs; empty where nothing does."""
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
    """A fitted projection, in plain float64 tensors.

    Attributes:
        mean: ``[N]``
        components: orthonormal rows, most variance first, ``[K, N]``; the largest entry of each is positive
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
