"""ShEMO: Persian utterances from radio plays, six emotions, labelled by the majority of twelve annotators.

Licence: free for academic purposes, as its paper says; one of its authors' pages says Apache-2.0.
Source: https://github.com/mansourehk/ShEMO (the archives there are said to be damaged), or
    https://github.com/pariajm/sharif-emotional-speech-dataset
Official split: none.
Expected: 3,000 utterances of 87 speakers (31 women, 56 men). Counts by class are not checked: they were not verified.
Known faults: fear is rare; single annotators' votes are not published; transcripts are missing for some utterances
    and contain marks of writing direction (removed here); the corrected list on an author's page has 2,838 utterances.
Citation: O. Mohamad Nezami, P. Jamshid Lou and M. Karami, ShEMO: a large-scale validated database for Persian speech
    emotion detection, Language Resources and Evaluation 53(1), 2019.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import by_stem, named_files, read_text, walk

TITLE = "ShEMO"
LAYOUT = "folders female and male with files as F21N23.wav, at any depth"
CODES = {"A": "angry", "F": "fear", "H": "happy", "N": "neutral", "S": "sad", "W": "surprise"}
EXPECTED = Expected(3000, speakers=87)
_NAME = re.compile(r"(([FM])\d\d)([AFHNSW])\d+")
_DIRECTION = str.maketrans("", "", "\u200e\u200f")  # marks of writing direction


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of ShEMO.

    Raises:
        LabelError: ROOT does not look like ShEMO
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    transcripts = [path for path in walk(root) if path.suffix.lower() == ".ort"]
    final = [path for path in transcripts if "final text" in path.parts]  # the others are phonetic, or drafts
    texts = by_stem(final or transcripts)
    clips = []
    for path, match in files:
        speaker, sex, code = match.groups()
        source = texts.get(path.stem)
        text = " ".join(read_text(source).translate(_DIRECTION).split()) if source else None
        clips.append(Clip(path, CODES[code], speaker, "Male" if sex == "M" else "Female", text=text or None))
    missing = sum(clip.text is None for clip in clips)
    if missing:
        notes.append(f"{missing} utterances have no transcript")
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


PREPARER = Preparer(
    "shemo", TITLE, "Persian, from radio plays; transcripts", "free for academic purposes", LAYOUT, read
)
