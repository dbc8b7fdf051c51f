"""ESD: 350 parallel sentences by ten Mandarin and ten English speakers each, five emotions; made for voice conversion.

Licence: for research, on a signed agreement with its authors, as their readme says.
Source: https://github.com/HLTSingapore/Emotional-Speech-Data
Official split: the folders train, evaluation and test of some archives, which split the sentences: every speaker is in
    all of them, so that they are not written; the column Fold has the five groups of four speakers that EmoBox tests
    on, each with Mandarin and English speakers.
Expected: 35,000 utterances of 20 speakers, 1,750 each; 7,000 in each of five classes.
Known faults: the transcripts are in UTF-8, UTF-16, GB 2312 or Latin-1, depending on the speaker; some of their lines
    lack a tab; Mandarin ones name the classes in Chinese; the class is taken from the number in the name (350 for each
    class in turn), which agrees with the folders.
Verified: speakers, sentences, classes and terms against the corpus's own readme, women and men against the ReadMe.txt
    of the archive; names and folds against the lists of EmoBox (``data/esd``); encodings against
    https://github.com/Strong-AI-Lab/emotion (``datasets/ESD``).
Citation: K. Zhou, B. Sisman, R. Liu and H. Li, Emotional voice conversion: Theory, databases and ESD, Speech
    Communication 137, 2022.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import named_files, walk
from s3prl_emotion.errors import LabelError

TITLE = "ESD"
LAYOUT = "0001/Neutral/0001_000001.wav and the like, at any depth, and 0001/0001.txt"
CLASSES = ("neutral", "angry", "happy", "sad", "surprise")  # in the order of the numbers in the names
SENTENCES = 350
LANGUAGES = {False: "Mandarin", True: "English"}
WOMEN = frozenset({"0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"})
SPEAKERS = {
    "fold1": ("0005", "0011", "0016", "0018"), "fold2": ("0012", "0014", "0015", "0019"),
    "fold3": ("0003", "0004", "0006", "0009"), "fold4": ("0007", "0008", "0013", "0020"),
    "fold5": ("0001", "0002", "0010", "0017"),
}  # fmt: skip
FOLDS = {speaker: fold for fold, group in SPEAKERS.items() for speaker in group}
EXPECTED = Expected(35_000, dict.fromkeys(CLASSES, 7000), 20, dict.fromkeys(SPEAKERS, 7000))
_NAME = re.compile(r"(00[01]\d|0020)_(\d{6})")
_LINE = re.compile(r"(\d{4}_\d{6})\s+(.*?)\s*(?:Neutral|Angry|Happy|Sad|Surprise|中立|生气|快乐|伤心|惊喜)?")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of ESD.

    Raises:
        LabelError: ROOT does not look like ESD, or a number is beyond its sentences
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    texts = _transcripts(root)
    clips = []
    for path, match in files:
        speaker, number = match.group(1), int(match.group(2))
        if not 1 <= number <= SENTENCES * len(CLASSES):
            raise LabelError(f"{path}: number {number} must lie in 1..{SENTENCES * len(CLASSES)}; remove the file")
        emotion = CLASSES[(number - 1) // SENTENCES]
        gender = "Female" if speaker in WOMEN else "Male"
        more = {"Language": LANGUAGES[speaker > "0010"], "Sentence": str((number - 1) % SENTENCES + 1)}
        clips.append(Clip(path, emotion, speaker, gender, FOLDS.get(speaker), text=texts.get(path.stem), more=more))
    missing = sum(clip.text is None for clip in clips)
    if missing:
        notes.append(f"{missing} utterances have no transcript")
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


def _transcripts(root: Path) -> dict[str, str]:
    """Return the transcript of each utterance, by stem."""
    texts = {}
    for path in walk(root):
        if path.suffix.lower() == ".txt" and re.fullmatch(r"\d{4}", path.stem):
            lines = (_LINE.fullmatch(line.strip()) for line in _decoded(path).splitlines())
            texts.update({match.group(1): match.group(2) for match in lines if match and match.group(2)})
    return texts


def _decoded(path: Path) -> str:
    """Return the text of one speaker's transcripts, whatever their encoding."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror}); it is part of the corpus's labels") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1") if path.stem > "0010" else data.decode("gb18030", errors="replace")


PREPARER = Preparer(
    "esd", TITLE, "Mandarin and English, acted; transcripts", "for research, on a signed agreement", LAYOUT, read
)
