"""The types that all corpora are turned into: utterances with their labels, in splits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_emotion.audio.segments import Part, segment_name
from s3prl_emotion.corpora.protocol import DISJOINT, FOLDS, NO_DEV, SPEAKER_DISJOINT, SPEAKERS, Protocol
from s3prl_emotion.errors import LabelError

DIMENSIONS = ("EmoAct", "EmoVal", "EmoDom")  # activation, valence, dominance, as the label table's columns
UNKNOWN_SPEAKERS = ("", "unknown", "unk", "nan", "none")  # in lower case; they are nobody
NO_CONSENSUS = -2  # label where the graders agree on none of the classes; -1 marks a head's placeholder utterances


@dataclass(frozen=True)
class Needs:
    """The labels that a head trains on; a label table must have them.

    Attributes:
        classes: a class index; rows of other classes are dropped
        dimensions: mean activation, valence and dominance; without ``classes``, rows of all classes are kept
        spreads: the graders' standard deviation of each dimension
        shares: the share of the graders who chose each class, instead of a single class
    """

    classes: bool = True
    dimensions: bool = False
    spreads: bool = False
    shares: bool = False


CLASSES_ONLY = Needs()


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one: ``name``, its path below the audio root, identifies it.

    The name of a part ends with its times, as ``a.wav:1.250-3.500``. ``label`` indexes the classes. ``dimensions`` and
    ``spreads`` are in the order of :data:`DIMENSIONS`, on the corpus's own scale; ``shares`` is a distribution over the
    classes. Unknown labels are ``None``.
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
    target_shares: tuple[float, ...] | None = None
    """Training targets of a head that learns shares, where they differ by corpus (``datarc.corpora``); NaN: none."""
    corpus: str | None = None
    """Key of its corpus in ``datarc.corpora`` or ``datarc.extra_tests``, which may stand before ``name``."""
    source: str | None = None
    """Of a degraded copy: the name of the utterance that it is a copy of."""
    channel: str | int = "mean"
    """``datarc.channel``: which channel of the file to read."""
    part: Part | None = None
    """The part of the file that it is; ``None``: the whole file."""

    @property
    def file(self) -> str:
        """The name of its file."""
        return self.name if self.part is None else self.name.removesuffix(f":{self.part}")

    @property
    def place(self) -> str:
        """Its path, and its times if it is a part of a file, for messages."""
        return segment_name(str(self.path), self.part)


def consensus_shares(label: int, width: int, smoothing: float) -> tuple[float, ...]:
    """Return the consensus class as a distribution ``[K]``, or NaN where there is no consensus.

    Args:
        label: class index, negative without a consensus
        width: K
        smoothing: probability in [0, 1) that is spread evenly over all classes
    """
    if label < 0:
        return (math.nan,) * width
    even = smoothing / width
    return tuple(even + (1 - smoothing) if index == label else even for index in range(width))


def known_speaker(name: object) -> str | None:
    """Return a speaker's name; ``None`` for no name, NaN, or one of :data:`UNKNOWN_SPEAKERS`, which many share.

    In a training on several corpora the corpus's name stands before the speaker's: ``podcast/Unknown``.
    """
    text = "" if name is None else str(name)
    return None if text.rpartition("/")[2].strip().lower() in UNKNOWN_SPEAKERS else text


@dataclass(frozen=True)
class Corpus:
    """Utterances of one fold; ``splits`` holds at least train, dev (empty if ``protocol.has_dev`` is false) and test.

    ``noisy`` maps the splits that are degraded on the fly (``datarc.degrade``) to their SNR range (dB);
    ``shared_speakers`` names the splits that share speakers with train on purpose; ``protocol`` says how it was split;
    ``partition`` says which column holds where the table has both ``Fold`` and ``Split_Set``; ``fitted`` has the values
    of ``datarc`` that stood in for ``auto``. A corpus that was loaded without folds has the one split ``all``.
    """

    source: Path
    fold: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Utterance, ...]]
    noisy: dict[str, tuple[float, float]] = field(default_factory=dict)
    shared_speakers: frozenset[str] = frozenset()
    protocol: Protocol = DISJOINT
    partition: str | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def keep_fitted(self, datarc: dict[str, Any]) -> None:
        """Write into a recipe's ``datarc`` what stood in for ``auto``, so that its checkpoint splits alike later on.

        Where EmoBox's lists share speakers, that is ``protocol: published`` too.

        A recipe without ``num_folds`` stays without it where 5 folds are drawn, the number that it always meant.
        """
        usual = {"num_folds": FOLDS, "valid_from": SPEAKERS, "protocol": SPEAKER_DISJOINT}
        datarc |= {key: value for key, value in self.fitted.items() if key in datarc or value != usual[key]}

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Return the utterances of a split.

        Raises:
            LabelError: no such split
        """
        if name == "dev" and not self.protocol.has_dev:
            raise LabelError(
                f"{self.source}: {NO_DEV}, since datarc.valid_ratio is 0; evaluate other splits "
                "(runner.eval_dataloaders, -t), or set valid_ratio: 0.2"
            )
        if name not in self.splits:
            raise LabelError(f"{self.source}: no split {name!r}; there are: {', '.join(self.splits)}")
        return self.splits[name]

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return splits without dev where ``datarc.valid_ratio: 0`` leaves none."""
        return [name for name in names if name != "dev" or self.protocol.has_dev]
