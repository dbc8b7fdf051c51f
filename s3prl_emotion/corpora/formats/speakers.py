"""Find the speaker in file names, for published lists without speakers or with something else in their place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from s3prl_emotion.corpora.superb import speaker_of
from s3prl_emotion.errors import UsageError

# EmoBox's folders, and patterns that are searched in the path; the first group is the speaker. Corpora whose file names
# do not contain the speaker (MELD, MSP-Podcast, MER2023, RESD, ...) are not here.
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
PLAIN_NUMBER = re.compile(r"\d+")  # leading zeros do not matter: actor (04) is actor (4)


def compile_pattern(pattern: str, where: str = "--speaker_pattern") -> re.Pattern[str]:
    """Compile a pattern of the user's.

    Args:
        pattern: regular expression
        where: the flag or key that has it, for messages

    Raises:
        UsageError: not a regular expression, or it has no group
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{where} {pattern!r}: not a regular expression ({error})") from error
    if not expression.groups:
        raise UsageError(f"{where} {pattern!r}: put the speaker's part in brackets, as in '(\\d\\d)[ab]'")
    return expression


def speakers_of(files: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Return the speaker of each file, ``""`` if the pattern is not in its name."""
    speakers = []
    for name in files:
        match = pattern.search(f"/{name}")
        speaker = next((group for group in match.groups() if group), "") if match else ""
        speakers.append(speaker.lstrip("0") or speaker if PLAIN_NUMBER.fullmatch(speaker) else speaker)
    return speakers


def iemocap_speakers(files: Sequence[str]) -> list[tuple[str, str]] | None:
    """Return speaker and gender of each file; ``None`` unless every file is named as in IEMOCAP."""
    pairs = []
    for name in files:
        speaker, gender = speaker_of(name, "")
        if not speaker:
            return None
        pairs.append((speaker, gender or ""))
    return pairs or None
