"""Read audio files as upstreams expect them: 16 kHz mono float32 in [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from s3prl_emotion.audio.faults import (
    CANCELLED,
    LOUDEST,
    QUIET,
    Fault,
    cancelling_fault,
    scale_fault,
    warn_of,
)
from s3prl_emotion.audio.formats import SAMPLE_RATE
from s3prl_emotion.audio.opening import opened
from s3prl_emotion.audio.parts import opened_part
from s3prl_emotion.audio.resampling import Resampler, check_rate
from s3prl_emotion.audio.segments import Part, segment_name
from s3prl_emotion.audio.sound import BLOCK, REMEDY, Block, Sound
from s3prl_emotion.errors import AudioError

MEAN = "mean"
CHANNELS = {"left": 1, "right": 2}
Mono = NDArray[np.float32]


class Audio(NamedTuple):
    """A waveform ``[N]`` at 16 kHz, and what is wrong with the file that it was read from."""

    waveform: Mono
    faults: tuple[Fault, ...] = ()


def load_audio(path: str | Path, channel: str | int = MEAN, part: Part | None = None) -> Mono:
    """Read an audio file and resample it to 16 kHz mono.

    soundfile reads wav, flac, ogg, mp3, …, and PyAV (``pip install "s3prl-emotion[media]"``) m4a, mp4, webm, wma, …
    A warning names files that are damaged but readable.

    Args:
        path: the file
        channel: ``mean`` of the channels, ``left``, ``right``, or the number of a channel, from 1
        part: of the file; ``None``: the whole file

    Returns:
        waveform ``[N]``, N >= 1, finite

    Raises:
        AudioError: a missing, unreadable or empty file, NaN or infinite samples, an unsupported sampling rate, no such
            channel, or a part beyond the file's end
    """
    audio = read_audio(path, channel, part)
    warn_of(segment_name(str(path), part), audio.faults)
    return audio.waveform


def read_audio(path: str | Path, channel: str | int = MEAN, part: Part | None = None) -> Audio:
    """Read an audio file as :func:`load_audio` does, and return what is wrong with it instead of a warning.

    Raises:
        AudioError: as :func:`load_audio`
    """
    with opened(path) if part is None else opened_part(path, part) as sound:
        return waveform_of(sound, channel)


def waveform_of(
    sound: Sound, channel: str | int = MEAN, start: int = 0, stop: int | None = None, longest: float = math.inf
) -> Audio:
    """Decode the frames ``[start, stop)`` of an open file, by default all, to a waveform at 16 kHz.

    Args:
        sound: the file
        channel: as of :func:`load_audio`
        start: first frame
        stop: frame behind the last; ``None``: the file's end
        longest: duration (s) of what may be decoded

    Raises:
        AudioError: as :func:`load_audio`, or longer audio
    """
    check_rate(sound.rate, sound.name)
    mixer = Mixer(sound.name, sound.channels, channel)
    waveform = _resampled(map(mixer.add, _limited(sound, start, stop, longest)), sound.rate)
    whole = start == 0 and (stop is None or (sound.frames is not None and stop >= sound.frames))
    return Audio(_checked(waveform, sound.name), (*(sound.faults() if whole else ()), *mixer.faults()))


def _limited(sound: Sound, start: int, stop: int | None, longest: float) -> Iterator[Block]:
    """Yield the blocks of a file; raise as soon as the header or the blocks are longer than allowed."""

    def check(frames: int) -> None:
        if frames > longest * sound.rate:
            seconds = frames / sound.rate
            raise AudioError(f"{sound.name}: audio is longer than {longest:g} s ({seconds:.0f} s); cut it")

    frames = 0
    if stop is None and sound.frames is not None:
        check(sound.frames - start)
    for block in sound.blocks(start, stop):
        frames += len(block)
        check(frames)
        yield block


def to_16k_mono(samples: Block, rate: int, name: str, warn_again: bool = False) -> Mono:
    """Average the channels of samples in memory and resample them to 16 kHz.

    Args:
        samples: ``[N, C]``
        rate: Hz
        name: of the audio, for messages
        warn_again: warn each time of samples far beyond full scale, not once for each of the first 20 names

    Returns:
        waveform ``[N']`` at 16 kHz, N' >= 1, finite

    Raises:
        AudioError: no samples, NaN or infinite samples, or an unsupported sampling rate
    """
    check_rate(rate, name)
    mixer = Mixer(name, samples.shape[1])
    size = max(1, BLOCK // max(1, samples.shape[1]))
    blocks = [samples] if rate == SAMPLE_RATE else [samples[at : at + size] for at in range(0, len(samples), size)]
    waveform = _checked(_resampled((mixer.add(block) for block in blocks if len(block)), rate), name)
    warn_of(name, mixer.faults(), warn_again)
    return waveform


def mean_of_channels(block: Block) -> Mono:
    """Return the mean ``[n]`` over the channels of a block ``[n, C]``."""
    return block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0]


def waveform_hash(waveform: Mono) -> int:
    """Return the hash of the samples of a waveform ``[N]`` at 16 kHz, a signed number of 64 bits other than 0."""
    samples = np.ascontiguousarray(waveform, dtype=np.float32)
    return int.from_bytes(xxhash.xxh3_64_digest(samples.data), "big", signed=True) or 1


def channel(text: str) -> str | int:
    """Read ``--channel``: mean, left, right, or a number from 1.

    Raises:
        ValueError: another word
    """
    if text in (MEAN, *CHANNELS):
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(text)
    return int(text)


class Mixer:
    """Makes one channel of several, block by block, and measures what may be wrong with them.

    Args:
        name: of the audio, for messages
        channels: their number
        channel: as of :func:`load_audio`

    Raises:
        AudioError: no such channel
    """

    def __init__(self, name: str, channels: int, channel: str | int = MEAN) -> None:
        self.name, self.channels = name, channels
        self.chosen = _index(name, channels, channel)
        self.peak, self._mean_power, self._power, self._frames = 0.0, 0.0, 0.0, 0

    def add(self, block: Block) -> Mono:
        """Return one channel ``[n]`` of a block ``[n, C]``, n >= 1.

        Raises:
            AudioError: NaN or infinite samples
        """
        used = block if self.chosen is None else block[:, self.chosen : self.chosen + 1]
        peak = max(float(used.max()), -float(used.min()))
        if not math.isfinite(peak):
            raise AudioError(f"{self.name}: audio holds NaN or infinite samples; {REMEDY}")
        self.peak = max(self.peak, peak)
        mono = mean_of_channels(used)
        if used.shape[1] > 1:
            self._mean_power += float(np.dot(mono, mono))
            flat = used.reshape(-1)
            self._power += float(np.dot(flat, flat)) / used.shape[1]
            self._frames += len(mono)
        return mono

    @property
    def cancels(self) -> bool:
        """Whether the channels' mean has almost no power, though the channels have some."""
        heard = self._power > QUIET * self._frames and math.isfinite(self._power)
        return heard and self._mean_power < CANCELLED * self._power

    def faults(self) -> list[Fault]:
        """Return what is wrong with the samples so far."""
        return [
            *([scale_fault(self.peak)] if self.peak > LOUDEST else []),
            *([cancelling_fault(self.channels)] if self.cancels else []),
        ]


def _index(name: str, channels: int, channel: str | int) -> int | None:
    """Return the index of a channel, from 0; ``None`` for the mean."""
    if channel == MEAN:
        return None
    number = CHANNELS.get(channel, channel) if isinstance(channel, str) else channel
    if not isinstance(number, int) or not 1 <= number <= channels:
        count = "1 channel" if channels == 1 else f"{channels} channels"
        raise AudioError(f"{name}: has {count}, so there is no channel {channel}; choose another (channel: mean)")
    return number - 1


def _resampled(blocks: Iterable[Mono], rate: int) -> Mono:
    parts = list(_parts(blocks, rate))
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])


def _parts(blocks: Iterable[Mono], rate: int) -> Iterator[Mono]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler, some = Resampler(rate), False
    for block in blocks:
        some = True
        yield resampler.add(block)
    if some:
        yield resampler.end()


def _checked(waveform: Mono, name: str) -> Mono:
    if not len(waveform):
        raise AudioError(f"{name}: audio has 0 samples; {REMEDY}")
    return waveform
