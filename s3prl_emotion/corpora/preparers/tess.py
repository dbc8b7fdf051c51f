"""TESS: 200 words in one English carrier phrase by two actresses, seven emotions.

Licence: not verified; the source names it.
Source: https://doi.org/10.5683/SP2/E8H2MF
Official split: none; with two speakers no three speaker-disjoint splits can be drawn, so that it serves best as an
    ``extra_tests`` corpus.
Expected: 2,800 utterances of 2 speakers, 1,400 each, 400 in each of seven classes.
Known faults: pleasant surprise is coded ps; second copies of a file in subfolders are passed over; the codes OA and
    YA are taken for OAF and YAF.
Citation: K. Dupuis and M. K. Pichora-Fuller, Toronto emotional speech set (TESS), University of Toronto, 2010.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.preparers.base import Clip, Expected, Options, Prepared, Preparer
from s3prl_emotion.corpora.preparers.files import named_files

TITLE = "TESS"
LAYOUT = "files as OAF_back_angry.wav and YAF_back_ps.wav, at any depth"
CODES = {
    "angry": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral", "ps": "surprise",
    "sad": "sad",
}  # fmt: skip
EXPECTED = Expected(2800, dict.fromkeys(CODES.values(), 400), speakers=2)
_NAME = re.compile(r"(OAF?|YAF?)_(.+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)


def read(root: Path, options: Options) -> Prepared:
    """Find the utterances of TESS.

    Raises:
        LabelError: ROOT does not look like TESS
    """
    found, notes = named_files(root, _NAME, TITLE, LAYOUT)
    clips = []
    for path, match in found:
        speaker = f"{match.group(1)[:2].upper()}F"
        text = f"Say the word {match.group(2).lower()}."
        clips.append(Clip(path, CODES[match.group(3).lower()], speaker, "Female", text=text))
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


PREPARER = Preparer("tess", TITLE, "English, acted; transcripts", "not verified", LAYOUT, read)
