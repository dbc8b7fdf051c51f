"""nEMO: Polish sentences by nine actors, six emotions.

Licence: CC BY-NC-SA 4.0.
Source: https://github.com/amu-cai/nEMO, or https://huggingface.co/datasets/amu-cai/nEMO
Official split: none.
Expected: 4,481 utterances of 9 speakers: neutral 809, sad 769, angry 749, happy 749, fear 736, surprise 669.
Known faults: speakers in ``data.tsv`` have eight spaces before their names, and transcripts in ``normalized_text`` a
    tab too many behind (both removed here); one actor (MP0) has 256 utterances, the others 450 to 540; without
    ``data.tsv`` there is neither Gender nor transcript.
Verified: layout, licence and all counts against the corpus's own ``README.md`` and ``data.tsv``.
Citation: I. Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import first_file, gender, named_files, read_csv

TITLE = "nEMO"
LAYOUT = "samples/EB0_anger_1.wav and the like, at any depth, and data.tsv"
CODES = {
    "anger": "angry", "fear": "fear", "happiness": "happy", "neutral": "neutral", "sadness": "sad",
    "surprised": "surprise",
}  # fmt: skip
EXPECTED = Expected(
    4481, {"neutral": 809, "sad": 769, "angry": 749, "happy": 749, "fear": 736, "surprise": 669}, speakers=9
)
_NAME = re.compile(rf"([A-Z]{{2}}\d)_({'|'.join(CODES)})_(\d+)")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of nEMO.

    Raises:
        LabelError: ROOT does not look like nEMO, or ``data.tsv`` is malformed
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    table = first_file(root, "data.tsv", "../data.tsv")
    rows = {}
    if table is None:
        notes.append("no data.tsv: no columns Gender, Age and Text")
    else:
        rows = {Path(row["file_id"]).stem: row for row in read_csv(table, ("file_id", "raw_text", "gender", "age"))}
    clips = []
    for path, match in files:
        speaker, code, sentence = match.groups()
        row = rows.get(path.stem, {"gender": "", "raw_text": "", "age": ""})
        more = {"Sentence": sentence, "Age": row["age"].strip()}
        text = row["raw_text"].strip() or None
        clips.append(Clip(path, CODES[code], speaker, gender(row["gender"]), text=text, more=more))
    if rows and any(path.stem not in rows for path, _ in files):
        notes.append("data.tsv does not have every utterance: some have no Gender nor Text")
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


PREPARER = Preparer("nemo", TITLE, "Polish, acted; transcripts", "CC BY-NC-SA 4.0", LAYOUT, read)
