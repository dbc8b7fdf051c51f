"""The types that the preparers of all corpora share: what they declare, the options they take, what they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from s3prl_emotion.errors import LabelError

Levels = tuple[float | None, float | None, float | None]  # activation, valence, dominance; None: unknown


@dataclass(frozen=True)
class Clip:
    """One utterance, a row of the label table.

    Attributes:
        path: audio file
        emotion: consensus class, or the class that was acted
        speaker: name or number
        gender: Male or Female
        fold: fold1, …, if the corpus has folds
        split: official partition
        text: transcript
        means: mean activation, valence and dominance, on the corpus's own scale
        spreads: the graders' standard deviation of each (÷n)
        shares: share of the votes for each class; they sum to 1
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
    """One class that one grader chose; a grader who chose two classes has two votes."""

    path: Path
    grader: str
    emotion: str


class Rating(NamedTuple):
    """One grader's activation, valence and dominance."""

    path: Path
    grader: str
    levels: Levels


@dataclass(frozen=True)
class Expected:
    """Counts of the published corpus; what is ``None`` or empty is not checked."""

    utterances: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    speakers: int | None = None
    folds: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)

    def differences(self, clips: Sequence[Clip]) -> list[str]:
        """Return a line for each count that differs from the published corpus, with both numbers."""
        lines = []
        if self.utterances is not None and len(clips) != self.utterances:
            lines.append(f"{len(clips)} utterances, expected {self.utterances}")
        speakers = {clip.speaker for clip in clips}
        if self.speakers is not None and len(speakers) != self.speakers:
            lines.append(f"{len(speakers)} speakers, expected {self.speakers}")
        for what, expected in (("emotion", self.classes), ("fold", self.folds), ("split", self.splits)):
            counts = Counter(getattr(clip, what) for clip in clips)
            lines += [
                f"{what} {name}: {counts[name]} utterances, expected {number}"
                for name, number in expected.items()
                if counts[name] != number
            ]
        return lines


@dataclass(frozen=True)
class Prepared:
    """The utterances that a preparer has read.

    Attributes:
        root: audio root; every clip is below it
        clips: the rows of the label table
        votes: classes chosen by single graders
        ratings: levels given by single graders
        expected: counts to compare with
        notes: information for the user, one line each
        tolerated: files known to be broken in the release, which may be dropped: their stems, and why
    """

    root: Path
    clips: Sequence[Clip]
    votes: Sequence[Vote] = ()
    ratings: Sequence[Rating] = ()
    expected: Expected = field(default_factory=Expected)
    notes: Sequence[str] = ()
    tolerated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoOptions:
    """Options of a corpus that has none of its own."""


@dataclass(frozen=True)
class Preparer:
    """A corpus that can be prepared.

    Attributes:
        name: on the command line
        title: as people write it
        about: language, kind of speech and labels, in one line
        licence: as far as it could be verified
        layout: the files that are expected below ROOT
        read: reads the utterances below ROOT; raises LabelError if ROOT does not look like the corpus
        options: dataclass of the options that only this corpus has, each with the metadata of :func:`flag`
        dimensional: whether the corpus has activation, valence and dominance of its own
    """

    name: str
    title: str
    about: str
    licence: str
    layout: str
    read: Callable[[Path, Any], Prepared]
    options: type[Any] = NoOptions
    dimensional: bool = False


def flag(convert: Callable[[Any], Any] | None = None, **argument: Any) -> dict[str, Any]:
    """Return the metadata of a field of :attr:`Preparer.options`: the flag of the same name on the command line.

    Args:
        convert: turns what argparse gives into the field's value; raises ValueError with what it must be
        argument: ``help`` and further arguments of argparse's ``add_argument``
    """
    return {"argument": argument, "convert": convert}


def wrong_layout(root: Path, title: str, layout: str) -> LabelError:
    """Return the error for a folder that does not look like the corpus."""
    return LabelError(f"{root}: does not look like {title}; looked for {layout}; check ROOT")
