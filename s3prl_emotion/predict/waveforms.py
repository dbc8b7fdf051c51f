"""Check waveforms of Python callers and convert them to the 16 kHz mono that upstreams take."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from s3prl_emotion.audio import to_16k_mono
from s3prl_emotion.errors import AudioError, UsageError

MOST_CHANNELS = 64  # an array with more is [C, N]
FOR_LABELS = re.compile(r"; [^;]*\b(leave it out of the labels|the FileName column)\b[^;]*$")


def as_waveform(samples: ArrayLike | Tensor, rate: int, name: str) -> NDArray[np.float32]:
    """Check samples ``[N]`` or ``[N, C]`` and turn them into a waveform ``[N']`` at 16 kHz.

    Raises:
        UsageError: another shape, integers, or an impossible rate
        AudioError: no samples, or NaN or infinite samples
    """
    array = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        raise UsageError(f"{name}: takes samples [N] or [N, C], got {list(array.shape)}; transpose what is [C, N]")
    if array.size and not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{name}: takes floats in [-1, 1], got {array.dtype}; divide 16-bit samples by 32768")
    if int(rate) != rate or rate < 1:
        raise UsageError(f"{name}: {rate} is no sampling rate (Hz)")
    array = array.astype(np.float32, copy=False).reshape(len(array), -1 if array.size else 1)
    try:
        return to_16k_mono(array, int(rate), name, warn_again=True)
    except AudioError as error:
        raise plain(error) from error


def plain(error: AudioError) -> AudioError:
    """Return the error without its advice about label tables, which a prediction does not use."""
    return AudioError(FOR_LABELS.sub("", str(error)))
