"""What a corpus is to a head: utterances with their labels, in splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.errors import LabelError

DIMENSIONS = ("EmoAct", "EmoVal", "EmoDom")  # activation, valence, dominance, in the label table's words
NO_CONSENSUS = -2  # label of an utterance whose graders agree on none of the classes; -1 is a stand-in's


@dataclass(frozen=True)
class Needs:
    """What a head learns, and so what every row of a label table must have.

    Attributes:
        classes: a class; rows of other classes are left out
        dimensions: mean activation, valence and dominance; without ``classes`` rows of all classes are kept
        spreads: the graders' standard deviation of each
        shares: the share of the graders that heard each class, in place of one class
    """

    classes: bool = True
    dimensions: bool = False
    spreads: bool = False
    shares: bool = False


LEARNS_CLASSES = Needs()


@dataclass(frozen=True)
class Utterance:
    """One recording: ``name`` is its path below the audio root and identifies it; ``label`` indexes the classes.

    ``dimensions`` and ``spreads`` follow :data:`DIMENSIONS`, on the corpus's own scale; ``shares`` is a distribution
    over the classes; each is ``None`` where it is not known.
    """

    name: str
    path: Path
    label: int
    speaker: str | None = None
    gender: str | None = None
    dimensions: tuple[float, ...] | None = None
    spreads: tuple[float, ...] | None = None
    text: str | None = None
    shares: tuple[float, ...] | None = None
    taught: tuple[float, ...] | None = None
    """Of several corpora: what a head that learns shares learns of this one, NaN where it has none."""


def consensus_shares(label: int, width: int, smoothing: float) -> tuple[float, ...]:
    """The consensus as a distribution ``[K]``, of which ``smoothing`` is spread evenly; NaN without one.

    Args:
        label: class index, negative where there is no consensus
        width: K
        smoothing: share in [0, 1)
    """
    if label < 0:
        return (math.nan,) * width
    even = smoothing / width
    return tuple(even + (1 - smoothing) if place == label else even for place in range(width))


@dataclass(frozen=True)
class Corpus:
    """Utterances of one fold; ``splits`` holds at least train, dev and test.

    ``noisy`` names the splits that are degraded as they are read (``datarc.degrade``), each with its range of SNR (dB).
    """

    source: Path
    fold: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Utterance, ...]]
    noisy: dict[str, tuple[float, float]] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Utterances of a split.

        Raises:
            LabelError: no such split
        """
        if name not in self.splits:
            raise LabelError(f"{self.source}: no split {name!r}; there are: {', '.join(self.splits)}")
        return self.splits[name]
