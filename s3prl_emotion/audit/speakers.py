"""Who speaks, as file names tell it: published lists leave the speaker out, or put something else in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from s3prl_emotion.corpora.superb import speaker_of
from s3prl_emotion.errors import UsageError

# The first group is the speaker; the pattern is searched in the path. Names are EmoBox's folders. Corpora whose file
# names do not tell the speaker (MELD, MSP-Podcast, MER2023, RESD, ...) are not here.
PATTERNS = {
    "aesdd": r"\((\d+)\)[a-z]?\.\w+$",  # a03 (4).wav: actor 4
    "asvpesd": r"/actor_(\d+)/",
    "cafe": r"/(\d\d)-[CDJNPST]-[12]-[1-6]\.\w+$",
    "casia": r"/casia/([^/]+)/",
    "cremad": r"/(\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}\.\w+$",
    "emodb": r"/(\d\d)[ab]\d\d[A-Z][a-z]?\.\w+$",
    "emovdb": r"/emovdb/([a-z]+)_[^/]+/",
    "emovo": r"/\w+-([fm]\d)-\w+\.\w+$",
    "enterface": r"/subject (\d+)/",
    "esd": r"/(\d{4})_\d{6}\.\w+$",
    "jlcorpus": r"/((?:fe)?male\d)_[^/]+$",
    "mead": r"/mead/([MW]\d{3})/",
    "polish": r"/([fm]\d)\.[^/]+$",
    "ravdess": r"-(\d\d)\.\w+$",
    "savee": r"/([A-Z]{2})_[a-z]+\d+\.\w+$",
    "shemo": r"/([FM]\d\d)[AFHNSW]\d+\.\w+$",
    "subesco": r"/([FM]_\d\d)_[^/]+$",
    "tess": r"/([OY]AF?)_[^/]+$",
    "urdu": r"/(S[FM]\d+)_F?\d+_[^/]+$",
}
PLAIN_NUMBER = re.compile(r"\d+")  # a leading zero makes no other actor: (04) is (4)


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the user's.

    Raises:
        UsageError: no regular expression, or it has no group
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--speaker_pattern {pattern!r}: no regular expression ({error})") from error
    if not found.groups:
        raise UsageError(f"--speaker_pattern {pattern!r}: put what names the speaker in brackets, as in '(\\d\\d)[ab]'")
    return found


def speakers_of(files: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Speaker of each file, ``""`` where the name does not tell."""
    found = []
    for name in files:
        match = pattern.search(f"/{name}")
        told = next((group for group in match.groups() if group), "") if match else ""
        found.append(told.lstrip("0") or told if PLAIN_NUMBER.fullmatch(told) else told)
    return found


def iemocap_speakers(files: Sequence[str]) -> list[tuple[str, str]] | None:
    """Speaker and gender of IEMOCAP's utterances; ``None`` unless every file is named as in IEMOCAP."""
    found = []
    for name in files:
        speaker, gender = speaker_of(name, "")
        if not speaker:
            return None
        found.append((speaker, gender or ""))
    return found or None
