"""What is said of an utterance: probabilities of classes, dimensions, attention over frames; whole and by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Judgement:
    """What a head says of a stretch of audio.

    Attributes:
        probabilities: of each class, in the order of the checkpoint, sum 1; empty where the head has no classes
        dimensions: EmoAct, EmoVal, EmoDom and, where they are learnt, the graders' spreads, on the scale of the corpus
            that was trained on; empty where the head has none
        attention: weight of each frame ``[T]``, where it was asked for and is of one stretch
    """

    probabilities: Mapping[str, float]
    dimensions: Mapping[str, float]
    attention: NDArray[np.float32] | None = None

    @property
    def label(self) -> str | None:
        """The most probable class, the first of equals; ``None`` where the head has no classes."""
        return next((name for name, _ in self.nbest(1)), None)

    def nbest(self, number: int) -> list[tuple[str, float]]:
        """The ``number`` most probable classes with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:number]


@dataclass(frozen=True)
class Window:
    """What a head says of the audio from ``start`` to ``end`` (s)."""

    start: float
    end: float
    judgement: Judgement


@dataclass(frozen=True)
class Prediction(Judgement):
    """What a head says of an utterance.

    Attributes:
        duration: of the audio (s)
        windows: the time line, where windows were asked for; probabilities and dimensions are then their mean
    """

    duration: float = 0.0
    windows: tuple[Window, ...] = ()


def averaged(windows: Sequence[Window], duration: float) -> Prediction:
    """Mean of windows, weighted by how long each is (all are equally long, unless the audio is shorter than one)."""
    lengths = np.array([window.end - window.start for window in windows])
    weights = lengths / lengths.sum()

    def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        values = np.array([list(row.values()) for row in rows], dtype=np.float64)
        return dict(zip(rows[0], (weights @ values).tolist(), strict=True))

    return Prediction(
        probabilities=mean([window.judgement.probabilities for window in windows]),
        dimensions=mean([window.judgement.dimensions for window in windows]),
        duration=duration,
        windows=tuple(windows),
    )
