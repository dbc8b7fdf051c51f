"""Group utterances by speaker into the clusters that bootstrap and permutation test draw."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.metrics.statistics.bootstrap import FEWEST

FEW_SPEAKERS = 20  # below, 95 % intervals are rough


class Clusters:
    """Utterances grouped by speaker; each utterance of an unknown speaker is a cluster of its own.

    Args:
        speakers: speaker of each utterance, ``[U]``; ``None``, ``""``, NaN or ``Unknown`` where nobody knows
        utterances: identity of each utterance, ``[U]``, needed where one occurs several times (for several seeds)

    Attributes:
        indices: cluster of each utterance, ``[U]``
        unknown: number of utterances without a known speaker
    """

    def __init__(self, speakers: Sequence[Any], utterances: Sequence[Hashable] | None = None) -> None:
        names = [known_speaker(name) for name in speakers]
        self.unknown = sum(name is None for name in names)
        self.utterances = len(names)
        numbers: dict[Hashable, int] = {}
        rows = range(len(names)) if utterances is None else utterances
        keys = [("utterance", row) if name is None else name for row, name in zip(rows, names, strict=True)]
        indices = [numbers.setdefault(key, len(numbers)) for key in keys]
        self.indices: NDArray[np.intp] = np.array(indices, dtype=np.intp)
        self.count = len(numbers)

    def __len__(self) -> int:
        return self.count

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to distrust an interval over these clusters."""
        if self.unknown:
            part = "no utterance" if self.unknown == self.utterances else f"{self.unknown} utterances"
            has = "has a known speaker" if self.unknown == self.utterances else "have no known speaker"
            return (f"{part} {has}: each counts as a speaker of its own, so intervals are too narrow",)
        if len(self) < FEWEST:
            return (f"{len(self)} speakers: too few for an interval, which needs {FEWEST}",)
        if len(self) < FEW_SPEAKERS:
            return (f"{len(self)} speakers: with fewer than {FEW_SPEAKERS}, intervals are rough",)
        return ()
