"""What a head predicts: probabilities of classes, dimensions and attention, for an utterance and for its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SpanPrediction:
    """What a head predicts for a span of audio.

    Attributes:
        probabilities: probability of each class, in the checkpoint's order, sum 1; empty for a head without classes
        dimensions: EmoAct, EmoVal, EmoDom and, if the head learns them, the graders' spreads, on the scale of the
            training corpus; empty for a head without dimensions
        attention: weight of each frame ``[T]``, sum 1; ``None`` unless requested, and for an utterance with windows
    """

    probabilities: Mapping[str, float]
    dimensions: Mapping[str, float]
    attention: NDArray[np.float32] | None = None

    @property
    def label(self) -> str | None:
        """The most probable class, the first of equals; ``None`` for a head without classes."""
        return next((name for name, _ in self.nbest(1)), None)

    def nbest(self, number: int) -> list[tuple[str, float]]:
        """Return the ``number`` most probable classes with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:number]


@dataclass(frozen=True)
class Window:
    """The prediction for the audio from ``start`` to ``end`` (s)."""

    start: float
    end: float
    prediction: SpanPrediction


@dataclass(frozen=True)
class Prediction(SpanPrediction):
    """What a head predicts for an utterance.

    Attributes:
        duration: duration of the audio (s)
        windows: prediction for each window; empty unless windows were requested, or memory did not suffice for the
            whole. With windows, the utterance's
            probabilities and dimensions are their means.
        was_trained_on: whether the checkpoint, or one of an ensemble's, was trained on this audio, so that the
            prediction says nothing about other speech
        note: what a user of the prediction has to know, such as windows that were not requested; ``None``: nothing
        trained_on_by: the checkpoints that were trained on this audio
    """

    duration: float = 0.0
    windows: tuple[Window, ...] = ()
    was_trained_on: bool = False
    note: str | None = None
    trained_on_by: tuple[str, ...] = ()


def average(windows: Sequence[Window], duration: float) -> Prediction:
    """Return the mean over windows, each weighted by its duration."""
    lengths = np.array([window.end - window.start for window in windows])
    weights = lengths / lengths.sum()

    def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        values = np.array([list(row.values()) for row in rows], dtype=np.float64)
        return dict(zip(rows[0], (weights @ values).tolist(), strict=True))

    return Prediction(
        probabilities=mean([window.prediction.probabilities for window in windows]),
        dimensions=mean([window.prediction.dimensions for window in windows]),
        duration=duration,
        windows=tuple(windows),
    )
