"""EMOVO: 14 Italian sentences by three actresses and three actors, seven emotions.

Licence: not verified: loaders call it CC BY-NC-SA 4.0, or free for research.
Source: http://voice.fub.it/activities/corpora/emovo/index.html
Official split: none; the column Fold leaves one speaker out, in EmoBox's order (f2, m3, m2, f3, f1, m1).
Expected: 588 utterances of 6 speakers, 98 each; 84 in each of seven classes.
Known faults: most recordings are stereo; the listening test covered two nonsense sentences of each actor alone, and
    its votes are not published.
Verified: speakers, sentences and classes against the corpus's paper; names and counts against the lists of EmoBox
    (``data/emovo``) and of nkululeko (``data/emovo``).
Citation: G. Costantini et al., EMOVO Corpus: an Italian Emotional Speech Database, LREC 2014.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "EMOVO"
LAYOUT = "folders f1 to f3 and m1 to m3 with files as dis-f1-b1.wav, at any depth"
CODES = {
    "dis": "disgust", "gio": "happy", "neu": "neutral", "pau": "fear", "rab": "angry", "sor": "surprise", "tri": "sad",
}  # fmt: skip
FOLDS = {"f2": "fold1", "m3": "fold2", "m2": "fold3", "f3": "fold4", "f1": "fold5", "m1": "fold6"}
EXPECTED = Expected(588, dict.fromkeys(CODES.values(), 84), 6, dict.fromkeys(FOLDS.values(), 98))
_NAME = re.compile(rf"({'|'.join(CODES)})-([fm][123])-([bdln]\d)")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of EMOVO.

    Raises:
        LabelError: ROOT does not look like EMOVO
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    code, speaker, sentence = match.groups()
    gender = "Female" if speaker.startswith("f") else "Male"
    return Clip(path, CODES[code], speaker, gender, FOLDS[speaker], more={"Sentence": sentence})


PREPARER = Preparer("emovo", TITLE, "Italian, acted", "not verified", LAYOUT, read)
