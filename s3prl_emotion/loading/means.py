"""Load batches of means over utterances' frames instead of waveforms, from one tensor in memory where it fits."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from s3prl_emotion.distributed import world
from s3prl_emotion.files.progress import progress
from s3prl_emotion.loading.dataset import DECODING_THREADS, STAND_IN, UtteranceDataset
from s3prl_emotion.store import utterance_key
from s3prl_emotion.upstreams.free_memory import free_memory

if TYPE_CHECKING:
    from s3prl_emotion.upstreams.source import UpstreamSource

logger = logging.getLogger(__name__)
READ_TOGETHER = 64  # utterances whose waveforms are in memory at once
READ_AT_ONCE = 16  # utterances that threads of the upstream compute together
SHARE = 0.7  # of the free memory that the means of a split may take; the rest is left to the training
_warned: set[str] = set()
_held: WeakSet[MeansDataset] = WeakSet()  # those with a table


@dataclass(frozen=True)
class MeanRows:
    """The means of a batch of utterances, which stand where the waveforms stand in other batches."""

    dataset: MeansDataset
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self) -> Tensor:
        """Return the means ``[B, L, D]``, float32, on the upstream's device."""
        return self.dataset.rows(self.indices)


Batch = tuple[int, Any, list[Any]]  # its number in the epoch, waveforms or means, the rest


def joined(group: Sequence[Batch]) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return batches as one: their waveforms, the rest, and for several batches of means their ``sizes``."""
    if len(group) == 1:
        return group[0][1], group[0][2], {}
    parts: list[MeanRows] = [means for _, means, _ in group]
    means = MeanRows(parts[0].dataset, [index for part in parts for index in part.indices])
    others = [[item for part in column for item in part] for column in zip(*(rest for *_, rest in group), strict=True)]
    return means, others, {"sizes": [len(part) for part in parts]}


class MeansDataset(Dataset[Any]):
    """The means of a split's utterances, with class index and name.

    An utterance's audio is read when it is needed for the first time, for its key in the store; from then on its means
    are a row of the table, or are read from the store where the table does not fit into memory.

    Args:
        dataset: reads the waveforms
        source: gives their means
        split: name of the split, for messages
        pre_load: read all of them now, if they fit into memory; processes of a distributed training read what they need
        views: augmented versions of each utterance; item ``view * U + number`` is one

    Attributes:
        table: means ``[U * views, L, D]``, float32; ``None`` where they do not fit into memory and are read for each
            batch
    """

    def __init__(
        self, dataset: UtteranceDataset, source: UpstreamSource, split: str, pre_load: bool = False, views: int = 1
    ) -> None:
        self.dataset, self.source, self.split = dataset, source, split
        self.labels = [item.label for item in dataset.utterances] * views
        self.names = [item.name for item in dataset.utterances] * views
        self.keys: list[tuple[bytes, int] | None] = [None] * len(self.names)  # with the number of samples
        self.missing = len(self.names)  # utterances whose audio was not read yet
        self.table = self._table((len(self.names), source.layer_count, int(source.featurizer.output_dim)))
        if self.table is not None:
            _held.add(self)
            if pre_load and world() == 1:
                self._read_all()

    @property
    def hashes(self) -> Tensor:
        """Hashes of the waveforms as they were read ``[U]``, int64; 0: not read yet."""
        return self.dataset.hashes

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> int:
        """Return the index: :meth:`collate` notes those of a whole batch."""
        return index

    def __getitems__(self, indices: list[int]) -> list[int]:
        """Return the indices of a batch."""
        return indices

    def collate(self, indices: Sequence[int]) -> tuple[MeanRows, list[int], list[str]]:
        """Return a batch in the host's form, :class:`MeanRows` first; ``~index`` is a stand-in for an utterance."""
        chosen = [index if index >= 0 else ~index for index in indices]
        labels = [self.labels[index] if index >= 0 else STAND_IN for index in indices]
        return MeanRows(self, chosen), labels, [self.names[index] for index in chosen]

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Return the means ``[B, L, D]`` of utterances, float32, on the upstream's device.

        Raises:
            AudioError: unreadable audio, or the upstream fails on it
            StoreError: no space on the disk
        """
        new = self._read_new(indices) if self.missing else {}
        if self.table is not None:
            chosen = torch.tensor(indices, device=self.table.device)
            return self.table.index_select(0, chosen).to(self.source.device, non_blocking=True)
        rows = [new[index] if index in new else self._read(index) for index in indices]
        return torch.stack(rows).to(self.source.device)

    def unfilled(self, device: torch.device) -> int:
        """Return the bytes of the table on a device that are not written yet, for which the system counts no memory."""
        if self.table is None or self.table.device.type != device.type or device.type != "cpu":
            return 0
        return self.missing * self.table[0].nbytes

    # --- inside ----------------------------------------------------------------------------------------------------

    def _table(self, shape: tuple[int, int, int]) -> Tensor | None:
        """Return an empty tensor for the means of all utterances, on the device or beside the CPU, if one fits."""
        needed = 4 * math.prod(shape)
        for device in dict.fromkeys((self.source.device, torch.device("cpu"))):
            free = free_memory(device)
            if free is not None:
                free -= sum(other.unfilled(device) for other in _held)
            if free is None or needed <= SHARE * free:
                return torch.empty(shape, dtype=torch.float32, device=device)
        if "memory" not in _warned:
            _warned.add("memory")
            how = "are read from the store for each batch"
            if self.source.store is None:
                how = "are computed for each batch; give --feature_store DIR to compute them once"
            logger.warning(
                "the means of split %s take %.2f GB, more than %.0f %% of the %.2f GB that are free: they %s",
                self.split, needed / 1e9, 100 * SHARE, (free or 0) / 1e9, how,
            )  # fmt: skip
        return None

    def _read_new(self, indices: Sequence[int]) -> dict[int, Tensor]:
        """Read the audio of utterances that are needed for the first time; return their means ``[L, D]``."""
        new = [index for index in dict.fromkeys(indices) if self.keys[index] is None]
        means: dict[int, Tensor] = {}
        together = READ_AT_ONCE if getattr(self.source.upstream, "concurrent", False) else 1
        with torch.autocast(self.source.device.type, enabled=False):  # as without a training around it
            waveforms = self._waveforms(new)
            for begin in range(0, len(new), together):
                part = new[begin : begin + together]
                read = [next(waveforms) for _ in part]
                found = self.source.means(list(map(torch.from_numpy, read)), [self.names[index] for index in part])
                for index, waveform, mean in zip(part, read, found, strict=True):
                    self.keys[index] = utterance_key(waveform), len(waveform)
                    means[index] = mean
                    if self.table is not None:
                        self.table[index] = mean
        self.missing -= len(new)
        return means

    def _read_all(self) -> None:
        """Read the audio of all utterances, some at a time, since waveforms take more memory than their means."""
        utterances = range(len(self))
        with progress(name=f"means of {self.split}", unit="utterances", total=len(self), leave=False) as bar:
            for begin in utterances[::READ_TOGETHER]:
                bar.update(len(self._read_new(utterances[begin : begin + READ_TOGETHER])))

    def _read(self, index: int) -> Tensor:
        """Return the means ``[L, D]`` of an utterance from the store, else computed."""
        if self.source.store is not None and (key := self.keys[index]) is not None:
            mean = self.source.stored_mean(*key, self.names[index])
            if mean is not None:
                return mean
        (waveform,) = self._waveforms([index])
        return next(self.source.means([torch.from_numpy(waveform)], [self.names[index]]))

    def _waveforms(self, indices: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the waveforms of utterances; threads decode several."""
        if len(indices) == 1:
            yield from (np.ascontiguousarray(self.dataset[index][0]) for index in indices)
            return
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            for waveform, *_ in pool.map(self.dataset.__getitem__, indices):
                yield np.ascontiguousarray(waveform)
