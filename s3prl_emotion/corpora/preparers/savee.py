"""SAVEE: British English sentences by four men, seven emotions.

Licence: on registration, for research; the terms were not verified.
Source: http://personal.ee.surrey.ac.uk/Personal/P.Jackson/SAVEE/
Official split: none; the column Fold leaves one speaker out, numbered as ``num_folds: 4`` draws them.
Expected: 480 utterances of 4 speakers, 120 each: neutral 120, the other six classes 60 each.
Known faults: there are two layouts, DC/a01.wav and DC_a01.wav; all speakers are men.
Citation: P. Jackson and S. Haq, Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey, 2014.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import named_files

TITLE = "SAVEE"
LAYOUT = "folders DC, JE, JK, KL with files as sa01.wav, or files as DC_sa01.wav"
FOLDS = {"DC": "fold1", "KL": "fold2", "JK": "fold3", "JE": "fold4"}
SPEAKERS = tuple(sorted(FOLDS))
CODES = {
    "a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprise",
}  # fmt: skip
EXPECTED = Expected(
    480, {name: 120 if name == "neutral" else 60 for name in CODES.values()}, 4, dict.fromkeys(FOLDS.values(), 120)
)
_NAME = re.compile(r"(?:(DC|JE|JK|KL)_?)?(sa|su|[adfhn])(\d\d)")


def _speaker(path: Path) -> str:
    return path.stem[:2] if path.stem[:2] in SPEAKERS else path.parent.name


def _utterance(path: Path) -> str:
    """Return speaker and number, which are the same in both layouts."""
    speaker = _speaker(path)
    return f"{speaker} {path.stem.removeprefix(speaker).lstrip('_')}"


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of SAVEE.

    Raises:
        LabelError: ROOT does not look like SAVEE
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT, key=_utterance)
    strangers = [path for path, _ in files if _speaker(path) not in SPEAKERS]
    if strangers:
        raise wrong_layout(root, TITLE, f"{LAYOUT} (no speaker known for {strangers[0]})")
    clips = []
    for path, match in files:
        speaker = _speaker(path)
        clips.append(Clip(path, CODES[match.group(2)], speaker, "Male", FOLDS[speaker]))
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


PREPARER = Preparer("savee", TITLE, "British English, acted", "on registration, not verified", LAYOUT, read)
