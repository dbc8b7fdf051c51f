"""SUBESCO: ten sentences in Bangla by ten actresses and ten actors, seven emotions, five takes each.

Licence: CC BY 4.0.
Source: https://zenodo.org/records/4526477
Official split: none; the column Fold has the five groups of four speakers that EmoBox tests on.
Expected: 7,000 utterances of 20 speakers, 350 each; 1,000 in each of seven classes.
Known faults: one name has a stray bracket, F_02_MONIKA_S_2_SURPRISE_3].wav, and loaders with a strict pattern lose it;
    numbers 01 to 10 are given to women and men alike, so that the speaker is letter, number and name together; the
    judgements of the 50 raters are not part of the release.
Verified: names, numbers and licence against the authors' own card
    (https://huggingface.co/datasets/sustcsenlp/bn_emotion_speech_corpus); counts and the stray bracket against the
    lists of EmoBox (``data/subesco``) and against audeering's (https://github.com/audeering/datasets).
Citation: S. Sultana et al., SUST Bangla Emotional Speech Corpus (SUBESCO): An audio-only emotional speech corpus for
    Bangla, PLoS ONE 16(4), 2021.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "SUBESCO"
LAYOUT = "files as F_02_MONIKA_S_1_NEUTRAL_5.wav, at any depth"
CODES = {
    "ANGRY": "angry", "DISGUST": "disgust", "FEAR": "fear", "HAPPY": "happy", "NEUTRAL": "neutral", "SAD": "sad",
    "SURPRISE": "surprise",
}  # fmt: skip
SPEAKERS = {
    "fold1": ("M_09_SHUMANTA", "M_08_PRASUN", "F_03_SMITA", "M_03_ILIAS"),
    "fold2": ("F_10_FAHMEE", "M_07_SIBLY", "F_01_OISHI", "F_04_SWARNALI"),
    "fold3": ("M_06_SHUKANTO", "F_08_JOYEETA", "F_06_SIMI", "M_05_DURANTO"),
    "fold4": ("M_04_BIBHAS", "F_07_TITHI", "F_05_MOUNI", "F_09_CHAITY"),
    "fold5": ("M_10_EVAN", "M_01_BASHIR", "F_02_MONIKA", "M_02_NIPUN"),
}
FOLDS = {speaker: fold for fold, group in SPEAKERS.items() for speaker in group}
EXPECTED = Expected(7000, dict.fromkeys(CODES.values(), 1000), 20, dict.fromkeys(SPEAKERS, 1400))
_NAME = re.compile(rf"([FM]_\d\d_[A-Z]+)_S_(\d+)_({'|'.join(CODES)})_(\d)\]?")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of SUBESCO.

    Raises:
        LabelError: ROOT does not look like SUBESCO
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    speaker, sentence, code, _ = match.groups()
    gender = "Female" if speaker.startswith("F") else "Male"
    return Clip(path, CODES[code], speaker, gender, FOLDS.get(speaker), more={"Sentence": sentence})


PREPARER = Preparer("subesco", TITLE, "Bangla, acted", "CC BY 4.0", LAYOUT, read)
