"""What every preparer shares: the rows that it finds, its options, and what a corpus should hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s3prl_emotion.errors import LabelError

NO_AGREEMENT = "no agreement"  # consensus class where the graders do not agree, as MSP's letter X is named
OTHER = "other"
Levels = tuple[float | None, float | None, float | None]  # activation, valence, dominance; None: not known


@dataclass(frozen=True)
class Clip:
    """One utterance, a row of the label table.

    Attributes:
        path: of the audio file
        emotion: consensus or acted class
        speaker: who speaks
        gender: Male or Female
        fold: fold1, …, where the corpus has folds
        split: official partition
        text: transcript
        means: mean activation, valence and dominance, on the corpus's own scale
        spreads: the graders' standard deviation of each (÷n)
        shares: share of the votes for each class, sums to 1
        more: further columns of this corpus
    """

    path: Path
    emotion: str
    speaker: str | None = None
    gender: str | None = None
    fold: str | None = None
    split: str | None = None
    text: str | None = None
    means: Levels | None = None
    spreads: Levels | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)


class Vote(NamedTuple):
    """One class that one grader gave; a grader who gave two classes has two votes."""

    path: Path
    grader: str
    emotion: str


class Rating(NamedTuple):
    """Activation, valence and dominance that one grader gave."""

    path: Path
    grader: str
    levels: Levels


@dataclass(frozen=True)
class Expected:
    """Counts that the published corpus has; what is ``None`` or empty is not checked."""

    utterances: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    speakers: int | None = None
    folds: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)

    def differences(self, clips: Sequence[Clip]) -> list[str]:
        """Say where a table's counts are not those of the published corpus, with both numbers."""
        found = []
        if self.utterances is not None and len(clips) != self.utterances:
            found.append(f"{len(clips)} utterances, expected {self.utterances}")
        speakers = {clip.speaker for clip in clips}
        if self.speakers is not None and len(speakers) != self.speakers:
            found.append(f"{len(speakers)} speakers, expected {self.speakers}")
        for what, expected in (("emotion", self.classes), ("fold", self.folds), ("split", self.splits)):
            counts = Counter(getattr(clip, what) for clip in clips)
            found += [
                f"{what} {name}: {counts[name]} utterances, expected {number}"
                for name, number in expected.items()
                if counts[name] != number
            ]
        return found


@dataclass(frozen=True)
class Prepared:
    """What a preparer found.

    Attributes:
        root: audio root, below which every clip lies
        clips: the rows
        votes: classes that single graders gave
        ratings: levels that single graders gave
        expected: counts to compare with
        notes: what the user should know, a line each
        tolerated: stems of files that are known to be broken in the release, which then are left out
    """

    root: Path
    clips: Sequence[Clip]
    votes: Sequence[Vote] = ()
    ratings: Sequence[Rating] = ()
    expected: Expected = field(default_factory=Expected)
    notes: Sequence[str] = ()
    tolerated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare``; a corpus refuses those that it does not take.

    Attributes:
        classes: IEMOCAP: ``all``, ``superb`` (4 classes) or ``emo-superb`` (9 classes)
        label: CREMA-D: ``votes`` (consensus) or ``acted``
        modality: CREMA-D: ``voice``, ``face`` or ``both``: what the graders saw or heard
        songs: RAVDESS: the sung utterances too
        flip_activation: MSP-IMPROV: activation a becomes 6 - a
        cut: CMU-MOSEI: cut the utterances out of whole videos' audio into this folder
        pattern: generic: regular expression of file stems with named groups
        names: generic: class names for a corpus's own codes
        csv: generic: table of files and classes
        columns: generic: our column for theirs
    """

    classes: str = "all"
    label: str = "votes"
    modality: str = "voice"
    songs: bool = False
    flip_activation: bool = False
    cut: Path | None = None
    pattern: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    csv: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparer:
    """A corpus that can be prepared.

    Attributes:
        name: on the command line
        title: as people write it
        about: language, kind and what labels there are, in one line
        licence: as far as it could be verified
        layout: what is looked for below ROOT
        read: finds the utterances; raises LabelError where ROOT does not look as it should
        takes: names of the options that the corpus takes
        dimensional: whether it has activation, valence and dominance of its own
    """

    name: str
    title: str
    about: str
    licence: str
    layout: str
    read: Callable[[Path, Options], Prepared]
    takes: frozenset[str] = frozenset()
    dimensional: bool = False


def wrong_layout(root: Path, title: str, layout: str) -> LabelError:
    """The error for a folder that does not look like the corpus."""
    return LabelError(f"{root}: does not look like {title}; looked for {layout}; check ROOT")


def shares_of(votes: Iterable[str], classes: Sequence[str]) -> dict[str, float]:
    """Share of the votes for each class; votes for others are not counted.

    Returns:
        a distribution over ``classes``, or an empty one where no vote is for any of them
    """
    counts = Counter(vote for vote in votes if vote in classes)
    total = sum(counts.values())
    return {name: counts[name] / total for name in classes} if total else {}


def plurality(shares: Mapping[str, float]) -> str:
    """The class that most votes are for, or :data:`NO_AGREEMENT` where two or more are level."""
    top = max(shares.values(), default=0.0)
    best = [name for name, share in shares.items() if share == top]
    return best[0] if len(best) == 1 else NO_AGREEMENT


def mean_and_spread(levels: Sequence[Levels]) -> tuple[Levels, Levels]:
    """Mean and population standard deviation (÷n) of the graders' levels; ``None`` where nobody gave one."""
    means: list[float | None] = []
    spreads: list[float | None] = []
    for column in zip(*levels, strict=True) if levels else ((), (), ()):
        known = [level for level in column if level is not None]
        mean = sum(known) / len(known) if known else None
        means.append(mean)
        spreads.append(
            None if mean is None else (sum((level - mean) ** 2 for level in known) / len(known)) ** 0.5  # population
        )
    return (means[0], means[1], means[2]), (spreads[0], spreads[1], spreads[2])


def smoothed(shares: Mapping[str, float], amount: float) -> dict[str, float]:
    """Shares as EMO-SUPERB publishes them: a vote in full reads ``1 - amount``, none ``amount / (classes - 1)``."""
    rest = amount / (len(shares) - 1) if len(shares) > 1 else 0.0
    return {name: share * (1 - amount) + (1 - share) * rest for name, share in shares.items()}
