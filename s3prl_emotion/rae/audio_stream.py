"""Spectrograms in batches, read as they are needed: memory is that of a few batches, however much audio there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from s3prl_emotion.audio import SAMPLE_RATE, to_16k_mono
from s3prl_emotion.errors import AudioError
from s3prl_emotion.rae.adapter import MelSpectrogramDb, SpectrogramSection
from s3prl_emotion.rae.audio_index import NOT_FINITE, UNREADABLE, AudioIndex

POOL = 50  # batches whose stretches are sorted by length among themselves


class Batch(NamedTuple):
    """Spectrograms of a batch, without what could not be read."""

    features: Tensor
    """``[B, T, M]``, zeros in padding"""
    lengths: Tensor
    """``[B]``, frames"""
    seconds: float
    """of audio"""
    skipped: list[tuple[int, str, str]]
    """number of the stretch, why it was skipped, and the message"""

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class BatchOrder:
    """Order of an epoch: shuffled, then like lengths together.

    Of every ``POOL`` batches' worth of the shuffled stretches, those of like length make a batch, and these batches
    come in random order. Process r of W takes every W-th stretch of a batch from the r-th on.

    Args:
        numbers: of the stretches
        frames: of all stretches, by number
        batch_size: stretches of a batch, in each process
        seed: of the order
        epoch: which the order is of, from 0
        rank: of this process
        world: number of processes
        skip: batches at the epoch's start that are left out
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
            places = generator.permutation(batches_of(len(pool), whole))
            for place in places[left:]:
                yield pool[place * whole : (place + 1) * whole][self.rank :: self.world].tolist()
            left = max(0, left - len(places))


class Spectrograms(Dataset[Tensor | tuple[int, str, str]]):
    """Stretches of an index as spectrograms ``[T, M]``; where one cannot be read: its number, reason and message."""

    def __init__(self, index: AudioIndex, options: SpectrogramSection) -> None:
        self.index = index
        self.spectrogram = MelSpectrogramDb(options)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Tensor | tuple[int, str, str]:
        """Read and compute."""
        path = self.index.path(number)
        start, stop = self.index.start[number], self.index.stop[number]
        try:
            samples, rate = soundfile.read(str(path), start=start, stop=stop, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
            return number, UNREADABLE, f"{path}: {' '.join(str(error).split())}"
        if not len(samples):
            return number, UNREADABLE, f"{path}: nothing to read at sample {start}, where its header says there is"
        try:
            wav = to_16k_mono(samples, rate, str(path))
        except AudioError as error:
            return number, NOT_FINITE, str(error)
        if len(wav) < self.spectrogram.window:
            seconds = len(wav) / SAMPLE_RATE
            return number, UNREADABLE, f"{path}: ends before its header says, {seconds:.3f} s past sample {start}"
        with torch.no_grad():
            return self.spectrogram(torch.from_numpy(np.ascontiguousarray(wav)))


class Collate:
    """Spectrograms to a :class:`Batch`; one without any has ``[0, 1, M]``."""

    def __init__(self, num_mels: int, hop: int) -> None:
        self.num_mels, self.hop = num_mels, hop

    def __call__(self, items: Sequence[Tensor | tuple[int, str, str]]) -> Batch:
        """Pad, and set aside what could not be read."""
        read = [item for item in items if isinstance(item, Tensor)]
        lengths = torch.tensor([len(item) for item in read], dtype=torch.int64)
        features = pad_sequence(read, batch_first=True) if read else torch.zeros(0, 1, self.num_mels)
        seconds = float(lengths.sum()) * self.hop / SAMPLE_RATE
        return Batch(features, lengths, seconds, [item for item in items if not isinstance(item, Tensor)])


def batches(dataset: Spectrograms, order: BatchOrder | Sequence[list[int]], num_workers: int) -> DataLoader:
    """Batches of stretches in the given order; the loader's own draws leave the global generator alone."""
    spectrogram = dataset.spectrogram
    return DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=num_workers,
        collate_fn=Collate(spectrogram.log_mel.spectrogram.n_mels, spectrogram.hop),
        generator=torch.Generator().manual_seed(0),
    )


def batches_of(count: int, size: int) -> int:
    """Batches of up to ``size``."""
    return -(-count // size)
