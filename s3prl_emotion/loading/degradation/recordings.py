"""Read recordings of noise and impulse responses, and cut excerpts from audio."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion import audio
from s3prl_emotion.audio import MEAN, SAMPLE_RATE, SUFFIXES, Part, Sound, check_rate, mean_of_channels, resample
from s3prl_emotion.audio.waveform import Mixer
from s3prl_emotion.errors import AudioError, UsageError

Samples = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
SILENT_PEAK = 1e-5  # -100 dB relative to full scale, a third of the smallest 16-bit step
LONGEST_RESPONSE = 20.0  # s; a longer file is a recording, not an impulse response
_SHORTEST = SAMPLE_RATE // 10  # samples that are read at least: less may fall into a pause of the recording
REMEDY = "replace or remove the file"


def is_silent(samples: Floats) -> bool:
    """Return whether no sample reaches :data:`SILENT_PEAK`."""
    return bool(np.abs(samples).max(initial=0.0) < SILENT_PEAK)


def power(samples: Floats) -> float:
    """Return the mean square of samples ``[N]``, in float64."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def excerpt(samples: Floats, start: int, length: int) -> Samples:
    """Cut ``length`` samples from ``start`` on, wrapping around at the end.

    Args:
        samples: ``[N]``, not all silent
        start: first sample, below N; if the excerpt would be silent, the first audible sample is used instead
        length: number of samples
    """
    part = np.resize(np.roll(samples, -start), length)
    if is_silent(part):
        part = np.resize(np.roll(samples, -_first_loud(samples)), length)
    return part.astype(np.float64)


def _first_loud(samples: Floats) -> int:
    return int(np.argmax(np.abs(samples) >= SILENT_PEAK))


def audio_files(folder: Path, flag: str) -> list[str]:
    """Return the paths of all audio files in a folder, relative to it, sorted, with ``/`` as the separator.

    Args:
        folder: searched with its subfolders
        flag: the flag that named it, for messages

    Raises:
        UsageError: not a folder, or without audio files
        AudioError: a file's header cannot be read
    """
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = [name for name in names if not Path(name).name.startswith(".") and (folder / name).is_file()]
    if not names:
        raise UsageError(f"{flag} {folder}: holds no audio ({', '.join(sorted(SUFFIXES))})")
    for name in names:
        with opened(folder / name):
            pass
    return names


@contextmanager
def opened(path: Path, part: Part | None = None) -> Iterator[Sound]:
    """Open an audio file, or a part of one, for reading.

    Raises:
        AudioError: missing, unreadable or without samples, even if that only shows while reading
    """
    with audio.opened(path, remedy=REMEDY) if part is None else audio.opened_part(path, part, REMEDY) as file:
        if file.length() == 0:
            raise AudioError(f"{path}: audio has 0 samples; remove the file")
        check_rate(file.rate, str(path))
        yield file


def recorded_part(path: Path, fraction: float, length: int) -> tuple[Samples, float]:
    """Read a part of a recording, wrapping around at its end; only that part is decoded.

    Args:
        path: recording of any rate; channels are averaged
        fraction: where in the recording the part starts, in [0, 1); a silent part is replaced by one that starts at the
            first audible sample
        length: number of samples at 16 kHz

    Returns:
        samples ``[length]`` at 16 kHz, and their start in the recording (s)

    Raises:
        AudioError: unreadable or silent, or with NaN or infinite samples
    """
    with opened(path) as file:
        rate, start = file.rate, int(fraction * file.length())
        wanted = math.ceil(max(length, _SHORTEST) * rate / SAMPLE_RATE)
        part = _read(file, path, start, wanted)
        if is_silent(part):
            audible = first_audible(file, path)
            if audible is None:
                if cancels(file, path):
                    raise AudioError(f"{path}: its channels cancel when they are averaged; keep one of them")
                raise AudioError(f"{path}: is silent; remove the file")
            start = audible
            part = _read(file, path, start, wanted)
    part = _to_16khz(part, rate)
    if is_silent(part):
        raise AudioError(f"{path}: holds nothing audible at 16 kHz; remove the file")
    return excerpt(part, 0, length), start / rate


def first_audible(file: Sound, path: Path, channel: str | int = MEAN) -> int | None:
    """Return the first frame that is not silent, or ``None`` if all are; decodes no more than needed."""
    mixer, before = Mixer(str(path), file.channels, channel), 0
    for block in file.blocks():
        mono = mixer.add(_checked(block, path))
        if not is_silent(mono):
            return before + _first_loud(mono)
        before += len(mono)
    return None


def cancels(file: Sound, path: Path) -> bool:
    """Return whether a file is silent only because its channels cancel when they are averaged."""
    mixer = Mixer(str(path), file.channels)
    for block in file.blocks():
        mixer.add(_checked(block, path))
    return mixer.cancels


def impulse_response(path: Path) -> tuple[Samples, int]:
    """Read an impulse response; only the first channel is used.

    Returns:
        response ``[K]`` at 16 kHz, and the sample at which the direct sound arrives: the strongest one

    Raises:
        AudioError: unreadable, silent or too long, or with NaN or infinite samples
    """
    with opened(path) as file:
        rate, seconds = file.rate, file.length() / file.rate
        if seconds > LONGEST_RESPONSE:
            raise AudioError(
                f"{path}: lasts {seconds:.0f} s, an impulse response at most {LONGEST_RESPONSE:g} s; cut or remove it"
            )
        samples = _checked(file.read()[:, 0], path)
    if not is_silent(samples):
        samples = samples / np.abs(samples).max()  # its level has no meaning, but a low one must not count as silence
    response = _to_16khz(samples, rate).astype(np.float64)
    if is_silent(response):
        raise AudioError(f"{path}: the impulse response is silent; remove the file")
    return response, int(np.argmax(np.abs(response)))


def fingerprint(paths: Iterable[tuple[str, Path]]) -> str:
    """Return the SHA-256 of the files' names and sizes, which reveals most changes without reading the files."""
    digest = hashlib.sha256()
    for name, path in paths:
        digest.update(f"{name}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _read(file: Sound, path: Path, start: int, frames: int) -> Floats:
    """Read ``frames`` frames from ``start`` on, averaged over channels, wrapping around at the end."""
    if frames >= file.length():
        return np.resize(np.roll(_mono(file.read(), path), -start), frames)
    parts = [file.read(start, start + frames)]
    missing = frames - len(parts[0])
    if missing:
        parts.append(file.read(0, missing))
    return np.resize(_mono(np.concatenate(parts), path), frames)


def _mono(samples: NDArray[np.float32], path: Path) -> Floats:
    return _checked(mean_of_channels(samples), path)


def _checked(samples: Floats, path: Path) -> Floats:
    if samples.size == 0:
        raise AudioError(f"{path}: unreadable audio (it ends before its header says); {REMEDY}")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: audio holds NaN or infinite samples; {REMEDY}")
    return samples


def _to_16khz(samples: Floats, rate: int) -> Floats:
    return resample(samples, rate)
