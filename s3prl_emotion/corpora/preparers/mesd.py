"""MESD: single words in Mexican Spanish by women, men and children, six emotions.

Licence: CC BY 4.0, as audeering's publication of the corpus names it.
Source: https://data.mendeley.com/datasets/cy34mh68j9/5
Official split: none.
Expected: 862 utterances of 3 voices: angry 143, neutral 143, the other four classes 144; 11 people spoke.
Known faults: the names say F, M or C (women, men, children), not who of the 3 women, 2 men and 6 children spoke: SpkrID
    is this voice, so that splits by it share no speaker, but there are three of them only; children have no Gender;
    the authors count 864 utterances, the lists of the release 862 (the children's words of anger and neutral lack one
    each); EmoBox's one fold has all voices in train and test; the words lack their accents.
Verified: voices, words and classes against the authors' own page; names and counts against the lists of EmoBox
    (``data/mesd``) and of nkululeko (``data/mesd``).
Citation: M. M. Duville, L. M. Alonso-Valerdi and D. I. Ibarra-Zarate, Mexican Emotional Speech Database Based on
    Semantic, Frequency, Familiarity, Concreteness, and Cultural Shaping of Affective Prosody, Data 6(12), 2021.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "MESD"
LAYOUT = "files as Anger_F_A_abajo.wav, at any depth"
CODES = {
    "Anger": "angry", "Disgust": "disgust", "Fear": "fear", "Happiness": "happy", "Neutral": "neutral",
    "Sadness": "sad",
}  # fmt: skip
GENDERS = {"F": "Female", "M": "Male", "C": None}  # C: children
WORDS = {"A": "same words for every emotion", "B": "words that fit the emotion"}
EXPECTED = Expected(862, {name: 143 if name in ("angry", "neutral") else 144 for name in CODES.values()}, speakers=3)
_NAME = re.compile(rf"({'|'.join(CODES)})_([FMC])_([AB])_(.+)")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of MESD.

    Raises:
        LabelError: ROOT does not look like MESD
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    code, voice, words, word = match.groups()
    more = {"Words": WORDS[words]}
    return Clip(path, CODES[code], voice, GENDERS[voice], text=word.replace("_", " "), more=more)


PREPARER = Preparer("mesd", TITLE, "Mexican Spanish, acted single words; transcripts", "CC BY 4.0", LAYOUT, read)
