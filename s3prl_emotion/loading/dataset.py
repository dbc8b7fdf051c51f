"""Decode utterances, and batch them in an order that depends only on seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch
from torch.utils.data import Dataset, RandomSampler, Sampler

from s3prl_emotion.audio import SAMPLE_RATE, FaultCounts
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.seen import NOT_READ
from s3prl_emotion.distributed import leaders, rank
from s3prl_emotion.files.progress import progress
from s3prl_emotion.loading.reading import STAND_IN, Augment, Item, Note, UtteranceReader, Waveform, collate

__all__ = ["STAND_IN", "EpochBatches", "Item", "UtteranceDataset", "Waveform", "collate"]
DECODING_THREADS = 4


class UtteranceDataset(Dataset[Item]):
    """Waveforms of utterances with class index and name.

    Item ``turn * U + number`` is an utterance as it is augmented for a turn: an epoch, or a view.

    Args:
        utterances: of a split, U of them
        pre_load: decode all audio now and keep it in memory
        max_duration: length to which audio is cut (s), or ``None``
        degrade: adds noise or reverberation to the waveform ``[N]`` of an utterance, given its name; or ``None``
        where: name of the split, for messages
        augment: augments the waveform ``[N]`` of an utterance before it is cut; or ``None``

    Attributes:
        hashes: of the waveforms as they were read, before anything was changed, ``[U]``, int64; 0: not read yet
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        pre_load: bool,
        max_duration: float | None,
        degrade: Callable[[Waveform, str], Waveform] | None = None,
        where: str = "the corpus",
        augment: Augment | None = None,
    ) -> None:
        self.utterances, self.degrade = utterances, degrade
        self.limit = None if max_duration is None else max(1, round(max_duration * SAMPLE_RATE))
        self.reader = UtteranceReader(utterances, self.limit, degrade, augment)
        self.hashes = torch.full((len(utterances),), NOT_READ, dtype=torch.int64)
        self.where, self.unread, self.faults = where, len(utterances), FaultCounts()
        self._lock = Lock()  # of the notes: several threads decode
        self.waveforms: list[Waveform] | None = self._decode_all() if pre_load else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Item]:
        """Yield every utterance once, of turn 0."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Item:
        """Return waveform, label and name; the label of a stand-in (``~index``) is :data:`STAND_IN`.

        Index ``turn * U + number`` is the utterance as augmented for that turn, so that no index is too large.
        """
        if index < 0:
            waveform, _, name = self[~index]
            return waveform, STAND_IN, name
        turn, number = divmod(index, len(self))
        utterance = self.utterances[number]
        waveform = self._decode(number) if self.waveforms is None else self.waveforms[number]
        return self.reader.finish(waveform, utterance.name, turn), utterance.label, utterance.name

    def for_processes(self) -> UtteranceReader:
        """Return what loader processes read with."""
        return self.reader

    def add_notes(self, notes: list[Note]) -> None:
        """Add the hashes and faults of what a loader process read."""
        for note in notes:
            self._note(*note)

    def say_faults(self) -> None:
        """Warn once of the faulty files among those that were read, by count."""
        if rank() == 0:
            self.faults.say(self.where, len(self))

    def _note(self, index: int, value: int, faults: tuple[str, ...]) -> None:
        """Keep a waveform's hash and its file's faults; when all were read for the first time, warn of the faults."""
        if int(self.hashes[index]) != NOT_READ:
            return
        self.hashes[index] = value
        if faults:
            self.faults.add(self.utterances[index].name, faults)
        self.unread -= 1
        if not self.unread:
            self.say_faults()

    def name_of(self, index: int) -> str:
        """Return the path of an utterance."""
        return self.utterances[max(index, ~index) % len(self)].place

    def _decode(self, index: int) -> Waveform:
        waveform, value, faults = self.reader.read(index)
        with self._lock:
            self._note(index, value, faults)
        return waveform

    def _decode_all(self) -> list[Waveform]:
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            decoded = pool.map(self._decode, range(len(self)))
            total, hidden = len(self.utterances), rank() > 0
            return list(progress(decoded, "decode audio", "utterances", total=total, leave=False, hidden=hidden))


class EpochBatches(Sampler[list[int]]):
    """Batches of indices in an order that depends only on seed and epoch, so that an epoch can be resumed midway.

    Args:
        size: utterances in the training split
        batch_size: utterances in a batch
        seed: ``--seed``
        epoch: number of the epoch, from 0
        weights: probability of each utterance ``[size]``, for drawing with replacement; ``None`` shuffles
        rank: of this process in distributed training
        world: number of processes. They share batches of ``world * batch_size`` utterances, of which each process gets
            every ``world``-th; one that gets none of the last batch gets a stand-in: ``~index`` of another's utterance
        stand_ins: if false, such a process gets the utterance itself, which then counts twice: under s3prl's own
            script each process needs a loss
        turn: number of the epoch or view for which utterances are augmented: index ``turn * size + number``
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        epoch: int,
        weights: torch.Tensor | None = None,
        rank: int = 0,
        world: int = 1,
        stand_ins: bool = True,
        turn: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        if weights is None:
            order = torch.randperm(size, generator=generator)
        else:
            order = torch.multinomial(weights, size, replacement=True, generator=generator)
        self.batches = _shares(order + turn * size, batch_size, rank, world, stand_ins)
        self.first = 0

    def skip(self, batches: int) -> None:
        """Skip the first ``batches`` of the epoch, which were trained on before an interruption."""
        self.first = batches

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches[self.first :])


class ShuffledBatches(Sampler[list[int]]):
    """Batches of indices, shuffled in every epoch as torch's loader does, by the global generator of rank 0.

    Args:
        size: utterances in the training split
        batch_size: utterances in a batch of this process
        rank: of this process in distributed training
        world: number of processes, which share batches as those of :class:`EpochBatches`
        stand_ins: as for :class:`EpochBatches`
    """

    def __init__(self, size: int, batch_size: int, rank: int, world: int, stand_ins: bool = True) -> None:
        self.size, self.batch_size, self.rank, self.world, self.stand_ins = size, batch_size, rank, world, stand_ins

    def __len__(self) -> int:
        return math.ceil(self.size / (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.tensor(leaders(list(RandomSampler(range(self.size)))))
        yield from _shares(order, self.batch_size, self.rank, self.world, self.stand_ins)


def _shares(order: torch.Tensor, batch_size: int, rank: int, world: int, stand_ins: bool) -> list[list[int]]:
    """Return this process's part of each batch of all processes, see :class:`EpochBatches`."""
    together = [batch.tolist() for batch in order.split(batch_size * world)]
    return [batch[rank::world] or [~batch[0] if stand_ins else batch[0]] for batch in together]
