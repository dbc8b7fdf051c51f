"""JL-Corpus: 15 sentences in New Zealand English by two women and two men, five primary and five secondary emotions.

Licence: not verified: nkululeko calls it ODC-By; its authors ask to be cited.
Source: https://www.kaggle.com/tli725/jl-corpus, which https://github.com/tli725/JL-Corpus names.
Official split: none; the column Fold leaves one speaker out, in EmoBox's order (male2, female1, male1, female2).
Expected: 2,400 utterances of 4 speakers, 600 each; 240 in each of ten classes.
Known faults: its authors call the release unchecked and unannotated: no listener's judgement is in it; papers with
    five classes use the primary emotions alone (angry, excited, happy, neutral, sad).
Verified: names and counts against the lists of EmoBox (``data/jlcorpus``) and of nkululeko (``data/jl``); transcripts
    against https://github.com/Strong-AI-Lab/emotion (``datasets/JL``).
Citation: J. James, L. Tian and C. I. Watson, An Open Source Emotional Speech Corpus for Human Robot Interaction
    Applications, Interspeech 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named, read_text

TITLE = "JL-Corpus"
LAYOUT = "JL(wav+txt) with files as female1_angry_10a_1.wav and .txt, at any depth"
CLASSES = (
    "angry", "anxious", "apologetic", "assertive", "concerned", "encouraging", "excited", "happy", "neutral", "sad",
)  # fmt: skip
FOLDS = {"male2": "fold1", "female1": "fold2", "male1": "fold3", "female2": "fold4"}
EXPECTED = Expected(2400, dict.fromkeys(CLASSES, 240), 4, dict.fromkeys(FOLDS.values(), 600))
_NAME = re.compile(rf"((?:fe)?male[12])_({'|'.join(CLASSES)})_(\d+[ab])_([12])")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of JL-Corpus.

    Raises:
        LabelError: ROOT does not look like JL-Corpus
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    speaker, emotion, sentence, _ = match.groups()
    gender = "Female" if speaker.startswith("f") else "Male"
    transcript = path.with_suffix(".txt")
    text = " ".join(read_text(transcript).split()) if transcript.is_file() else ""
    return Clip(path, emotion, speaker, gender, FOLDS[speaker], text=text or None, more={"Sentence": sentence})


PREPARER = Preparer("jl-corpus", TITLE, "New Zealand English, acted; transcripts", "not verified", LAYOUT, read)
