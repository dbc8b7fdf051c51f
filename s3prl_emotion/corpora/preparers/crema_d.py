"""CREMA-D: acted English sentences by 91 actors, graded by crowd workers from voice, face or both.

Licence: Open Database License 1.0, contents under the Database Contents License 1.0.
Source: https://github.com/CheyneyComputerScience/CREMA-D (the audio is in Git LFS: ``git lfs pull``)
Official split: none.
Expected: 7,442 clips of 91 actors, 48 men and 43 women; acted: neutral 1,087, the other five classes 1,271 each; by
    the votes on the voice alone: neutral 3,897, angry 986, fear 645, disgust 547, sad 370, happy 353, no agreement
    644.
Known faults: most clips sound neutral to graders who only hear the voice, so that the acted class and the votes
    differ; 1076_MTI_SAD_XX has no audio, as the corpus's readme says; EMO-SUPERB's shares agree with these votes on
    the voice for 4,070 of the clips and count more votes for the others; a zip download holds Git LFS pointers instead
    of audio.
Citation: H. Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on Affective
    Computing 5(4), 2014.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared, Preparer, Vote, flag, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import first_file, gender, named_files, read_csv
from s3prl_emotion.corpora.prepare.votes import plurality, shares_of, without_shares
from s3prl_emotion.errors import LabelError

TITLE = "CREMA-D"
LAYOUT = "AudioWAV/1001_DFA_ANG_XX.wav, processedResults/tabulatedVotes.csv and VideoDemographics.csv"
ACTED = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LETTERS = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
MODALITIES = {"voice": "1", "face": "2", "both": "3"}  # first digit of a row's number in tabulatedVotes.csv
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
NO_SIGNAL = {"1076_MTI_SAD_XX": "the corpus's readme says that it has no audio"}
_BY_VOTES = {
    "voice": {
        "neutral": 3897, "angry": 986, "fear": 645, "disgust": 547, "sad": 370, "happy": 353, "no agreement": 644,
    },
    "face": {
        "neutral": 2076, "angry": 968, "fear": 822, "disgust": 1057, "sad": 783, "happy": 1266, "no agreement": 470,
    },
    "both": {
        "neutral": 1972, "angry": 1019, "fear": 1084, "disgust": 1139, "sad": 589, "happy": 1219, "no agreement": 420,
    },
}  # fmt: skip
_BY_ACTING = {name: 1087 if name == "neutral" else 1271 for name in ACTED.values()}
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{2})")


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare crema-d``."""

    label: str = field(
        default="votes",
        metadata=flag(choices=("votes", "acted"), help="class by the graders' votes (default), or as acted"),
    )
    modality: str = field(
        default="voice",
        metadata=flag(choices=tuple(MODALITIES), help="what the graders rated (default: the voice alone)"),
    )


def read(root: Path, options: Options) -> Prepared:
    """Read the clips of CREMA-D.

    Raises:
        LabelError: ROOT does not look like CREMA-D, or a clip has no votes
    """
    audio = root / "AudioWAV"
    files, notes = named_files(audio if audio.is_dir() else root, _NAME, TITLE, LAYOUT)
    counts = _votes(root, options)
    genders = _genders(root, notes)
    clips, votes = [], []
    for path, match in files:
        actor, sentence, acted, level = match.groups()
        if acted not in ACTED:
            raise LabelError(f"{path}: emotion {acted} is none of {', '.join(ACTED)}; rename or remove the file")
        given = counts.get(path.stem)
        if given is None and options.label == "votes":
            raise LabelError(f"{path}: tabulatedVotes.csv has no votes on it; --label acted does without")
        shares = shares_of(given or [], tuple(LETTERS.values()))
        votes += [Vote(path, "", emotion) for emotion in given or []]
        emotion = plurality(shares) if options.label == "votes" else ACTED[acted]
        more = {"Acted": ACTED[acted], "Level": LEVELS.get(level, level)}
        text = SENTENCES.get(sentence)
        clips.append(Clip(path, emotion, actor, genders.get(actor), text=text, shares=shares, more=more))
    if any(not clip.shares for clip in clips):
        clips = without_shares(clips)
        notes.append("no votes on some clips: no share columns")
    classes = _BY_VOTES[options.modality] if options.label == "votes" else _BY_ACTING
    return Prepared(root, clips, votes, (), Expected(7442, classes, speakers=91), notes, NO_SIGNAL)


def _votes(root: Path, options: Options) -> dict[str, list[str]]:
    """Return the classes that the graders of a modality chose, by stem."""
    path = first_file(root, "processedResults/tabulatedVotes.csv", "tabulatedVotes.csv")
    if path is None:
        if options.label == "acted":
            return {}
        raise wrong_layout(root, TITLE, f"{LAYOUT} (--label acted does without the votes)")
    digit = MODALITIES[options.modality]
    votes: dict[str, list[str]] = {}
    for line, row in enumerate(read_csv(path, ("fileName", *LETTERS)), start=2):
        if "" not in row:
            raise LabelError(
                f"{path}: its first column, without a name, should number the rows as 100001; it is missing"
            )
        if not row[""].startswith(digit):
            continue
        try:
            given = [name for letter, name in LETTERS.items() for _ in range(int(row[letter]))]
        except ValueError as error:
            raise LabelError(f"{path} line {line}: a count of votes is not a whole number") from error
        votes[row["fileName"].strip()] = given
    return votes


def _genders(root: Path, notes: list[str]) -> dict[str, str]:
    path = first_file(root, "VideoDemographics.csv")
    if path is None:
        notes.append("no VideoDemographics.csv: no column Gender")
        return {}
    rows = read_csv(path, ("ActorID", "Sex"))
    return {row["ActorID"].strip(): sex for row in rows if (sex := gender(row["Sex"])) is not None}


PREPARER = Preparer(
    "crema-d",
    TITLE,
    "English, acted sentences; votes, transcripts",
    "ODbL 1.0, contents DbCL 1.0",
    LAYOUT,
    read,
    Options,
)
