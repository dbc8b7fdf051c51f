"""URDU: utterances in Urdu from television talk shows, four emotions.

Licence: not verified; the source's repository names none.
Source: https://github.com/siddiquelatif/URDU-Dataset
Official split: none.
Expected: 400 utterances, 100 each of angry, happy, neutral and sad; 29 speakers by the files' names.
Known faults: 18 speakers are men and 11 women, by the letter in the name; one speaker (SM5) has 80 of the 400
    utterances, others have 2; the number at the end of the name has two to four digits; EmoBox's folds share speakers
    between train and test.
Citation: S. Latif, A. Qayyum, M. Usman and J. Qadir, Cross Lingual Speech Emotion Recognition: Urdu vs. Western
    Languages, FIT 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "URDU"
LAYOUT = "folders Angry, Happy, Neutral, Sad with files as SM1_F10_A010.wav"
CODES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
EXPECTED = Expected(400, dict.fromkeys(CODES.values(), 100), speakers=29)
_NAME = re.compile(r"(S([FM])\d+)_F\d+_([AHNS])\d+")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of URDU.

    Raises:
        LabelError: ROOT does not look like URDU
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    speaker, sex, code = match.groups()
    return Clip(path, CODES[code], speaker, "Male" if sex == "M" else "Female")


PREPARER = Preparer("urdu", TITLE, "Urdu, from talk shows", "not verified", LAYOUT, read)
