"""Results as plain data: what ``predict`` writes as JSON lines, and what the page draws."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion import __version__
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.predict.answers import Prediction
from s3prl_emotion.predict.files import FileResult
from s3prl_emotion.predict.output import JsonLinesWriter, Layout, rounded
from s3prl_emotion.predict.predictor import Predictor
from s3prl_emotion.predict.windows import Windows
from s3prl_emotion.serve.limits import Limits

POINTS = 600  # of a waveform's or an attention's drawing


def about(predictor: Predictor, limits: Limits, windows: Windows | None) -> dict[str, Any]:
    """What the model is and what is taken. Of the checkpoint's path the last two parts, where it lies is no one's."""
    known = asdict(predictor.about)
    path = Path(known["checkpoint"])
    known["checkpoint"] = "/".join(path.parts[-2:]).lstrip("/")
    moments = {name: {"mean": mean, "std": std} for name, (mean, std) in predictor.label_moments.items()}
    return known | {
        "training_labels": moments,
        "windows": asdict(windows) if windows else None,
        "limits": asdict(limits),
        "s3prl-emotion": __version__,
    }


def failed(name: str, line: str) -> dict[str, Any]:
    """A file that could not be judged."""
    return {"file": name, "error": line}


def answer(
    name: str, predictor: Predictor, found: Prediction, waveform: NDArray[np.float32], windowed: bool
) -> dict[str, Any]:
    """What is said of a file.

    Args:
        name: of the file, as it is shown
        predictor: that judged it
        found: its judgement
        waveform: ``[N]`` at 16 kHz
        windowed: whether it was taken apart

    Returns:
        an object as of ``predict --format jsonl``, with ``waveform`` (``low`` and ``high`` of at most 600 equal
        stretches) and, for heads that attend, ``attention``: of at most 600 equal stretches how much weight a frame
        has, relative to even weights (1)
    """
    writer = JsonLinesWriter(io.StringIO(), Layout(predictor.about, windows=windowed))
    record = writer.record(FileResult(name, found)) | {"waveform": _outline(waveform)}
    weights = _relative(found)
    if weights is not None:
        record["attention"] = [rounded(value) for value in weights]
    return record


def _outline(waveform: NDArray[np.float32]) -> dict[str, list[float]]:
    starts = _starts(len(waveform))
    return {
        side: [round(value, 4) for value in function.reduceat(waveform, starts).tolist()]
        for side, function in (("low", np.minimum), ("high", np.maximum))
    }


def _relative(found: Prediction) -> list[float] | None:
    """Weights times frames over equal stretches of the audio; where windows overlap, their mean."""
    samples = round(found.duration * SAMPLE_RATE)
    if found.windows:
        parts = [(item.start, item.end, item.judgement.attention) for item in found.windows]
    else:
        parts = [(0.0, found.duration, found.attention)]
    if any(weights is None for _, _, weights in parts):
        return None
    longest = max(len(np.atleast_1d(np.asarray(weights))) for _, _, weights in parts)
    covered = max(end - start for start, end, _ in parts)
    number = int(min(POINTS, max(1, round(longest * found.duration / covered)), samples))
    total, times = np.zeros(number), np.zeros(number)
    for start, end, weights in parts:
        curve = np.asarray(weights, np.float64) * len(np.asarray(weights))
        first = min(int(start / found.duration * number), number - 1)
        last = max(first + 1, min(number, round(end / found.duration * number)))
        total[first:last] += _resized(curve, last - first)
        times[first:last] += 1
    return (total / np.maximum(times, 1)).tolist()


def _resized(curve: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """A step function of ``[T]`` equal steps as one of ``number``: the mean over each new step."""
    if len(curve) == number:
        return curve
    integral = np.concatenate([[0.0], np.cumsum(curve)])
    edges = np.linspace(0, len(curve), number + 1)
    return np.diff(np.interp(edges, np.arange(len(curve) + 1), integral)) * number / len(curve)


def _starts(samples: int) -> NDArray[np.int64]:
    number = min(POINTS, samples)
    return (np.arange(number) * samples) // number
