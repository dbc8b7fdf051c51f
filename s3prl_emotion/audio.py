"""Audio files to what upstreams expect: 16 kHz mono float32 in [-1, 1]."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.transforms import Resample

from s3prl_emotion.errors import AudioError

SAMPLE_RATE = 16_000  # Hz, of every upstream in s3prl
SUFFIXES = frozenset({
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64",
})  # fmt: skip
REMEDY = "replace the file or leave it out of the labels"


def load_audio(path: str | Path) -> NDArray[np.float32]:
    """Read an audio file that soundfile knows (wav, flac, ogg, mp3, …) and resample it to 16 kHz mono.

    Args:
        path: the file; channels are averaged

    Returns:
        waveform ``[N]``, N >= 1, finite

    Raises:
        AudioError: missing, unreadable or empty file, or samples that are NaN or infinite
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file; check datarc.root and the FileName column")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:  # TypeError: headerless, .raw
        raise AudioError(f"{path}: unreadable audio ({error}); {REMEDY}") from error
    return to_16k_mono(samples, rate, str(path))


def to_16k_mono(samples: NDArray[np.float32], rate: int, name: str) -> NDArray[np.float32]:
    """Average channels and resample.

    Args:
        samples: ``[N, C]``
        rate: Hz
        name: of the audio, for messages

    Returns:
        waveform ``[N']`` at 16 kHz, N' >= 1, finite

    Raises:
        AudioError: no samples, or some that are NaN or infinite
    """
    if samples.shape[0] == 0:
        raise AudioError(f"{name}: audio has 0 samples; {REMEDY}")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: audio holds NaN or infinite samples; {REMEDY}")
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if rate == SAMPLE_RATE:
        return mono
    return _resampler(rate)(torch.from_numpy(np.ascontiguousarray(mono))).numpy()


@lru_cache(maxsize=8)
def _resampler(rate: int) -> Resample:
    return Resample(rate, SAMPLE_RATE)
