"""Resample audio with soxr, block by block: from any rate to 16 kHz, and from there to the rate of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio.formats import SAMPLE_RATE
from s3prl_emotion.errors import AudioError

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz
AT_ONCE = 1 << 17  # samples given to soxr at once: with minutes at once it takes several times as long
QUALITY = "HQ"  # flat to 7.3 kHz at 16 kHz, 20 bits; docs/how-to/audio.md compares it


def check_rate(rate: int, name: str) -> None:
    """Check that audio of this rate (Hz) can be resampled.

    Raises:
        AudioError: a rate below 1 kHz or above 768 kHz
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name}: a sampling rate of {rate} Hz is not supported ({LOWEST_RATE} to {HIGHEST_RATE} Hz are); resample "
            f"it to {SAMPLE_RATE} Hz"
        )


def resampled_length(frames: int, rate: int, to: int = SAMPLE_RATE) -> int:
    """Return how many samples at ``to`` Hz ``frames`` frames at ``rate`` (Hz) become: their duration, rounded up."""
    return -(-frames * to // rate)


class Resampler:
    """Resamples one channel; the result does not depend on how the audio is divided into blocks.

    Args:
        rate: Hz
        to: Hz of the result
    """

    def __init__(self, rate: int, to: int = SAMPLE_RATE) -> None:
        self.rate, self.to, self.taken, self.given = rate, to, 0, 0
        self._stream: Any = None
        if rate != to:
            import soxr  # deferred: most corpora are at 16 kHz

            self._stream = soxr.ResampleStream(rate, to, 1, dtype="float32", quality=QUALITY)

    def add(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take a block ``[n]`` and return the resampled samples that are ready, possibly none."""
        self.taken += len(block)
        if self._stream is None:
            return block
        block = np.ascontiguousarray(block)
        parts = [self._stream.resample_chunk(block[at : at + AT_ONCE]) for at in range(0, len(block), AT_ONCE)]
        return self._limited(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def end(self) -> NDArray[np.float32]:
        """Return the samples that are left, so that there are :func:`resampled_length` samples in all."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        silence = np.zeros(1 + self.rate // self.to, np.float32)  # the last sample may lie behind the audio's end
        return self._limited(self._stream.resample_chunk(silence, last=True))

    def _limited(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = samples[: resampled_length(self.taken, self.rate, self.to) - self.given]
        self.given += len(samples)
        return samples


def resample(samples: NDArray[np.floating[Any]], rate: int, to: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Resample one channel ``[N]`` from ``rate`` to ``to`` (Hz), ``[N']``; at the same rate it is returned as it is."""
    if rate == to:
        return samples.astype(np.float32, copy=False)
    resampler = Resampler(rate, to)
    return np.concatenate([resampler.add(samples.astype(np.float32, copy=False)), resampler.end()])
