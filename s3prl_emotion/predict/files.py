"""Audio files to results: read, judge, keep attention; what cannot be judged becomes a result that says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import load_audio
from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.files.writing import write_arrays
from s3prl_emotion.predict.answers import Prediction
from s3prl_emotion.predict.inputs import AudioFile
from s3prl_emotion.predict.predictor import BATCH_SIZE, Predictor, Utterance
from s3prl_emotion.predict.windows import Windows


@dataclass(frozen=True)
class Options:
    """How files are judged.

    Attributes:
        windows: of long audio
        attention: folder for frames' weights
        batch_size: utterances or windows that the head sees at once
    """

    windows: Windows | None = None
    attention: Path | None = None
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True)
class FileResult:
    """What is said of a file, or why nothing is; and where its frames' weights are."""

    name: str
    prediction: Prediction | None = None
    error: str | None = None
    attention: str | None = None


def judge_files(predictor: Predictor, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
    """Judge files in their order.

    Raises:
        UsageError: the head weighs no frames
        TrainingError: attention cannot be written
    """
    predictions = predictor.stream(_read(files), options.windows, options.attention is not None, options.batch_size)
    for file, found in zip(files, predictions, strict=True):
        if isinstance(found, AudioError):
            yield FileResult(file.path, error=str(found).removeprefix(f"{file.path}: "))
            continue
        kept = None
        if options.attention is not None:
            kept = str(_keep(attention_file(options.attention, file), found, predictor.about.frame_shift))
        yield FileResult(file.path, _without_attention(found), attention=kept)


def attention_file(folder: Path, file: AudioFile) -> Path:
    """Where the frames' weights of a file are kept."""
    return folder / f"{file.relative}.npz"


def check_attention(folder: Path, files: Iterable[AudioFile]) -> None:
    """Refuse two files whose weights would be kept in one.

    Raises:
        UsageError: names both
    """
    seen: dict[str, AudioFile] = {}
    for file in files:
        other = seen.setdefault(file.relative, file)
        if other is not file:
            raise UsageError(
                f"--attention {folder}: {other.path} and {file.path} would both be {attention_file(folder, file)}; "
                "name the folder that holds both"
            )


def _read(files: Sequence[AudioFile]) -> Iterator[Utterance]:
    for file in files:
        try:
            if not is_text(file.path):
                raise AudioError(f"{file.path}: soundfile opens no file whose name is not UTF-8; rename it")
            waveform: NDArray[np.float32] | AudioError = load_audio(file.path)
        except AudioError as error:
            waveform = error
        yield file.path, waveform


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8, rather than any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python stands in surrogates for bytes that are none
        return False
    return True


def _keep(path: Path, found: Prediction, frame_shift: float) -> Path:
    """Write ``weights [T]``, or with windows ``weights_1 [T]``, … and ``start``, ``end`` (s); and ``frame_shift``."""
    arrays: dict[str, NDArray[Any]] = {"frame_shift": np.float64(frame_shift)}
    if found.windows:
        arrays |= {f"weights_{n}": np.asarray(item.judgement.attention) for n, item in enumerate(found.windows, 1)}
        arrays["start"] = np.array([item.start for item in found.windows])
        arrays["end"] = np.array([item.end for item in found.windows])
    else:
        arrays["weights"] = np.asarray(found.attention)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_arrays(path, arrays)


def _without_attention(found: Prediction) -> Prediction:
    """Weights are in their file by now; a result should stay small."""
    windows = tuple(
        dataclasses.replace(item, judgement=dataclasses.replace(item.judgement, attention=None))
        for item in found.windows
    )
    return dataclasses.replace(found, attention=None, windows=windows)
