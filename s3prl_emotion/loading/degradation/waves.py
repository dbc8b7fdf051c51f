"""Reading and cutting of what is added to speech: recordings of noise, impulse responses, other speakers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.functional import resample

from s3prl_emotion.audio import SAMPLE_RATE, SUFFIXES
from s3prl_emotion.errors import AudioError, UsageError

Samples = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
SILENT_PEAK = 1e-5  # -100 dB of full scale, a third of 16-bit audio's smallest step
LONGEST_RESPONSE = 20.0  # s; what is longer is a recording, not an impulse response
_SHORTEST = SAMPLE_RATE // 10  # samples; what is shorter may well lie in a pause of the recording
_BLOCK = 1 << 14  # frames read at a time


def is_silent(samples: Floats) -> bool:
    """Whether no sample reaches :data:`SILENT_PEAK`."""
    return bool(np.abs(samples).max(initial=0.0) < SILENT_PEAK)


def power(samples: Floats) -> float:
    """Mean square of samples ``[N]``, in float64."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def excerpt(samples: Floats, start: int, length: int) -> Samples:
    """Cut ``length`` samples from ``start`` on, going on at the beginning where they end.

    Args:
        samples: ``[N]``, not all silent
        start: first sample, below N; where the excerpt would be silent, the first audible sample instead
        length: samples to give
    """
    part = np.resize(np.roll(samples, -start), length)
    if is_silent(part):
        part = np.resize(np.roll(samples, -_first_loud(samples)), length)
    return part.astype(np.float64)


def _first_loud(samples: Floats) -> int:
    return int(np.argmax(np.abs(samples) >= SILENT_PEAK))


def audio_files(folder: Path, flag: str) -> list[str]:
    """Paths below a folder of all audio files in it, sorted, with ``/`` between their parts.

    Args:
        folder: searched with its subfolders
        flag: what named it, for messages

    Raises:
        UsageError: it is no folder or holds none
        AudioError: a file whose header cannot be read
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
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """An audio file, open for reading.

    Raises:
        AudioError: missing, unreadable or without samples, also where that shows while reading
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames == 0:
                raise AudioError(f"{path}: audio has 0 samples; remove the file")
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:  # TypeError: headerless, .raw
        raise AudioError(f"{path}: unreadable audio ({error}); replace or remove the file") from error


def recorded_part(path: Path, fraction: float, length: int) -> tuple[Samples, float]:
    """Read a part of a recording, repeated with wrap-around where it is too short; only that part is decoded.

    Args:
        path: any rate, channels are averaged
        fraction: of the recording after which the part starts, in [0, 1); where it would be silent, it starts at the
            first audible sample
        length: samples at 16 kHz

    Returns:
        samples ``[length]`` at 16 kHz, and where they start in the recording (s)

    Raises:
        AudioError: unreadable, silent, or samples that are NaN or infinite
    """
    with opened(path) as file:
        rate, start = file.samplerate, int(fraction * file.frames)
        wanted = math.ceil(max(length, _SHORTEST) * rate / SAMPLE_RATE)
        part = _read(file, path, start, wanted)
        if is_silent(part):
            audible = first_audible(file, path)
            if audible is None:
                raise AudioError(f"{path}: is silent; remove the file")
            start = audible
            part = _read(file, path, start, wanted)
    part = _to_16khz(part, rate)
    if is_silent(part):
        raise AudioError(f"{path}: holds nothing audible at 16 kHz; remove the file")
    return excerpt(part, 0, length), start / rate


def first_audible(file: soundfile.SoundFile, path: Path) -> int | None:
    """The first frame that is not silent, ``None`` where all are; no more than needed is decoded."""
    file.seek(0)
    before = 0
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        mono = _mono(block, path)
        if not is_silent(mono):
            return before + _first_loud(mono)
        before += len(mono)
    return None


def impulse_response(path: Path) -> tuple[Samples, int]:
    """Read an impulse response; of several channels the first.

    Returns:
        response ``[K]`` at 16 kHz, and the sample at which the direct sound arrives: the strongest one

    Raises:
        AudioError: unreadable, silent, too long, or samples that are NaN or infinite
    """
    with opened(path) as file:
        rate, seconds = file.samplerate, file.frames / file.samplerate
        if seconds > LONGEST_RESPONSE:
            raise AudioError(
                f"{path}: lasts {seconds:.0f} s, an impulse response at most {LONGEST_RESPONSE:g} s; cut or remove it"
            )
        samples = _checked(file.read(dtype="float32", always_2d=True)[:, 0], path)
    if not is_silent(samples):
        samples = samples / np.abs(samples).max()  # its level means nothing, yet must not make it silent
    response = _to_16khz(samples, rate).astype(np.float64)
    if is_silent(response):
        raise AudioError(f"{path}: the impulse response is silent; remove the file")
    return response, int(np.argmax(np.abs(response)))


def fingerprint(paths: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over names and sizes of files, which tells most changes at no cost."""
    digest = hashlib.sha256()
    for name, path in paths:
        digest.update(f"{name}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _read(file: soundfile.SoundFile, path: Path, start: int, frames: int) -> Floats:
    """``frames`` frames from ``start`` on, averaged over channels, with wrap-around."""
    if frames >= file.frames:
        file.seek(0)
        return np.resize(np.roll(_mono(file.read(dtype="float32", always_2d=True), path), -start), frames)
    file.seek(start)
    parts = [file.read(frames, dtype="float32", always_2d=True)]
    missing = frames - len(parts[0])
    if missing:
        file.seek(0)
        parts.append(file.read(missing, dtype="float32", always_2d=True))
    return np.resize(_mono(np.concatenate(parts), path), frames)


def _mono(samples: Floats, path: Path) -> Floats:
    return _checked(samples.mean(axis=1), path)


def _checked(samples: Floats, path: Path) -> Floats:
    if samples.size == 0:
        raise AudioError(f"{path}: unreadable audio (it ends before its header says); replace or remove the file")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: audio holds NaN or infinite samples; replace or remove the file")
    return samples


def _to_16khz(samples: Floats, rate: int) -> Floats:
    if rate == SAMPLE_RATE:
        return samples
    return resample(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), rate, SAMPLE_RATE).numpy()
