"""Which audio formats can be read: by soundfile always, by PyAV where the media extra is installed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000  # Hz, of every upstream in s3prl
SUFFIXES = frozenset({
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
    ".sph", ".nist", ".wve", ".voc",
})  # fmt: skip
MEDIA_SUFFIXES = frozenset({
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".webm", ".mkv", ".mka", ".wma", ".wmv", ".asf", ".amr",
    ".ac3", ".avi", ".flv", ".spx", ".wv", ".ape", ".tta",
})  # fmt: skip
MEDIA_EXTRA = 'pip install "s3prl-emotion[media]"'
SHOWN = 3  # files and suffixes named in a message
MAGIC = (  # offset and bytes that a file begins with, and the name of its demuxer in FFmpeg
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"wide", "mov"), (4, b"skip", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"#!AMR", "amr"),
    (0, b"\xff\xf1", "aac"), (0, b"\xff\xf9", "aac"),
    (0, b"\x0b\x77", "ac3"),
    (8, b"AVI ", "avi"), (8, b"WAVE", "wav"), (8, b"AIFC", "aiff"),
    (0, b"FLV\x01", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"wvpk", "wv"), (0, b"MAC ", "ape"), (0, b"TTA1", "tta"),
    (0, b"caff", "caf"),
)  # fmt: skip
LONGEST_MAGIC = max(offset + len(magic) for offset, magic, _ in MAGIC)  # bytes


def demuxer_of(beginning: bytes) -> str | None:
    """Return the name of FFmpeg's demuxer for a file that begins so, or ``None`` for any other file.

    FFmpeg is never left to guess: some of its formats are lists that name further files and addresses.
    """
    found = (name for offset, magic, name in MAGIC if beginning[offset : offset + len(magic)] == magic)
    return next(found, None)


@lru_cache(maxsize=1)
def has_media() -> bool:
    """Return whether the media extra is installed."""
    from importlib.util import find_spec

    return find_spec("av") is not None


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of files that a search of a folder finds: those of media only with the extra."""
    return SUFFIXES | MEDIA_SUFFIXES if has_media() else SUFFIXES


def say_passed_over(where: str, names: Iterable[str]) -> None:
    """Log which files of a folder are not read: media without the extra as a warning, others as information.

    Args:
        where: the folder, for messages
        names: of all files that were passed over
    """
    suffixes, media = Counter[str](), []
    for name in names:
        suffix = PurePath(name).suffix.lower()
        if suffix in MEDIA_SUFFIXES:
            media.append(name)
        else:
            suffixes[suffix or "without suffix"] += 1
    if media:
        some = ", ".join(media[:SHOWN]) + (", …" if len(media) > SHOWN else "")
        logger.warning(
            "%s: %d audio or video files are passed over (%s): %s reads them", where, len(media), some, MEDIA_EXTRA
        )
    if suffixes:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(SHOWN))
        more = f", … ({len(suffixes)} kinds)" if len(suffixes) > SHOWN else ""
        logger.info("%s: %d files are no audio and are passed over: %s%s", where, suffixes.total(), kinds, more)
