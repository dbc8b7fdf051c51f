"""ASVP-ESD: speech and other voice sounds from films, television and the web, in several languages, 13 classes.

Licence: not verified; a copy at Hugging Face calls it CC BY 4.0.
Source: https://zenodo.org/records/7132783 (ASVP-ESD-Update.zip)
Official split: none.
Expected: 13,964 recordings of 131 speakers, 5,140 of them speech: sad 2,694, happy 1,868, neutral 1,598, surprise
    1,586, angry 1,453, fear 1,180, disgust 899, pain 834, boredom 548, excited 401, disappointment 365, pleasure 365,
    breath 172, other 1. Speech alone (``--speech``): 5,140 recordings; counts by class are not checked.
Known faults: two thirds are laughter, crying, screams and the like, not speech (column Channel); breath is a sound, not
    an emotion; names have 8 to 12 fields, of which only the first six are read here, since the later ones (age, source,
    language) hold values that the description does not know; 187 files lie in another speaker's folder than their name
    says, 171 of them in a folder without a number (the name counts here); babies have no Gender; EmoBox's one fold has
    all speakers of test in train.
Verified: names, classes and counts against the lists and the script of EmoBox (``data/asvpesd``), classes and layout
    against nkululeko (``data/asvp-esd``); labelling and sources against the authors' own page. The authors count fewer
    recordings in earlier releases (5,146 and 7,812, without the babies).
Citation: D. Tientcheu Touko Landry, Q. He and W. Xie, Audio, Speech and Vision Processing Lab Emotional Sound database
    (ASVP-ESD), Zenodo, 2021.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_emotion.corpora.class_names import OTHER
from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared, Preparer, flag
from s3prl_emotion.corpora.prepare.source_files import named_files

TITLE = "ASVP-ESD"
LAYOUT = "Audio/actor_36/03-01-09-01-06-36-02-02-01-39.wav and the like, at any depth"
CODES = {
    "01": "boredom", "02": "neutral", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgust",
    "08": "surprise", "09": "excited", "10": "pleasure", "11": "pain", "12": "disappointment", "13": "breath",
}  # fmt: skip
CHANNELS = {"01": "speech", "02": "non-speech"}
INTENSITIES = {"01": "normal", "02": "high"}
BABY = "04"  # field 7, the age
CLASSES = {
    "sad": 2694, "happy": 1868, "neutral": 1598, "surprise": 1586, "angry": 1453, "fear": 1180, "disgust": 899,
    "pain": 834, "boredom": 548, "excited": 401, "disappointment": 365, "pleasure": 365, "breath": 172, OTHER: 1,
}  # fmt: skip
EXPECTED, EXPECTED_SPEECH = Expected(13_964, CLASSES, speakers=131), Expected(5140)
_NAME = re.compile(r"03-(0[12])-(\d\d)-(\d+)-(\d+)-(\d+)-(\d+)-(\d+)(?:-[\d ]+)*")


@dataclass(frozen=True)
class Options:
    """Options of ``s3prl-emotion prepare asvp-esd``."""

    speech: bool = field(default=False, metadata=flag(action="store_true", help="leave out laughter, crying, screams"))


def read(root: Path, options: Options) -> Prepared:
    """Read the recordings of ASVP-ESD.

    Raises:
        LabelError: ROOT does not look like ASVP-ESD
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    clips = []
    for path, match in files:
        channel, code, intensity, _, actor, age, _ = match.groups()
        if options.speech and CHANNELS[channel] != "speech":
            continue
        gender = None if age == BABY else ("Female" if int(actor) % 2 else "Male")
        more = {"Channel": CHANNELS[channel], "Intensity": INTENSITIES.get(intensity, "")}
        clips.append(Clip(path, CODES.get(code, OTHER), str(int(actor)), gender, more=more))
    left_out = len(files) - len(clips)
    if left_out:
        notes.append(f"{left_out} recordings of other sounds than speech are left out")
    return Prepared(root, clips, expected=EXPECTED_SPEECH if options.speech else EXPECTED, notes=notes)


PREPARER = Preparer(
    "asvp-esd", TITLE, "several languages, speech and other sounds from media", "not verified", LAYOUT, read, Options
)
