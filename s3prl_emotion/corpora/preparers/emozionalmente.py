"""Emozionalmente: 18 Italian sentences by 431 amateur actors on their own devices, seven emotions, five listeners each.

Licence: CC BY 4.0, as audeering's publication of the corpus names it.
Source: https://zenodo.org/records/6569824 (version 1.1: https://zenodo.org/records/12616095)
Official split: version 1.1 has a speaker-independent one in ``metadata/split/*.csv``; version 1.0 has none.
Expected: 6,902 utterances of 431 speakers, 986 in each of seven classes, as acted.
Known faults: the class is what the actor meant; listeners agreed with it in two thirds of their votes, which are the
    share columns and ``votes.csv``; devices, rooms and rates differ (16 and 44.1 kHz); listeners rated some recordings
    as bad (column BadAudio has their share).
Verified: speakers, sentences, classes and listeners against the authors' own page; the tables' columns against
    audeering's publication (https://github.com/audeering/datasets) and EmoBox's script, counts against EmoBox's lists
    (``data/emozionalmente``); the split's folder against a loader of version 1.1 alone.
Citation: F. Catania, J. W. Wilke and F. Garzotto, Emozionalmente: A Crowdsourced Corpus of Simulated Emotional Speech
    in Italian, IEEE Transactions on Audio, Speech and Language Processing 33, 2025.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer, Vote, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import audio_files, first_file, gender, read_csv, tables
from s3prl_emotion.corpora.prepare.votes import shares_of, without_shares
from s3prl_emotion.errors import LabelError

TITLE = "Emozionalmente"
LAYOUT = "audio/1613655062436.wav and the like, and metadata/ with samples.csv, users.csv and evaluations.csv"
CODES = {
    "anger": "angry", "disgust": "disgust", "fear": "fear", "joy": "happy", "neutrality": "neutral", "sadness": "sad",
    "surprise": "surprise",
}  # fmt: skip
SPLITS = {"train": "Train", "dev": "Development", "val": "Development", "validation": "Development", "test": "Test"}
EXPECTED = Expected(6902, dict.fromkeys(CODES.values(), 986), speakers=431)
Evaluations = dict[str, list[dict[str, str]]]  # rows of evaluations.csv by the audio's name


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of Emozionalmente.

    Raises:
        LabelError: ROOT does not look like Emozionalmente, or a table is malformed
    """
    samples = first_file(root, "metadata/samples.csv", "samples.csv")
    audio = {path.name: path for path in audio_files(root)}
    if samples is None or not audio:
        raise wrong_layout(root, TITLE, LAYOUT)
    metadata, notes = samples.parent, list[str]()
    evaluations, genders, splits = _evaluations(metadata), _genders(metadata, notes), _splits(metadata)
    clips, votes = [], []
    for row in read_csv(samples, ("file_name", "actor", "emotion_expressed", "sentence")):
        name, actor, text = row["file_name"], row["actor"].strip(), row["sentence"].strip() or None
        path, heard = audio.get(name, root / "audio" / name), evaluations[name]
        given = [(item.get("evaluator", "").strip(), _class(item["emotion_recognized"], path)) for item in heard]
        votes += [Vote(path, grader, emotion) for grader, emotion in given]
        shares = shares_of((emotion for _, emotion in given), tuple(CODES.values()))
        emotion, split, more = _class(row["emotion_expressed"], path), splits.get(name), _bad_audio(heard)
        clips.append(Clip(path, emotion, actor, genders.get(actor), split=split, text=text, shares=shares, more=more))
    if any(not clip.shares for clip in clips):
        notes.append("some utterances have no votes: no share columns" if votes else "no evaluations.csv: no votes")
        clips = without_shares(clips)
    outside = sum(clip.split is None for clip in clips)
    if 0 < outside < len(clips):
        notes.append(f"{outside} utterances are in no official split and are left out")
        clips = [clip for clip in clips if clip.split]
    return Prepared(root, clips, votes, expected=EXPECTED, notes=notes)


def _bad_audio(heard: list[dict[str, str]]) -> dict[str, str]:
    """Return the share of listeners who called the recording bad, for version 1.1, which asks them."""
    answers = [item["audio_quality"].strip() == "bad" for item in heard if item.get("audio_quality")]
    return {"BadAudio": f"{sum(answers) / len(answers):g}"} if answers else {}


def _class(name: str, path: Path) -> str:
    if name.strip() not in CODES:
        raise LabelError(f"{path}: emotion {name!r} is none of {', '.join(CODES)}; correct the table")
    return CODES[name.strip()]


def _evaluations(metadata: Path) -> Evaluations:
    """Return the rows of every listener, by the audio's name."""
    path, rows = first_file(metadata, "evaluations.csv"), defaultdict[str, list[dict[str, str]]](list)
    for row in read_csv(path, ("file_name", "emotion_recognized")) if path else ():
        rows[row["file_name"]].append(row)
    return rows


def _genders(metadata: Path, notes: list[str]) -> dict[str, str]:
    path = first_file(metadata, "users.csv")
    if path is None:
        notes.append("no users.csv: no column Gender")
        return {}
    rows = read_csv(path, ("username", "gender"))
    return {row["username"].strip(): sex for row in rows if (sex := gender(row["gender"])) is not None}


def _splits(metadata: Path) -> dict[str, str]:
    """Return the official split of each audio file, from the tables in the folder ``split``; none in version 1.0."""
    known = {path: SPLITS[path.stem.lower()] for path in tables(metadata / "split") if path.stem.lower() in SPLITS}
    return {row["file_name"]: name for path, name in known.items() for row in read_csv(path, ("file_name",))}


PREPARER = Preparer(
    "emozionalmente", TITLE, "Italian, acted by amateurs; votes, transcripts", "CC BY 4.0", LAYOUT, read
)
