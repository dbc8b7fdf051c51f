"""Keep the mean of every layer over an utterance's frames, beside its frames or instead of them.

Means are records ``[L, 1, D]``, float32, in folders inside the collection of their frames (``upkeep.py`` knows them)::

    means                means of the upstream's own output
    means-normalised     the same of frames that were normalised over channels, as --upstream_feature_normalize does
    …-of-stored          means of half-precision frames of the store, which are rounded
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from s3prl_emotion.store.identity import Identity
from s3prl_emotion.store.segments import DTYPE_NAMES
from s3prl_emotion.store.store import FeatureStore

FRAMES, MEANS, BOTH = "frames", "means", "both"
KEEP = (MEANS, FRAMES, BOTH)
NORMALISED, OF_STORED = "-normalised", "-of-stored"


def mean_of(stack: Tensor, normalize: bool = False) -> Tensor:
    """Return the mean over the frames of a stack ``[L, T, D]``, T >= 1: ``[L, D]``, float32, on the stack's device.

    The mean is computed in float64 from float32 features, layer by layer, since a float64 copy of all would be large.

    Args:
        stack: layers of one utterance
        normalize: normalise each frame over its channels first, as ``--upstream_feature_normalize`` does
    """
    rows = []
    for layer in stack:
        layer = layer.float()
        if normalize:
            layer = functional.layer_norm(layer, layer.shape[-1:])
        rows.append(layer.mean(dim=0, dtype=torch.float64).float())
    return torch.stack(rows)


def means_folders(collection: Path) -> list[Path]:
    """Return the folders of a collection that hold means."""
    return sorted(path for path in collection.glob(f"{MEANS}*") if path.is_dir())


@dataclass(frozen=True)
class MeansIdentity(Identity):
    """The identity of means: that of their frames, whether these were normalised, and whether they were stored ones."""

    folder: str

    @classmethod
    def of(cls, frames: Identity, normalize: bool, of_stored: bool = False) -> MeansIdentity:
        """Return the identity of the means of frames."""
        values: dict[str, Any] = {"dtype": "float32", "statistic": "mean", "normalize": normalize}
        values["of_stored"] = frames.values["dtype"] if of_stored else None
        name = f"{MEANS}{NORMALISED if normalize else ''}{OF_STORED if of_stored else ''}"
        return cls({**frames.values, **values}, f"{frames.id}/{name}")

    @cached_property
    def id(self) -> str:
        """Path of the folder in the store."""
        return self.folder


class MeanStore:
    """Means of one upstream, by waveform: its own, and others in the store from which they can be read too.

    Args:
        frames: the collection of the upstream's frames
        normalize: whether frames are normalised over channels before the mean

    Raises:
        StoreError: one of a newer format
    """

    def __init__(self, frames: FeatureStore, normalize: bool) -> None:
        self.frames, self.normalize = frames, normalize
        identity, self.layer = frames.identity, frames.identity.values["layer"]
        self.own = self._open(identity)
        self.of_stored = self._open(identity, True) if frames.dtype != torch.float32 else self.own
        self.others: list[FeatureStore] = []
        self.whole: list[FeatureStore] = []  # of all layers, where a single one is selected
        for dtype in DTYPE_NAMES:
            for layer in dict.fromkeys((self.layer, None)):
                variant = identity.variant(dtype=dtype, layer=layer)
                name = MeansIdentity.of(variant, normalize).id
                if variant.id != identity.id and (frames.root / name).is_dir():
                    (self.others if layer == self.layer else self.whole).append(self._open(variant))
        self.collections = list(dict.fromkeys((self.own, *self.others, *self.whole, self.of_stored)))

    def __len__(self) -> int:
        return max(map(len, self.collections))

    def __contains__(self, key: bytes) -> bool:
        return any(key in collection for collection in self.collections)

    @property
    def writable(self) -> bool:
        """Whether means can be added."""
        return self.own.writable

    def get(self, key: bytes, samples: int) -> Tensor | None:
        """Return the means ``[L, D]`` of a waveform with ``samples`` samples, mapped from the file, or ``None``."""
        for collection in self.collections:
            if (row := collection.get(key, samples)) is not None:
                return row[self.layer : self.layer + 1, 0] if collection in self.whole else row[:, 0]
        return None

    def put(self, key: bytes, mean: Tensor, samples: int, of_stored: bool = False) -> None:
        """Store the means ``[L, D]`` of a waveform.

        Args:
            key: of the waveform
            mean: float32
            samples: of the waveform
            of_stored: whether they were computed from stored frames, and not from the upstream's output

        Raises:
            StoreError: no space on the disk
        """
        self.frames.make()
        (self.of_stored if of_stored else self.own).put(key, mean.unsqueeze(1), samples)

    def refresh(self, older_than: float = 0.0) -> None:
        """Look for records of other processes, unless the last look is less than ``older_than`` seconds ago."""
        for collection in self.collections:
            collection.refresh(older_than)

    def close(self) -> None:
        """Close all files."""
        for collection in self.collections:
            collection.close()

    def _open(self, frames: Identity, of_stored: bool = False) -> FeatureStore:
        identity = MeansIdentity.of(frames, self.normalize, of_stored)
        return FeatureStore(self.frames.root, identity, self.frames.device, self.frames.ckpt)
