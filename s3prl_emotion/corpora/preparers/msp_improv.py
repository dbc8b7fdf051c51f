"""MSP-IMPROV: acted and improvised dialogues in English, 6 sessions of 2 actors, graded by crowd workers.

Licence: of the University of Texas at Dallas, on request; see the source's page.
Source: https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html
Official split: none; the column Fold leaves one session out, so that both of its actors are in test.
Expected: 8,438 turns of 12 actors; 7,798 of them neutral, happy, sad or angry.
Known faults: the file of labels is called Evalution.txt in the release; its names begin with UTD-IMPROV and end in
    .avi, those of the audio begin with MSP-IMPROV; activation runs from active (1) to calm (5), opposite to other
    corpora (``--flip_activation`` reverses it); some graders' lines are duplicated; levels may be NaN; EMO-SUPERB's
    SpkrID is the session, here it is the actor (F01, M01).
Citation: C. Busso et al., MSP-IMPROV: An Acted Corpus of Dyadic Interactions to Study Emotion Perception, IEEE
    Transactions on Affective Computing 8(1), 2017.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.class_names import MSP_LETTERS, OTHER
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
from s3prl_emotion.corpora.prepare.source_files import audio_files, by_stem, first_file, number, read_text
from s3prl_emotion.corpora.prepare.votes import mean_and_spread, shares_of, without_shares
from s3prl_emotion.errors import LabelError

TITLE = "MSP-IMPROV"
LAYOUT = "Evalution.txt (or Evaluation.txt) and session*/S01A/*/MSP-IMPROV-*.wav at any depth"
LETTERS = {letter: MSP_LETTERS[letter] for letter in "AHSNOX"}
CLASSES = ("angry", "sad", "neutral", "happy", OTHER)
EXPECTED = Expected(8438, {"neutral": 3477, "happy": 2644, "sad": 885, "angry": 792}, speakers=12)
REVERSED = 6.0  # on a scale from 1 to 5, the reversed level is 6 - level
_HEAD = re.compile(r"^(?:UTD|MSP)-IMPROV-(S\d\d[A-Z]-([FM])(\d\d)-[A-Z]-[A-Z]+\d+)\.(?:avi|wav);\s*([A-Z])\s*;(.*)$")
_GRADE = re.compile(r"^([^;]+);\s*(Sad|Angry|Happy|Neutral|Other)\s*;(.*)$", re.IGNORECASE)
_LEVEL = re.compile(r"\b([AVDN]):\s*([\d.]+|NaN)", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare msp-improv``."""

    flip_activation: bool = field(
        default=False, metadata=flag(action="store_true", help="reverse activation, so that 5 is active")
    )


@dataclass
class Turn:
    """An utterance as the file of labels describes it."""

    name: str
    sex: str
    session: str
    letter: str
    means: dict[str, float | None]
    grades: dict[str, tuple[str, Levels]] = field(default_factory=dict)


def parse_evaluation(text: str, source: Path) -> tuple[list[Turn], int]:
    """Read the file of labels.

    Args:
        text: content of the file
        source: its path, for messages

    Returns:
        the utterances, and the number of graders' lines that are duplicated

    Raises:
        LabelError: a class is not one of MSP-IMPROV's, or an utterance is listed twice
    """
    turns: dict[str, Turn] = {}
    current: Turn | None = None
    twice = 0
    for line, content in enumerate(text.splitlines(), start=1):
        head, grade = _HEAD.match(content.strip()), _GRADE.match(content.strip())
        if head:
            name, sex, session, letter, levels = head.groups()
            if letter not in LETTERS:
                raise LabelError(f"{source} line {line}: {name} has class {letter!r}, none of {', '.join(LETTERS)}")
            if name in turns:
                raise LabelError(f"{source} line {line}: {name} is listed twice")
            current = turns[name] = Turn(name, sex, session, letter, _levels(levels))
        elif grade and current:
            grader, emotion, levels = grade.groups()
            given = _levels(levels)
            twice += grader.strip() in current.grades
            current.grades[grader.strip()] = (emotion.lower(), (given["A"], given["V"], given["D"]))
    return list(turns.values()), twice


def _levels(text: str) -> dict[str, float | None]:
    levels = {key.upper(): number(value) for key, value in _LEVEL.findall(text)}
    return {key: levels.get(key) for key in "AVDN"}


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of MSP-IMPROV.

    Raises:
        LabelError: ROOT does not look like MSP-IMPROV, or the file of labels is malformed
    """
    source = first_file(root, "Evalution.txt", "Evaluation.txt", "Labels/Evalution.txt", "Labels/Evaluation.txt")
    if source is None:
        raise wrong_layout(root, TITLE, LAYOUT)
    turns, twice = parse_evaluation(read_text(source), source)
    if not turns:
        raise wrong_layout(root, TITLE, f"{source.name} with lines as UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; …")
    audio = by_stem(audio_files(root))
    clips, votes, ratings = [], [], []
    for turn in turns:
        stem = f"MSP-IMPROV-{turn.name}"
        path = audio.get(stem, root / f"session{int(turn.session)}" / f"{stem}.wav")
        clips.append(_clip(turn, path, options.flip_activation))
        for grader, (emotion, levels) in turn.grades.items():
            votes.append(Vote(path, grader, emotion))
            ratings.append(Rating(path, grader, _flipped(levels, options.flip_activation)))
    notes = [f"{twice} graders' lines stand twice and are counted once"] if twice else []
    if not options.flip_activation:
        notes.append("activation runs from active (1) to calm (5) in this corpus; --flip_activation turns it")
    if any(not clip.shares for clip in clips):
        notes.append("some utterances have no votes: no share columns; use votes.csv")
        clips = without_shares(clips)
    return Prepared(root, clips, votes, ratings, EXPECTED, notes)


def _flipped(levels: Levels, flip: bool) -> Levels:
    activation, valence, dominance = levels
    return (REVERSED - activation if flip and activation is not None else activation), valence, dominance


def _clip(turn: Turn, path: Path, flip: bool) -> Clip:
    _, spreads = mean_and_spread([levels for _, levels in turn.grades.values()])
    means = _flipped((turn.means["A"], turn.means["V"], turn.means["D"]), flip)
    sentence, _, recording, _ = turn.name.split("-")
    natural = turn.means["N"]
    more = {"Acted": LETTERS.get(sentence[-1], OTHER), "Recording": recording}
    if natural is not None:
        more["Naturalness"] = f"{natural:g}"
    shares = shares_of((emotion for emotion, _ in turn.grades.values()), CLASSES)
    gender = "Female" if turn.sex == "F" else "Male"
    speaker, fold = f"{turn.sex}{turn.session}", f"fold{int(turn.session)}"
    return Clip(path, LETTERS[turn.letter], speaker, gender, fold, None, None, means, spreads, shares, more)


PREPARER = Preparer(
    "msp-improv",
    TITLE,
    "English, acted and improvised dialogues; votes, activation, valence and dominance (1-5)",
    "UT Dallas's own, on request",
    LAYOUT,
    read,
    Options,
    dimensional=True,
)
