"""Read audio files as upstreams expect them: 16 kHz mono float32 in [-1, 1]."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import xxhash
from numpy.typing import NDArray

from s3prl_emotion.errors import AudioError

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

logger = logging.getLogger(__name__)
SAMPLE_RATE = 16_000  # Hz, of every upstream in s3prl
SUFFIXES = frozenset({
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64",
})  # fmt: skip
REMEDY = "replace the file or leave it out of the labels"
UNKNOWN_LENGTH = 1 << 62  # frames; a longer header means an unknown length, as in FLAC that was written to a pipe
HIGHEST_RATE = 192_000  # Hz
LARGEST_FILTER = 1 << 25  # coefficients of the resampling filter
LOUDEST = 2.0  # relative to full scale: clipped audio overshoots less when it is decoded or resampled
NAMED = 20  # files to warn of, in a process
BLOCK = 1 << 20  # samples, over all channels, to decode at once


_warned: set[str] = set()  # names of files beyond full scale


class Forward(soundfile.SoundFile):
    """A sound file that is read from start to end, so that its length need not be in its header."""

    def seekable(self) -> bool:
        """Return ``False``: soundfile would seek after each block."""
        return False

    def decoded(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks ``[N, C]``, N >= 1."""
        while len(block := self.read(max(1, BLOCK // self.channels), dtype="float32", always_2d=True)):
            yield block


def load_audio(path: str | Path) -> NDArray[np.float32]:
    """Read an audio file that soundfile knows (wav, flac, ogg, mp3, …) and resample it to 16 kHz mono.

    Args:
        path: the file; channels are averaged

    Returns:
        waveform ``[N]``, N >= 1, finite

    Raises:
        AudioError: a missing, unreadable or empty file, NaN or infinite samples, or an unsupported sampling rate
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file; check datarc.root and the FileName column")
    try:
        samples, rate = _decode(path)
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:  # TypeError: headerless, .raw
        raise AudioError(f"{path}: unreadable audio ({error}); {REMEDY}") from error
    return to_16k_mono(samples, rate, str(path))


def to_16k_mono(samples: NDArray[np.float32], rate: int, name: str, warn_again: bool = False) -> NDArray[np.float32]:
    """Average the channels and resample to 16 kHz.

    Args:
        samples: ``[N, C]``
        rate: Hz
        name: of the audio, for messages
        warn_again: warn each time that samples are far beyond full scale, not once for each of the first 20 names

    Returns:
        waveform ``[N']`` at 16 kHz, N' >= 1, finite

    Raises:
        AudioError: no samples, NaN or infinite samples, or an unsupported sampling rate
    """
    check_rate(rate, name)
    if samples.shape[0] == 0:
        raise AudioError(f"{name}: audio has 0 samples; {REMEDY}")
    peak = max(float(samples.max()), -float(samples.min()))
    if not math.isfinite(peak):
        raise AudioError(f"{name}: audio holds NaN or infinite samples; {REMEDY}")
    if peak > LOUDEST:
        _warn_of_scale(name, peak, warn_again)
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if rate == SAMPLE_RATE:
        return mono
    import torch  # deferred: loader processes that need not resample start without these seconds

    return _resampler(rate)(torch.from_numpy(np.ascontiguousarray(mono))).numpy()


def waveform_hash(waveform: NDArray[np.float32]) -> int:
    """Return the hash of the samples of a waveform ``[N]`` at 16 kHz, a signed number of 64 bits other than 0."""
    samples = np.ascontiguousarray(waveform, dtype=np.float32)
    return int.from_bytes(xxhash.xxh3_64_digest(samples.data), "big", signed=True) or 1


def check_rate(rate: int, name: str) -> None:
    """Reject rates for which the resampling filter would not fit in memory: 44,101 Hz needs 3 GB, 44,100 Hz 0.3 MB.

    Raises:
        AudioError: such a rate (Hz), or one above 192 kHz
    """
    common = math.gcd(rate, SAMPLE_RATE)
    if not 1 <= rate <= HIGHEST_RATE or (rate // common) * (SAMPLE_RATE // common) > LARGEST_FILTER:
        raise AudioError(f"{name}: a sampling rate of {rate} Hz is not supported; resample it to {SAMPLE_RATE} Hz")


def _decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return the samples ``[N, C]`` and their rate (Hz)."""
    with soundfile.SoundFile(path) as sound:
        if sound.frames < UNKNOWN_LENGTH:
            return sound.read(dtype="float32", always_2d=True), sound.samplerate
    with Forward(path) as sound:
        return np.concatenate([np.zeros((0, sound.channels), np.float32), *sound.decoded()]), sound.samplerate


def _warn_of_scale(name: str, peak: float, again: bool) -> None:
    if not again and (name in _warned or len(_warned) >= NAMED):
        return
    if not again:
        _warned.add(name)
    more = "" if again or len(_warned) < NAMED else "; further files are not named"
    logger.warning(
        "%s: samples reach %.4g, but full scale is 1; features and predictions are wrong if these are integers: divide "
        "16-bit samples by 32768%s",
        name,
        peak,
        more,
    )


@lru_cache(maxsize=8)
def _resampler(rate: int) -> Resample:
    from torchaudio.transforms import Resample

    return Resample(rate, SAMPLE_RATE)
