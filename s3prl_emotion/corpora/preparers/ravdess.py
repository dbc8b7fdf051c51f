"""RAVDESS: two English sentences by 24 professional actors, eight emotions in two intensities.

Licence: CC BY-NC-SA 4.0.
Source: https://zenodo.org/record/1188976 (Audio_Speech_Actors_01-24.zip)
Official split: none; the column Fold has the six groups of four actors that EmoBox tests on (data/ravdess/fold_1 to
    fold_6 of https://github.com/emo-box/EmoBox).
Expected: 1,440 utterances of 24 actors, 60 each: neutral 96, the other seven classes 192. The count with songs
    (``--songs``) is not checked.
Known faults: odd actors are men, even ones women; neutral has only one intensity; second copies of a file in
    subfolders are skipped.
Citation: S. R. Livingstone and F. A. Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS),
    PLoS ONE 13(5), 2018.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared, Preparer, flag
from s3prl_emotion.corpora.prepare.source_files import named_files

TITLE = "RAVDESS"
LAYOUT = "Actor_01 to Actor_24 with files as 03-01-06-01-02-01-12.wav, at any depth"
CODES = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgust",
    "08": "surprise",
}  # fmt: skip
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
ACTORS = {
    "fold1": ("01", "11", "20", "21"), "fold2": ("04", "10", "12", "14"), "fold3": ("08", "09", "19", "23"),
    "fold4": ("03", "05", "07", "24"), "fold5": ("02", "15", "16", "18"), "fold6": ("06", "13", "17", "22"),
}  # fmt: skip
FOLDS = {actor: fold for fold, group in ACTORS.items() for actor in group}
EXPECTED = Expected(
    1440, {name: 96 if name == "neutral" else 192 for name in CODES.values()}, 24, dict.fromkeys(ACTORS, 240)
)
_NAME = re.compile(r"03-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare ravdess``."""

    songs: bool = field(default=False, metadata=flag(action="store_true", help="include the sung utterances"))


def read(root: Path, options: Options) -> Prepared:
    """Read the utterances of RAVDESS.

    Raises:
        LabelError: ROOT does not look like RAVDESS
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    clips = []
    for path, match in files:
        channel, emotion, intensity, statement, _, actor = match.groups()
        if channel == "02" and not options.songs:
            continue
        gender = "Male" if int(actor) % 2 else "Female"
        more = {"Intensity": "normal" if intensity == "01" else "strong"}
        if options.songs:
            more["Channel"] = "speech" if channel == "01" else "song"
        clips.append(Clip(path, CODES[emotion], actor, gender, FOLDS.get(actor), text=STATEMENTS[statement], more=more))
    sung = len(files) - len(clips)
    if sung:
        notes.append(f"{sung} sung utterances are left out; --songs takes them")
    return Prepared(root, clips, expected=Expected() if options.songs else EXPECTED, notes=notes)


PREPARER = Preparer("ravdess", TITLE, "English, acted; transcripts", "CC BY-NC-SA 4.0", LAYOUT, read, Options)
