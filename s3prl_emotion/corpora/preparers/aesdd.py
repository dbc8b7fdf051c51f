"""AESDD: Greek sentences by actors, five emotions, without neutral.

Licence: not verified.
Source: http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/
Official split: none.
Expected: 604 readable utterances of 6 actors: sad 122, disgust 122, angry 121, fear 120, happy 119.
Known faults: there is no neutral class; the number in brackets names the actor, in some names with a leading zero,
    which is the same actor; further takes have a letter behind the bracket; ``s05 (3).wav`` is in no published list,
    and is left out where it cannot be read; which actors are women is not said in the files, so that there is no
    column Gender; EmoBox's folds share actors between train and test.
Citation: N. Vryzas et al., Speech Emotion Recognition for Performance Interaction, Journal of the Audio Engineering
    Society 66(6), 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.preparers.base import Clip, Expected, Options, Prepared, Preparer
from s3prl_emotion.corpora.preparers.files import named_files

TITLE = "AESDD"
LAYOUT = "folders anger, disgust, fear, happiness, sadness with files as 'a03 (4).wav'"
CODES = {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "s": "sad"}
EXPECTED = Expected(604, {"sad": 122, "disgust": 122, "angry": 121, "fear": 120, "happy": 119}, speakers=6)
UNREADABLE = {"s05 (3)": "published lists leave it out as well"}
_NAME = re.compile(r"([adfhs])(\d\d)\s*\((\d+)\)([a-z]?)")


def read(root: Path, options: Options) -> Prepared:
    """Find the utterances of AESDD.

    Raises:
        LabelError: ROOT does not look like AESDD
    """
    found, notes = named_files(root, _NAME, TITLE, LAYOUT)
    clips = [
        Clip(path, CODES[match.group(1)], str(int(match.group(3))), more={"Sentence": match.group(2)})
        for path, match in found
    ]
    return Prepared(root, clips, expected=EXPECTED, notes=notes, tolerated=UNREADABLE)


PREPARER = Preparer("aesdd", TITLE, "Greek, acted", "not verified", LAYOUT, read)
