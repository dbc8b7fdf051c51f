"""Read spectrograms batch by batch, with the memory of a few batches however much audio there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from s3prl_emotion.audio import SAMPLE_RATE, opened, waveform_of
from s3prl_emotion.errors import AudioError
from s3prl_emotion.processes.loaders import Loader
from s3prl_emotion.rae.adapter import MelSpectrogramDb, SpectrogramSection
from s3prl_emotion.rae.audio_index import NOT_FINITE, UNREADABLE, AudioIndex

POOL = 50  # batches; their segments are sorted by length together


class Batch(NamedTuple):
    """The spectrograms of a batch; segments that could not be read are left out."""

    features: Tensor
    """``[B, T, M]``, zeros in padding"""
    lengths: Tensor
    """``[B]``, frames"""
    seconds: float
    """duration of the audio"""
    skipped: list[tuple[int, str, str]]
    """number of each segment that was left out, the reason, and a message"""
    faulty: list[tuple[int, tuple[str, ...]]]
    """number of each segment of a faulty file, and the kinds of its faults"""

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class BatchOrder:
    """The order of an epoch: shuffled, with segments of similar length in a batch.

    The shuffled segments are divided into pools of ``POOL`` batches. Within a pool, segments of similar length make a
    batch, and the batches come in random order. Process r of W gets every W-th segment of a batch from the r-th on.

    Args:
        numbers: numbers of the segments
        frames: number of frames of every segment of the index
        batch_size: segments per batch in each process
        seed: seed of the order
        epoch: number of the epoch, from 0
        rank: rank of this process
        world: number of processes
        skip: number of batches to leave out at the epoch's start
    """

    numbers: NDArray[np.int64]
    frames: NDArray[np.int64]
    batch_size: int
    seed: int
    epoch: int
    rank: int = 0
    world: int = 1
    skip: int = 0

    def __len__(self) -> int:
        return batches_of(len(self.numbers), self.batch_size * self.world) - self.skip

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, 1, self.epoch])
        order = generator.permutation(self.numbers)
        whole, left = self.batch_size * self.world, self.skip
        for begin in range(0, len(order), POOL * whole):
            pool = order[begin : begin + POOL * whole]
            pool = pool[np.argsort(self.frames[pool], kind="stable")]
            order_of_batches = generator.permutation(batches_of(len(pool), whole))
            for number in order_of_batches[left:]:
                yield pool[number * whole : (number + 1) * whole][self.rank :: self.world].tolist()
            left = max(0, left - len(order_of_batches))


class Segment(NamedTuple):
    """A segment that was read: its number, its spectrogram ``[T, M]``, and the kinds of its file's faults."""

    number: int
    features: Tensor
    faults: tuple[str, ...]


Unread = tuple[int, str, str]  # number, reason, message


class Spectrograms(Dataset[Segment | Unread]):
    """The segments of an index as spectrograms; an unreadable one as number, reason and message."""

    def __init__(self, index: AudioIndex, options: SpectrogramSection) -> None:
        self.index = index
        self.spectrogram = MelSpectrogramDb(options)
        self.collate = Collate(options.num_mels, self.spectrogram.hop)

    def __len__(self) -> int:
        return len(self.index)

    def name_of(self, number: int) -> str:
        """Return the path of a segment's file."""
        return str(self.index.path(number))

    def __getitem__(self, number: int) -> Segment | Unread:
        """Read a segment and compute its spectrogram."""
        path = self.index.path(number)
        start, stop = self.index.start[number], self.index.stop[number]
        try:
            with opened(path) as sound:
                wav, faults = waveform_of(sound, self.index.channel, start, stop)
        except AudioError as error:
            return number, NOT_FINITE if "NaN" in str(error) else UNREADABLE, str(error)
        if len(wav) < self.spectrogram.window:
            seconds = len(wav) / SAMPLE_RATE
            return number, UNREADABLE, f"{path}: ends before its header says, {seconds:.3f} s past sample {start}"
        with torch.no_grad():
            features = self.spectrogram(torch.from_numpy(np.ascontiguousarray(wav)))
        return Segment(number, features, tuple(fault.kind for fault in faults))


class Collate:
    """Combines spectrograms to a :class:`Batch`; an empty one has features ``[0, 1, M]``."""

    def __init__(self, num_mels: int, hop: int) -> None:
        self.num_mels, self.hop = num_mels, hop

    def __call__(self, items: Sequence[Segment | Unread]) -> Batch:
        """Pad the spectrograms, and list the segments that could not be read and those of faulty files."""
        read = [item for item in items if isinstance(item, Segment)]
        lengths = torch.tensor([len(item.features) for item in read], dtype=torch.int64)
        padded = pad_sequence([item.features for item in read], batch_first=True) if read else None
        features = torch.zeros(0, 1, self.num_mels) if padded is None else padded
        seconds = float(lengths.sum()) * self.hop / SAMPLE_RATE
        unread = [item for item in items if not isinstance(item, Segment)]
        return Batch(features, lengths, seconds, unread, [(item.number, item.faults) for item in read if item.faults])


def batches(dataset: Spectrograms, order: BatchOrder | Sequence[list[int]], num_workers: int) -> Loader:
    """Return a loader of the batches in the given order; it does not draw from the global random generator."""
    generator = torch.Generator().manual_seed(0)
    return Loader(dataset, num_workers, batch_sampler=order, collate_fn=dataset.collate, generator=generator)


def batches_of(count: int, size: int) -> int:
    """Return the number of batches of at most ``size``."""
    return -(-count // size)
