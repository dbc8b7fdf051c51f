"""Long audio in windows that a speech recogniser takes, cut where it is quiet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE

QUIET = SAMPLE_RATE // 10  # samples over which loudness is measured: as long as a short pause
STEP = SAMPLE_RATE // 100


def windows(waveform: NDArray[np.float32], most: int) -> list[NDArray[np.float32]]:
    """Cut a waveform into pieces side by side, so that words stay whole as far as pauses allow.

    Each cut lies in the middle of the quietest 0.1 s of the second half of what a window may hold; of equally quiet
    places it is the last.

    Args:
        waveform: ``[N]``, 16 kHz
        most: samples in a window, at least 0.2 s

    Returns:
        one or more pieces of 1 to ``most`` samples, which together are the waveform
    """
    pieces = []
    while len(waveform) > most:
        half = most // 2
        cut = half + _quietest(waveform[half:most])
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def _quietest(waveform: NDArray[np.float32]) -> int:
    """Middle of the quietest place."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    places = np.arange(0, max(1, len(waveform) - QUIET + 1), STEP)
    ends = np.minimum(places + QUIET, len(waveform))
    loudness = energy[ends] - energy[places]
    last = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return int(places[last] + ends[last]) // 2
