"""TESS: 200 words in one English carrier phrase by two actresses, seven emotions.

Licence: not verified; the source names it.
Source: https://doi.org/10.5683/SP2/E8H2MF
Official split: none; the column Fold leaves one speaker out, numbered as ``num_folds: 2`` draws them. With one speaker
    left to train on, dev is drawn from train's utterances (``datarc.valid_from``).
Expected: 2,800 utterances of 2 speakers, 1,400 each, 400 in each of seven classes.
Known faults: pleasant surprise is coded ps; second copies of a file in subfolders are skipped; the codes OA and YA
    are read as OAF and YAF.
Citation: K. Dupuis and M. K. Pichora-Fuller, Toronto emotional speech set (TESS), University of Toronto, 2010.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "TESS"
LAYOUT = "files as OAF_back_angry.wav and YAF_back_ps.wav, at any depth"
CODES = {
    "angry": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral", "ps": "surprise",
    "sad": "sad",
}  # fmt: skip
FOLDS = {"YAF": "fold1", "OAF": "fold2"}
EXPECTED = Expected(2800, dict.fromkeys(CODES.values(), 400), 2, dict.fromkeys(FOLDS.values(), 1400))
_NAME = re.compile(r"(OAF?|YAF?)_(.+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of TESS.

    Raises:
        LabelError: ROOT does not look like TESS
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    actress, word, code = match.groups()
    speaker = f"{actress[:2].upper()}F"
    return Clip(path, CODES[code.lower()], speaker, "Female", FOLDS[speaker], text=f"Say the word {word.lower()}.")


PREPARER = Preparer("tess", TITLE, "English, acted; transcripts", "not verified", LAYOUT, read)
