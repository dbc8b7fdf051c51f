"""Measure an audio file in one pass: level, clipping, offset, and hashes of its samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from s3prl_emotion.audio import Fault, Part, Sound, opened, opened_part
from s3prl_emotion.audio.waveform import Mixer
from s3prl_emotion.errors import AudioError, BeyondEndError

RUN = 3  # consecutive samples at full scale that count as clipped: a single one may be a peak
FULL_SCALE = 1 - 2.0**-15  # the greatest 16-bit sample; close enough for more bits and floats too
FULL_SCALE_8_BITS = 1 - 2.0**-7
MISSING, UNREADABLE, EMPTY, NOT_FINITE = "missing", "unreadable", "empty", "not-finite"
OUTSIDE, BEYOND = "outside", "beyond"


@dataclass(frozen=True)
class Waveform:
    """Measures of a file or of a segment of it; numbers are 0 if ``problem`` says that it cannot be used.

    Attributes:
        problem: ``missing``, ``outside``, ``beyond``, ``unreadable``, ``empty``, ``not-finite``, or ``""``
        reason: the decoder's message
        rate: Hz
        channels: number of channels
        seconds: length
        swing: half the distance from the lowest to the highest sample, in [0, 1]; independent of an offset
        offset: mean of all samples (DC)
        clipped: share of samples in runs of at least :data:`RUN` samples at full scale, in [0, 1]
        digest: hash of the samples, averaged over channels
        core: the same hash without zeros at both ends
        faults: what is wrong with the file though it can be read: kinds of :class:`s3prl_emotion.audio.Fault` with a
            sentence
    """

    problem: str = ""
    reason: str = ""
    rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    swing: float = 0.0
    offset: float = 0.0
    clipped: float = 0.0
    digest: str = ""
    core: str = ""
    faults: tuple[Fault, ...] = ()


def measure(path: Path, start: float | None = None, end: float | None = None, channel: str | int = "mean") -> Waveform:
    """Read a file, or the segment from ``start`` to ``end`` (s), once: all its channels, or one of them."""
    if not path.is_file():
        return Waveform(MISSING, "no such file")
    try:
        part = None if start is None or end is None else Part(start, end)
        with opened(path, remedy="") if part is None else opened_part(path, part, remedy="") as file:
            return _read(file, channel)
    except BeyondEndError as error:
        return Waveform(BEYOND, error.where)
    except AudioError as error:
        return Waveform(UNREADABLE, str(error).removeprefix(f"{path}: ").removesuffix("; "))


def _read(file: Sound, channel: str | int) -> Waveform:
    mixer = Mixer(file.name, file.channels, channel)
    full_scale = FULL_SCALE_8_BITS if file.subtype in ("PCM_U8", "PCM_S8") else FULL_SCALE
    meter = _Meter(file.channels if mixer.chosen is None else 1, full_scale)
    for block in file.blocks():
        used = block if mixer.chosen is None else block[:, mixer.chosen : mixer.chosen + 1]
        if not np.isfinite(used).all():
            return Waveform(NOT_FINITE, "samples are NaN or infinite", file.rate, file.channels)
        meter.add(used, mixer.add(block))
    if not meter.frames:
        return Waveform(EMPTY, "0 samples", file.rate, file.channels)
    return replace(meter.result(file.rate, (*file.faults(), *mixer.faults())), channels=file.channels)


class _Meter:
    """Accumulates the measures over blocks ``[n, channels]``; the size of the blocks does not matter."""

    def __init__(self, channels: int, full_scale: float) -> None:
        self.frames = 0
        self._full_scale = full_scale
        self._low, self._high, self._sum, self._clipped = np.inf, -np.inf, 0.0, 0
        self._runs = np.zeros(channels, dtype=np.int64)  # samples at full scale at the end of the last block
        self._all, self._core = xxhash.xxh3_128(), xxhash.xxh3_128()
        self._begun, self._zeros = (
            False,
            0,
        )  # zeros so far after the last nonzero sample; part of the core only if another follows

    def add(self, block: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        self.frames += len(block)
        self._low, self._high = min(self._low, float(block.min())), max(self._high, float(block.max()))
        self._sum += float(block.sum(dtype=np.float64))
        full = np.abs(block) >= self._full_scale
        for channel in range(full.shape[1]):
            self._count_runs(full[:, channel], channel)
        mono = mono + np.float32(0.0)  # -0.0 becomes 0.0
        self._all.update(mono.tobytes())
        self._add_core(mono)

    def _count_runs(self, full: NDArray[np.bool_], channel: int) -> None:
        """Count samples in finished runs; a run that reaches the block's end is carried over."""
        if full.all():
            self._runs[channel] += len(full)
            return
        edges = np.flatnonzero(np.diff(full.astype(np.int8), prepend=0, append=0))
        lengths = edges[1::2] - edges[::2]
        if full[0]:
            lengths[0] += self._runs[channel]
        else:
            lengths = np.append(lengths[:0], [self._runs[channel], *lengths])
        self._runs[channel] = 0
        if full[-1]:
            self._runs[channel], lengths = lengths[-1], lengths[:-1]
        self._clipped += int(lengths[lengths >= RUN].sum())

    def _add_core(self, mono: NDArray[np.float32]) -> None:
        nonzero = np.flatnonzero(mono)
        if not len(nonzero):
            self._zeros += len(mono) if self._begun else 0
            return
        first, last = int(nonzero[0]), int(nonzero[-1])
        if self._begun:
            self._core.update(bytes(self._zeros * mono.itemsize))
            first = 0
        self._core.update(mono[first : last + 1].tobytes())
        self._begun, self._zeros = True, len(mono) - last - 1

    def result(self, rate: int, faults: tuple[Fault, ...]) -> Waveform:
        samples = self.frames * len(self._runs)
        clipped = self._clipped + int(self._runs[self._runs >= RUN].sum())
        return Waveform(
            rate=rate,
            channels=len(self._runs),
            seconds=self.frames / rate,
            swing=(self._high - self._low) / 2,
            offset=self._sum / samples,
            clipped=clipped / samples,
            digest=self._all.hexdigest(),
            core=self._core.hexdigest(),
            faults=faults,
        )
