"""CaFE: six sentences in Canadian French by twelve actors, seven emotions, six of them in two intensities.

Licence: not verified; the source names it.
Source: https://zenodo.org/record/1478765 (CaFE_48k.zip, or 192 kHz in two parts)
Official split: none.
Expected: 936 utterances of 12 actors: neutral 72, the other six classes 144 each.
Known faults: some programs garble the archive's folder names (Colère, Dégoût), so that the class is taken from the
    file's name; odd actors are men, even ones women.
Citation: P. Gournay, O. Lahaie and R. Lefebvre, A Canadian French Emotional Speech Dataset, ACM Multimedia Systems,
    2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import prepare_named

TITLE = "CaFE"
LAYOUT = "files as 01-C-1-1.wav (or .aiff), at any depth"
CODES = {
    "C": "angry", "D": "disgust", "J": "happy", "N": "neutral", "P": "fear", "S": "surprise", "T": "sad",
}  # fmt: skip
SENTENCES = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}
EXPECTED = Expected(936, {name: 72 if name == "neutral" else 144 for name in CODES.values()}, speakers=12)
_NAME = re.compile(r"(\d\d)-([CDJNPST])-([12])-([1-6])")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of CaFE.

    Raises:
        LabelError: ROOT does not look like CaFE
    """
    return prepare_named(root, TITLE, LAYOUT, _NAME, _clip, EXPECTED)


def _clip(path: Path, match: re.Match[str]) -> Clip:
    actor, code, intensity, sentence = match.groups()
    gender = "Male" if int(actor) % 2 else "Female"
    more = {"Intensity": "mild" if intensity == "1" else "strong"}
    return Clip(path, CODES[code], actor, gender, text=SENTENCES[sentence], more=more)


PREPARER = Preparer("cafe", TITLE, "Canadian French, acted; transcripts", "not verified", LAYOUT, read)
