"""EmoV-DB: English sentences of CMU ARCTIC by two women and two men, five emotions; made for speech synthesis.

Licence: of its authors, for non-commercial purposes.
Source: https://openslr.org/115/, described at https://github.com/numediart/EmoV-DB
Official split: none.
Expected: 6,893 utterances of 4 speakers: sleepy 1,721, neutral 1,568, amused 1,317, angry 1,268, disgust 1,019.
Known faults: the names do not say who speaks: the folders do (bea_Amused, or bea/Amused); one speaker (josh) has
    neither anger nor disgust; the readme counts 7,000 files, the sorted release holds 6,893; some classes are spelt in
    capitals, some ranges in the names do not hold their sentence; six pairs of files are takes of one sentence, of
    which EmoBox keeps one; one speaker (bea) is at 44.1 kHz, the others at 16 kHz; laughter and yawns are part of the
    recordings; EmoBox's one fold has all speakers in train and test.
Verified: speakers, classes and licence against the corpus's own readme; names and counts against the lists of nkululeko
    (``data/emov-db``) and of EmoBox (``data/emovdb``), which disagree with the readme, as said above.
Citation: A. Adigwe et al., The Emotional Voices Database: Towards Controlling the Emotion Dimension in Voice Generation
    Systems, 2018, arXiv:1806.09514.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer, wrong_layout
from s3prl_emotion.corpora.prepare.source_files import first_file, named_files, read_text

TITLE = "EmoV-DB"
LAYOUT = "folders bea_Amused, …, sam_Sleepy (or bea/Amused) with files as amused_1-28_0011.wav"
CODES = {
    "amused": "amused", "anger": "angry", "disgust": "disgust", "neutral": "neutral", "sleepiness": "sleepy",
}  # fmt: skip
GENDERS = {"bea": "Female", "jenie": "Female", "josh": "Male", "sam": "Male"}
EXPECTED = Expected(6893, {"sleepy": 1721, "neutral": 1568, "amused": 1317, "angry": 1268, "disgust": 1019}, speakers=4)
_NAME = re.compile(rf"({'|'.join(CODES)})_\d+[-_]\d+_(\d{{4}})", re.IGNORECASE)
_SENTENCE = re.compile(r'\(\s*arctic_a(\d{4})\s+"(.*)"\s*\)')


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of EmoV-DB.

    Raises:
        LabelError: ROOT does not look like EmoV-DB
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT, key=lambda path: f"{_speaker(path, root)} {path.stem}")
    list_of_sentences = first_file(root, "cmuarctic.data")
    sentences: dict[str, str] = {}
    if list_of_sentences is None:
        notes.append("no cmuarctic.data (http://www.festvox.org/cmu_arctic/cmuarctic.data) in ROOT: no column Text")
    else:
        sentences = dict(_SENTENCE.findall(read_text(list_of_sentences)))
    clips = []
    for path, match in files:
        speaker = _speaker(path, root)
        if speaker is None:
            raise wrong_layout(root, TITLE, f"{LAYOUT} (no speaker known for {path})")
        code, sentence = match.group(1).lower(), match.group(2)
        text, more = sentences.get(sentence), {"Sentence": sentence}
        clips.append(Clip(path, CODES[code], speaker, GENDERS[speaker], text=text, more=more))
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


def _speaker(path: Path, root: Path) -> str | None:
    """Return the speaker whom the innermost folder names, that of ROOT included."""
    folders = [root.name, *path.relative_to(root).parts[:-1]]
    names = (folder.lower().split("_")[0] for folder in reversed(folders))
    return next((name for name in names if name in GENDERS), None)


PREPARER = Preparer("emovdb", TITLE, "English, acted; transcripts", "non-commercial, its authors' own", LAYOUT, read)
