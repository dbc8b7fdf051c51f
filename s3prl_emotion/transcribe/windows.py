"""Cut long audio at quiet points into windows that a speech recogniser accepts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE

QUIET = SAMPLE_RATE // 10  # samples over which loudness is measured; the length of a short pause
STEP = SAMPLE_RATE // 100  # samples between measurements


def windows(waveform: NDArray[np.float32], most: int) -> list[NDArray[np.float32]]:
    """Cut a waveform into adjacent pieces, between words as far as pauses allow.

    Each cut is in the middle of the quietest 0.1 s of the second half of the longest possible window; among equally
    quiet points it is the last.

    Args:
        waveform: ``[N]``, 16 kHz
        most: largest number of samples in a window, at least 0.2 s

    Returns:
        one or more pieces of 1 to ``most`` samples that make up the waveform
    """
    pieces = []
    while len(waveform) > most:
        half = most // 2
        cut = half + _quietest(waveform[half:most])
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def _quietest(waveform: NDArray[np.float32]) -> int:
    """Return the middle of the quietest :data:`QUIET` samples."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, max(1, len(waveform) - QUIET + 1), STEP)
    ends = np.minimum(starts + QUIET, len(waveform))
    loudness = energy[ends] - energy[starts]
    last = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return int(starts[last] + ends[last]) // 2
