"""Predict audio files: read, predict and write attention; a file that fails becomes a result that says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE, Fault, Part, header, read_audio, warn_of
from s3prl_emotion.errors import AudioError, UsageError, visible
from s3prl_emotion.files.writing import write_arrays
from s3prl_emotion.predict.inputs import AudioFile
from s3prl_emotion.predict.prediction import Prediction
from s3prl_emotion.predict.predictor import BATCH_SIZE, Predictor, Utterance
from s3prl_emotion.predict.windows import Windows


@dataclass(frozen=True)
class Options:
    """How files are predicted.

    Attributes:
        windows: how to split long audio; ``None`` for no windows
        attention: folder for the attention weights; ``None`` for no weights
        batch_size: utterances or windows per batch of the head
        longest: most samples to compute at once, see :meth:`.Predictor.stream`
        channel: which channel to read, see :func:`s3prl_emotion.audio.load_audio`; ``None``: as in training
    """

    windows: Windows | None = None
    attention: Path | None = None
    batch_size: int = BATCH_SIZE
    longest: float | None = None
    channel: str | int | None = None


@dataclass(frozen=True)
class FileResult:
    """The prediction for a file or the reason why there is none, and the file with its attention weights.

    ``warning`` says what is wrong with a file that could be read. For a segment, ``name`` ends with its times; ``file``
    is the name of its file and ``part`` says which part of that it is.
    """

    name: str
    prediction: Prediction | None = None
    error: str | None = None
    attention: str | None = None
    warning: str | None = None
    file: str | None = None
    part: Part | None = None


def predict_files(predictor: Predictor, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
    """Predict files in their order.

    Raises:
        UsageError: attention was requested and the head has none
        TrainingError: attention cannot be written
    """
    attends = options.attention is not None
    faults: list[tuple[Fault, ...]] = []  # of the files that were read, which may be more than were predicted
    channel = predictor.channel if options.channel is None else options.channel
    predictions = predictor.stream(
        _read(files, channel, faults), options.windows, attends, options.batch_size, options.longest
    )
    for number, (file, result) in enumerate(zip(files, predictions, strict=True)):
        warning = "; ".join(fault.text for fault in faults[number]) or None
        named = FileResult(file.name, warning=warning, file=file.file, part=file.part)
        if isinstance(result, AudioError):
            error = str(result).removeprefix(visible(f"{file.place}: ", keep="\n\t"))
            yield dataclasses.replace(named, error=error.removeprefix(visible(f"{file.path}: ", keep="\n\t")))
            continue
        written = None
        if options.attention is not None:
            path = attention_file(options.attention, file)
            written = str(_write_attention(path, result, predictor.about.frame_shift))
        yield dataclasses.replace(named, prediction=_without_attention(result), attention=written)


def longest_samples(files: Iterable[AudioFile]) -> float:
    """Return how many samples the longest file or segment has at 16 kHz, by the headers."""
    longest = 0.0
    for file in files:
        try:
            samples = header(file.path).samples if file.part is None else file.part.seconds * SAMPLE_RATE
            longest = max(longest, samples)
        except AudioError:  # reading it reports that
            continue
    return longest


def attention_file(folder: Path, file: AudioFile) -> Path:
    """Return the path of a file's attention weights."""
    return folder / f"{file.relative}.npz"


def check_attention(folder: Path, files: Iterable[AudioFile]) -> None:
    """Refuse two files whose weights would have the same path.

    Raises:
        UsageError: names both files
    """
    seen: dict[str, AudioFile] = {}
    for file in files:
        other = seen.setdefault(file.relative, file)
        if other is not file:
            raise UsageError(
                f"--attention {folder}: {other.place} and {file.place} would both be {attention_file(folder, file)}; "
                "name the folder that holds both"
            )


def _read(files: Sequence[AudioFile], channel: str | int, faults: list[tuple[Fault, ...]]) -> Iterator[Utterance]:
    """Yield names and waveforms; append to ``faults`` what is wrong with each file."""
    for file in files:
        found: tuple[Fault, ...] = ()
        try:
            if not is_text(file.path):
                raise AudioError(f"{file.path}: soundfile opens no file whose name is not UTF-8; rename it")
            audio = read_audio(file.path, channel, file.part)
            waveform: NDArray[np.float32] | AudioError = audio.waveform
            found = audio.faults
            warn_of(file.place, found)
        except AudioError as error:
            waveform = error
        faults.append(found)
        yield file.place, waveform


def is_text(name: str) -> bool:
    """Return whether a file's name is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python decodes invalid bytes of file names to surrogates
        return False
    return True


def _write_attention(path: Path, prediction: Prediction, frame_shift: float) -> Path:
    """Write ``frame_shift`` (s) and ``weights [T]``; with windows ``weights_1 [T]``, … and ``start``, ``end`` (s)."""
    arrays: dict[str, NDArray[Any]] = {"frame_shift": np.asarray(frame_shift, dtype=np.float64)}
    if prediction.windows:
        for number, window in enumerate(prediction.windows, 1):
            arrays[f"weights_{number}"] = np.asarray(window.prediction.attention)
        arrays["start"] = np.array([window.start for window in prediction.windows])
        arrays["end"] = np.array([window.end for window in prediction.windows])
    else:
        arrays["weights"] = np.asarray(prediction.attention)
    return write_arrays(path, arrays, parents=True)


def _without_attention(prediction: Prediction) -> Prediction:
    """Return a smaller copy, to be sent between processes; the weights are in their file."""
    windows = tuple(
        dataclasses.replace(window, prediction=dataclasses.replace(window.prediction, attention=None))
        for window in prediction.windows
    )
    return dataclasses.replace(prediction, attention=None, windows=windows)
