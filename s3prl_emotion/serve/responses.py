"""Turn results into plain data: the JSON lines of ``predict``, plus what the page draws."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion import __version__
from s3prl_emotion.audio import SAMPLE_RATE, Audio
from s3prl_emotion.predict.about import last_parts
from s3prl_emotion.predict.files import FileResult
from s3prl_emotion.predict.output import JsonLinesWriter, Layout, rounded
from s3prl_emotion.predict.prediction import Prediction
from s3prl_emotion.predict.predictor import Predictor
from s3prl_emotion.predict.windows import Windows
from s3prl_emotion.serve.limits import Limits

POINTS = 600  # of the drawn waveform and attention curve


def about(predictor: Predictor, limits: Limits, windows: Windows | None) -> dict[str, Any]:
    """Describe the model and the limits; of the checkpoint's path only the last two parts, as the rest is private."""
    known = predictor.about.to_plain()
    for item in (known, *known.get("members", ())):
        item["checkpoint"] = last_parts(item["checkpoint"])
    moments = {name: {"mean": mean, "std": std} for name, (mean, std) in predictor.label_moments.items()}
    return known | {
        "training_labels": moments,
        "windows": asdict(windows) if windows else None,
        "limits": asdict(limits),
        "s3prl-emotion": __version__,
    }


def failed(name: str, line: str) -> dict[str, Any]:
    """Return the response for a file that could not be predicted."""
    return {"file": name, "error": line}


def predicted(name: str, predictor: Predictor, prediction: Prediction, audio: Audio, windowed: bool) -> dict[str, Any]:
    """Return the response for a file.

    Args:
        name: name of the file, as it is shown
        predictor: the model
        prediction: its prediction for the file
        audio: its waveform at 16 kHz, and what is wrong with the file
        windowed: whether the file was split into windows

    Returns:
        the object of ``predict --format jsonl``; with ``waveform``: ``low`` and ``high`` of at most 600 equal spans;
        and, for heads with attention, ``attention``: the mean weight in each of at most 600 equal spans, relative to
        uniform weights (1)
    """
    warning = "; ".join(fault.text for fault in audio.faults) or None
    writer = JsonLinesWriter(io.StringIO(), Layout(predictor.about, windows=windowed))
    record = writer.record(FileResult(name, prediction, warning=warning)) | {"waveform": _outline(audio.waveform)}
    weights = _relative_weights(prediction)
    if weights is not None:
        record["attention"] = [rounded(value) for value in weights]
    return record


def _outline(waveform: NDArray[np.float32]) -> dict[str, list[float]]:
    starts = _starts(len(waveform))
    return {
        side: [round(value, 4) for value in function.reduceat(waveform, starts).tolist()]
        for side, function in (("low", np.minimum), ("high", np.maximum))
    }


def _relative_weights(prediction: Prediction) -> list[float] | None:
    """Return weights times number of frames over equal spans of the audio; their mean where windows overlap."""
    samples, duration = round(prediction.duration * SAMPLE_RATE), prediction.duration
    if prediction.windows:
        parts = [(item.start, item.end, item.prediction.attention) for item in prediction.windows]
    else:
        parts = [(0.0, duration, prediction.attention)]
    if any(weights is None for _, _, weights in parts):
        return None
    longest = max(len(np.atleast_1d(np.asarray(weights))) for _, _, weights in parts)
    covered = max(end - start for start, end, _ in parts)
    number = int(min(POINTS, max(1, round(longest * duration / covered)), samples))
    total, times = np.zeros(number), np.zeros(number)
    for start, end, weights in parts:
        curve = np.asarray(weights, np.float64) * len(np.asarray(weights))
        first = min(int(start / duration * number), number - 1)
        last = max(first + 1, min(number, round(end / duration * number)))
        total[first:last] += _resized(curve, last - first)
        times[first:last] += 1
    return (total / np.maximum(times, 1)).tolist()


def _resized(curve: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Resample a step function of ``[T]`` equal steps to ``number`` steps: the mean over each new step."""
    if len(curve) == number:
        return curve
    integral = np.concatenate([[0.0], np.cumsum(curve)])
    edges = np.linspace(0, len(curve), number + 1)
    return np.diff(np.interp(edges, np.arange(len(curve) + 1), integral)) * number / len(curve)


def _starts(samples: int) -> NDArray[np.int64]:
    number = min(POINTS, samples)
    return (np.arange(number) * samples) // number
