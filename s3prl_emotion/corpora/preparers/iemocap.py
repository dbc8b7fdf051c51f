"""IEMOCAP: acted dyadic dialogues in English, 5 sessions of 2 speakers, with every grader's vote.

Licence: of the University of Southern California, for research; request it at https://sail.usc.edu/iemocap/.
Official split: none; SUPERB leaves one session out (fold N tests on Session N), and so does the column Fold.
Expected: 10,039 utterances of 10 speakers; 5,531 in SUPERB's selection (happy with excited, neutral, angry, sad).
Known faults: SUPERB's lists name the dialogue's first speaker, whereas the true one is in the file's name (``_F``,
    ``_M``); levels are in the order valence, activation, dominance; some graders left dominance out; graders choose
    several classes, or classes of their own (counted as other); classes and levels have different graders; graders
    C-F1 and C-M1 are the actors themselves and are not counted; copies made on macOS have ``._`` files beside the real
    ones.
Citation: C. Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, Language Resources and
    Evaluation 42(4), 2008.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.class_names import NO_AGREEMENT, OTHER
from s3prl_emotion.corpora.prepare.preparer import (
    Clip,
    Expected,
    Levels,
    Prepared,
    Preparer,
    Rating,
    Vote,
    flag,
    wrong_layout,
)
from s3prl_emotion.corpora.prepare.source_files import number, read_text
from s3prl_emotion.corpora.prepare.votes import mean_and_spread, shares_of
from s3prl_emotion.corpora.superb import IEMOCAP_NAME, speaker_of
from s3prl_emotion.errors import LabelError, nearest

TITLE = "IEMOCAP"
LAYOUT = "Session1 to Session5 with dialog/EmoEvaluation/*.txt and sentences/wav/*/*.wav"
CODES = {
    "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "exc": "excited", "fru": "frustrated",
    "fea": "fear", "sur": "surprise", "dis": "disgust", "oth": OTHER, "xxx": NO_AGREEMENT,
}  # fmt: skip
SUPERB = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}  # a code's class in SUPERB's selection
EMO_SUPERB = ("frustrated", "angry", "sad", "disgust", "excited", "fear", "neutral", "surprise", "happy")
VOTES = {
    "neutral": "neutral", "neutral state": "neutral", "anger": "angry", "angry": "angry", "sadness": "sad",
    "sad": "sad", "happiness": "happy", "happy": "happy", "excited": "excited", "excitement": "excited",
    "frustration": "frustrated", "frustrated": "frustrated", "surprise": "surprise", "surprised": "surprise",
    "fear": "fear", "disgust": "disgust", "disgusted": "disgust", "other": OTHER,
}  # fmt: skip
EXPECTED = {
    "all": Expected(
        10039,
        {
            "neutral": 1708, "frustrated": 1849, "angry": 1103, "sad": 1084, "excited": 1041, "happy": 595,
            "surprise": 107, "fear": 40, NO_AGREEMENT: 2507,
        },
        speakers=10,
    ),
    "superb": Expected(
        5531,
        {"neu": 1708, "hap": 1636, "ang": 1103, "sad": 1084},
        speakers=10,
        folds={"fold1": 1085, "fold2": 1023, "fold3": 1151, "fold4": 1031, "fold5": 1241},
    ),
    "emo-superb": Expected(10039, speakers=10),
}  # fmt: skip
_HEAD = re.compile(r"^\[[\d.]+\s*-\s*[\d.]+\]\s+(\S+)\s+(\w+)\s+\[\s*([\d.]+),\s*([\d.]+),\s*([\d.]+)\s*\]")
_GRADER = re.compile(r"^([CA])-(\w+):\s*(.*)$")
_LEVEL = re.compile(r"\b(val|act|dom)\s*(\d+(?:\.\d+)?)?")
_SAID = re.compile(r"^(\S+)\s+\[[^\]]*\]:\s*(.*)$")


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare iemocap``."""

    classes: str = field(
        default="all", metadata=flag(choices=tuple(EXPECTED), help="all, or SUPERB's 4, or EMO-SUPERB's 9")
    )


@dataclass
class Turn:
    """An utterance as EmoEvaluation describes it.

    Attributes:
        name: Ses01F_impro01_F000
        code: consensus class, ``neu`` …
        means: published mean activation, valence and dominance
        votes: pairs of grader and class
        levels: pairs of grader and levels
        unknown: classes that graders wrote and that are not in the list
    """

    name: str
    code: str
    means: Levels
    votes: list[tuple[str, str]] = field(default_factory=list)
    levels: list[tuple[str, Levels]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def parse_evaluation(text: str, source: Path) -> list[Turn]:
    """Read one dialogue's EmoEvaluation file.

    Args:
        text: content of the file
        source: its path, for messages

    Returns:
        its utterances, in the file's order, without the actors' own evaluations

    Raises:
        LabelError: a consensus class or an utterance's name is not one of IEMOCAP's
    """
    turns: list[Turn] = []
    for line, content in enumerate(text.splitlines(), start=1):
        head = _HEAD.match(content.strip())
        if head:
            name, code = head.group(1), head.group(2).lower()
            if code not in CODES:
                raise LabelError(f"{source} line {line}: {name} has class {code!r}{nearest(code, CODES)}")
            if IEMOCAP_NAME.match(name) is None:
                raise LabelError(f"{source} line {line}: {name} is not an utterance's name, as Ses01F_impro01_F000")
            valence, activation, dominance = (number(value) for value in head.group(3, 4, 5))
            turns.append(Turn(name, code, (activation, valence, dominance)))
            continue
        graded = _GRADER.match(content.strip())
        if graded and turns and graded.group(2)[0] not in "FM":  # graders F1 and M1 are the actors themselves
            _add_grades(turns[-1], *graded.groups())
    return turns


def _add_grades(turn: Turn, kind: str, grader: str, text: str) -> None:
    given = text.partition("(")[0]  # the rest is a comment
    if kind == "A":
        levels = {name: number(value) for name, value in _LEVEL.findall(given)}
        turn.levels.append((grader, (levels.get("act"), levels.get("val"), levels.get("dom"))))
        return
    for word in (part.strip().lower() for part in given.split(";")):
        if word:
            turn.votes.append((grader, VOTES.get(word, OTHER)))
            if word not in VOTES:
                turn.unknown.append(word)


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of IEMOCAP that ``options.classes`` selects.

    Raises:
        LabelError: ROOT does not look like IEMOCAP, or a file is malformed
    """
    turns = _turns(root)
    texts = _transcripts(root)
    clips, votes, ratings = [], [], []
    left_out = 0
    for session, turn in turns:
        path = root / session / "sentences" / "wav" / turn.name.rpartition("_")[0] / f"{turn.name}.wav"
        clip = _clip(turn, path, session, texts.get(turn.name), options.classes)
        if clip is None:
            left_out += 1
            continue
        clips.append(clip)
        votes += [Vote(path, *vote) for vote in turn.votes]
        ratings += [Rating(path, *levels) for levels in turn.levels]
    notes = _notes([turn for _, turn in turns])
    if left_out:
        notes.append(f"{left_out} utterances are not of the selection {options.classes} and are left out")
    return Prepared(root, clips, votes, ratings, EXPECTED[options.classes], notes)


def _turns(root: Path) -> list[tuple[str, Turn]]:
    turns: list[tuple[str, Turn]] = []
    seen: set[str] = set()
    for folder in sorted(root.glob("Session*/dialog/EmoEvaluation")):
        for path in sorted(folder.glob("[!.]*.txt")):
            for turn in parse_evaluation(read_text(path), path):
                if turn.name in seen:
                    raise LabelError(f"{path}: {turn.name} is evaluated twice")
                seen.add(turn.name)
                turns.append((folder.parent.parent.name, turn))
    if not turns:
        raise wrong_layout(root, TITLE, LAYOUT)
    return turns


def _transcripts(root: Path) -> dict[str, str]:
    texts = {}
    for path in sorted(root.glob("Session*/dialog/transcriptions/[!.]*.txt")):
        for line in read_text(path).splitlines():
            said = _SAID.match(line.strip())
            if said:
                texts[said.group(1)] = said.group(2).strip()
    return texts


def _clip(turn: Turn, path: Path, session: str, text: str | None, selection: str) -> Clip | None:
    """Return the utterance's row, or ``None`` if it is not in the selection."""
    given = [emotion for _, emotion in turn.votes]
    if selection == "superb":
        emotion, shares = SUPERB.get(turn.code, ""), {}
    else:
        classes = EMO_SUPERB if selection == "emo-superb" else (*EMO_SUPERB, OTHER)
        emotion, shares = CODES[turn.code], shares_of(given, classes)
        if not shares:
            return None
    if not emotion:
        return None
    speaker, gender = speaker_of(turn.name, turn.name)
    _, spreads = mean_and_spread([levels for _, levels in turn.levels])
    fold = session.replace("Session", "fold")
    return Clip(path, emotion, speaker, gender, fold, None, text, turn.means, spreads, shares)


def _notes(turns: Sequence[Turn]) -> list[str]:
    notes = []
    unknown = Counter(word for turn in turns for word in turn.unknown)
    if unknown:
        words = ", ".join(f"{word!r}" for word, _ in unknown.most_common(3))
        notes.append(f"{sum(unknown.values())} votes are for classes that are not of the list, as {words}: other")
    gaps = sum(None in levels for turn in turns for _, levels in turn.levels)
    if gaps:
        notes.append(f"{gaps} graders' levels lack one of valence, activation and dominance")
    return notes


PREPARER = Preparer(
    "iemocap",
    TITLE,
    "English, acted dialogues; votes, activation, valence and dominance, transcripts",
    "USC's own, for research, on request",
    LAYOUT,
    read,
    Options,
    dimensional=True,
)
