"""Read utterances: what a loader process needs, without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE, header, read_audio, waveform_hash
from s3prl_emotion.errors import AudioError

if TYPE_CHECKING:
    from s3prl_emotion.corpora import Utterance

Waveform = NDArray[np.float32]
Item = tuple[Waveform, int, str]
Note = tuple[int, int, tuple[str, ...]]  # index, hash of the waveform, kinds of faults of its file
STAND_IN = -1  # label of an utterance that a process without a share of the batch computes in its place
RESAMPLING = "soxr"
DEGRADING = "s3prl_emotion.loading.degradation.degrader"
AUGMENTING = "s3prl_emotion.loading.augmentation.augmenter"
Augment = Callable[[Waveform, str, int], Waveform]  # given the name of the utterance and the number of the turn


class UtteranceReader:
    """Reads waveforms of utterances with class index and name; can be pickled to loader processes.

    Args:
        utterances: of a split, U of them
        limit: number of samples to which audio is cut, or ``None``
        degrade: adds noise or reverberation to the waveform ``[N]`` of an utterance, given its name; or ``None``
        augment: augments the waveform ``[N]`` of an utterance; or ``None``

    Attributes:
        modules: what loader processes need in order to read these utterances
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        limit: int | None,
        degrade: Callable[[Waveform, str], Waveform] | None,
        augment: Augment | None = None,
    ) -> None:
        self.items = [(item.name, str(item.path), item.label, item.channel, item.part) for item in utterances]
        self.limit, self.degrade, self.augment = limit, degrade, augment
        self.modules = modules_for(utterances, degrade is not None, augment is not None)
        self.notes: list[Note] = []

    def __getitem__(self, index: int) -> Item:
        """Return waveform, label and name of the item ``turn * U + number``, which is augmented for that turn.

        The label of a stand-in (``~index``) is :data:`STAND_IN`.
        """
        turn, number = divmod(max(index, ~index), len(self.items))
        name, _, label, *_ = self.items[number]
        waveform, value, faults = self.read(number)
        self.notes.append((number, value, faults))
        return self.finish(waveform, name, turn), STAND_IN if index < 0 else label, name

    def finish(self, waveform: Waveform, name: str, turn: int) -> Waveform:
        """Augment the waveform of an utterance for a turn, and cut it."""
        if self.augment is not None:
            waveform = self.augment(waveform, name, turn)
        return waveform[: self.limit]

    def read(self, index: int) -> tuple[Waveform, int, tuple[str, ...]]:
        """Return a waveform, degraded, the hash of what was read, and the kinds of faults of the file."""
        name, path, _, channel, part = self.items[index]
        audio = read_audio(path, channel, part)
        waveform = audio.waveform
        value = waveform_hash(waveform)
        if self.degrade is not None:
            waveform = self.degrade(waveform, name)
        return waveform, value, tuple(fault.kind for fault in audio.faults)

    def take_notes(self) -> list[Note]:
        """Return index, hash and kinds of faults of the waveforms read since the last call."""
        notes, self.notes = self.notes, []
        return notes


class DegradedWaveform:
    """Adds noise or reverberation to a waveform and returns it alone; can be pickled to loader processes.

    Args:
        degrader: a :class:`~s3prl_emotion.loading.degradation.Degrader`
    """

    def __init__(self, degrader: Any) -> None:
        self.degrader = degrader

    def __call__(self, waveform: Waveform, name: str) -> Waveform:
        """Degrade the waveform ``[N]`` of the utterance ``name``."""
        degraded: Waveform = self.degrader(waveform, name).waveform
        return degraded


def collate(items: Sequence[Item]) -> tuple[list[Waveform], list[int], list[str]]:
    """Return a batch in the host's form: waveforms first, then the other arguments of the head's ``forward``."""
    waveforms, labels, names = zip(*items, strict=True)
    return list(waveforms), list(labels), list(names)


def modules_for(utterances: Sequence[Utterance], degrade: bool = False, augment: bool = False) -> tuple[str, ...]:
    """Return the modules that loader processes need in order to read utterances, judged by the first one's rate."""
    modules = [__name__]
    try:
        resample = bool(utterances) and header(utterances[0].path).rate != SAMPLE_RATE
    except AudioError:
        resample = False  # reading it says why
    more = {RESAMPLING: resample, DEGRADING: degrade, AUGMENTING: augment}
    return (*modules, *(name for name, needed in more.items() if needed))
