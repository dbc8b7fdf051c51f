"""MELD: utterances of the television series Friends, seven emotions.

Licence: GPL-3.0 of the repository with the labels; the films belong to their broadcaster.
Source: https://github.com/declare-lab/MELD (MELD.Raw.tar.gz)
Official split: train, dev and test, of dialogues: the main characters are in all three. The table has it as Split_Set,
    and the speaker in a column Speaker, which splits are not checked by. With ``--speakers`` the speaker is SpkrID and
    there is no Split_Set, so that folds are drawn which share no speaker.
Expected: 13,706 utterances with readable audio: neutral 6,434, happy 2,308, surprise 1,636, angry 1,607, sad 1,002,
    disgust 361, fear 358; Train 9,988, Development 1,108, Test 2,610 (the readme: 9,989, 1,109, 2,610); 304 speakers.
Known faults: train's dia125_utt3 is broken and dev's dia110_utt7 has no file (left out if they cannot be read); test's
    folder has further films (final_videos_test…) and ``._`` files of macOS, which are in no table; some utterances hold
    laughter of the audience, music, or several people (speakers such as Both or All); names are spelt in several ways
    (Dr. Leedbetter, Dr. Ledbetter); the audio is in MP4 films with two or six channels: convert it, or install the
    media extra; single annotators' votes are not published.
Verified: tables, columns, counts by class and split against the corpus's own repository; folders and broken files
    against EmoBox (``data/meld``), nkululeko (``data/meld``) and https://github.com/Strong-AI-Lab/emotion.
Citation: S. Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared, Preparer, flag, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import read_csv, walk
from s3prl_emotion.errors import LabelError

TITLE = "MELD"
LAYOUT = (
    "train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, and films or audio as dia0_utt0.mp4 in train_splits, "
    "dev_splits_complete and output_repeated_splits_test, at any depth"
)
CODES = {
    "anger": "angry", "disgust": "disgust", "fear": "fear", "joy": "happy", "neutral": "neutral", "sadness": "sad",
    "surprise": "surprise",
}  # fmt: skip
SPLITS = {"train": "Train", "dev": "Development", "test": "Test"}
FOLDERS = {
    "train_splits": "train", "train": "train", "dev_splits_complete": "dev", "dev": "dev",
    "output_repeated_splits_test": "test", "test": "test",
}  # fmt: skip
PLACES = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
CLASSES = {
    "neutral": 6434, "happy": 2308, "surprise": 1636, "angry": 1607, "sad": 1002, "disgust": 361, "fear": 358,
}  # fmt: skip
SPEAKERS = 304
EXPECTED = Expected(13_706, CLASSES, splits={"Train": 9988, "Development": 1108, "Test": 2610})
BROKEN = {"dia125_utt3": "broken in the release", "dia110_utt7": "not in the release"}
_NAME, _TABLE = re.compile(r"dia\d+_utt\d+"), re.compile(r"(train|dev|test)_sent_emo\.csv", re.IGNORECASE)
_NEEDED = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare meld``."""

    speakers: bool = field(
        default=False,
        metadata=flag(action="store_true", help="SpkrID and no official split, whose speakers are in train and test"),
    )


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of MELD.

    Raises:
        LabelError: ROOT does not look like MELD, or a table is malformed
    """
    lists, audio = _files(root)
    if set(lists) != set(SPLITS) or not audio:
        raise wrong_layout(root, TITLE, LAYOUT)
    clips = []
    for split, path in sorted(lists.items()):
        for row in read_csv(path, _NEEDED):
            name = f"dia{row['Dialogue_ID'].strip()}_utt{row['Utterance_ID'].strip()}"
            code, speaker = row["Emotion"].strip().lower(), " ".join(row["Speaker"].split())
            if code not in CODES:
                raise LabelError(f"{path}: {name} has emotion {code!r}, none of {', '.join(CODES)}; correct the table")
            more = {"Sentiment": row["Sentiment"].strip(), "Dialogue": f"{split} {row['Dialogue_ID'].strip()}"}
            whose = (speaker, None) if options.speakers else (None, SPLITS[split])
            more |= {} if options.speakers else {"Speaker": speaker}
            file = audio.get((split, name), root / PLACES[split] / f"{name}.mp4")
            text = " ".join(row["Utterance"].split())
            clips.append(Clip(file, CODES[code], whose[0], split=whose[1], text=text, more=more))
    expected = Expected(EXPECTED.utterances, CLASSES, SPEAKERS) if options.speakers else EXPECTED
    notes = [] if options.speakers else ["speakers of the official test split are in train too; --speakers has them"]
    return Prepared(root, clips, expected=expected, notes=notes, tolerated=BROKEN)


def _files(root: Path) -> tuple[dict[str, Path], dict[tuple[str, str], Path]]:
    """Return each split's table, and each utterance's audio by split and name; audio files are taken before films."""
    from s3prl_emotion.audio import MEDIA_SUFFIXES, SUFFIXES

    lists: dict[str, Path] = {}
    audio: dict[tuple[str, str], Path] = {}
    for path in walk(root):
        is_table, suffix = _TABLE.fullmatch(path.name), path.suffix.lower()
        if is_table:
            lists.setdefault(is_table.group(1).lower(), path)
        elif suffix in SUFFIXES | MEDIA_SUFFIXES and _NAME.fullmatch(path.stem):
            folders = (FOLDERS.get(part.lower()) for part in reversed(path.relative_to(root).parts[:-1]))
            split = next((folder for folder in folders if folder), None)
            if split and (suffix in SUFFIXES or (split, path.stem) not in audio):
                audio[split, path.stem] = path
    return lists, audio


PREPARER = Preparer(
    "meld",
    TITLE,
    "English, from a television series; transcripts, official split",
    "GPL-3.0 for the labels",
    LAYOUT,
    read,
    Options,
)
