"""AESDD: Greek sentences by actors, five emotions, none of them neutral.

Licence: not verified.
Source: http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/
Official split: none.
Expected: 604 readable utterances of 6 actors: sad 122, disgust 122, angry 121, fear 120, happy 119.
Known faults: there is no neutral class; the number in brackets is the actor, in some names with a leading zero (the
    same actor); further takes have a letter after the bracket; ``s05 (3).wav`` is in no published list, and is dropped
    if it cannot be read; the files do not say which actors are women, so that there is no column Gender; EmoBox's
    folds share actors between train and test.
Citation: N. Vryzas et al., Speech Emotion Recognition for Performance Interaction, Journal of the Audio Engineering
    Society 66(6), 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "AESDD"
LAYOUT = "folders anger, disgust, fear, happiness, sadness with files as 'a03 (4).wav'"
CODES = {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "s": "sad"}
EXPECTED = Expected(604, {"sad": 122, "disgust": 122, "angry": 121, "fear": 120, "happy": 119}, speakers=6)
UNREADABLE = {"s05 (3)": "published lists leave it out as well"}
_NAME = re.compile(r"([adfhs])(\d\d)\s*\((\d+)\)([a-z]?)")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of AESDD.

    Raises:
        LabelError: ROOT does not look like AESDD
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED, tolerated=UNREADABLE)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    code, sentence, actor, _ = match.groups()
    return Clip(path, CODES[code], str(int(actor)), more={"Sentence": sentence})


PREPARER = Preparer("aesdd", TITLE, "Greek, acted", "not verified", LAYOUT, read)
