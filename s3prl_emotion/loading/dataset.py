"""Utterances to batches: decoding, optional preloading, and an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from s3prl_emotion.audio import SAMPLE_RATE, load_audio
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.distributed import rank

Waveform = NDArray[np.float32]
Item = tuple[Waveform, int, str]
DECODING_THREADS = 4
STAND_IN = -1  # label of an utterance that only keeps a process busy which has no share of a batch


class UtteranceDataset(Dataset[Item]):
    """Waveforms with class index and name.

    Args:
        utterances: what to serve
        pre_load: keep all audio in memory, decoded once at the first use
        max_duration: seconds after which audio is cut, or ``None``
        degrade: noise or reverberation, put on whole utterances by waveform ``[N]`` and name, or ``None``
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        pre_load: bool,
        max_duration: float | None,
        degrade: Callable[[Waveform, str], Waveform] | None = None,
    ) -> None:
        self.utterances, self.degrade = utterances, degrade
        self.limit = None if max_duration is None else max(1, round(max_duration * SAMPLE_RATE))
        self.waveforms: list[Waveform] | None = self._decode_all() if pre_load else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Item:
        """Waveform, label and name; of a stand-in (``~index``) the label is :data:`STAND_IN`."""
        if index < 0:
            waveform, _, name = self[~index]
            return waveform, STAND_IN, name
        utterance = self.utterances[index]
        waveform = self._decode(utterance) if self.waveforms is None else self.waveforms[index]
        return waveform, utterance.label, utterance.name

    def _decode(self, utterance: Utterance) -> Waveform:
        waveform = load_audio(utterance.path)
        if self.degrade is not None:
            waveform = self.degrade(waveform, utterance.name)
        return waveform[: self.limit]

    def _decode_all(self) -> list[Waveform]:
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            decoded = pool.map(self._decode, self.utterances)
            options = {"dynamic_ncols": True, "leave": False, "disable": rank() > 0}
            return list(tqdm(decoded, total=len(self.utterances), desc="decode audio", **options))


def collate(items: Sequence[Item]) -> tuple[list[Waveform], list[int], list[str]]:
    """Batch in the host's form: waveforms first, then what the expert's ``forward`` takes."""
    waveforms, labels, names = zip(*items, strict=True)
    return list(waveforms), list(labels), list(names)


class EpochBatches(Sampler[list[int]]):
    """Batches of indices in an order that seed and epoch fix, so that a resumed epoch can go on in the middle.

    Args:
        size: utterances in the training split
        batch_size: utterances in a batch
        seed: ``--seed``
        epoch: number of the pass over the data, from 0
        weights: probability of each utterance ``[size]``, to draw with replacement; ``None`` shuffles
        rank: of this process in distributed training
        world: processes; together they have batches of ``world * batch_size``, of which each gets every ``world``-th
            utterance. Where a last batch has none for it, it gets a stand-in: ``~index`` of one of the others'
        stand_ins: false gives such a process the other's utterance itself, which then counts twice: for s3prl's own
            script, where each process needs a loss
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
    ) -> None:
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        if weights is None:
            order = torch.randperm(size, generator=generator)
        else:
            order = torch.multinomial(weights, size, replacement=True, generator=generator)
        together = [batch.tolist() for batch in order.split(batch_size * world)]
        self.batches = [batch[rank::world] or [~batch[0] if stand_ins else batch[0]] for batch in together]
        self.first = 0

    def skip(self, batches: int) -> None:
        """Leave out the first ``batches`` of the epoch: they were trained on before the interruption."""
        self.first = batches

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches[self.first :])
