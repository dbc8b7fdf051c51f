"""Open an audio file with the decoder that can read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from s3prl_emotion.audio.formats import LONGEST_MAGIC, MEDIA_EXTRA, MEDIA_SUFFIXES, demuxer_of, has_media
from s3prl_emotion.audio.resampling import resampled_length
from s3prl_emotion.audio.sound import ERRORS, REMEDY, Sound, SoundFileSound, reason_of
from s3prl_emotion.errors import AudioError

OFTEN_DAMAGED = ("wav", "aiff", "ogg", "caf")  # soundfile reads most of these: one that it cannot read is damaged


@dataclass(frozen=True)
class Header:
    """What a file's header says, and the length by decoding where the header does not know it."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Duration (s)."""
        return self.frames / self.rate

    @property
    def samples(self) -> int:
        """Number of samples at 16 kHz."""
        return resampled_length(self.frames, self.rate)


def header(path: str | Path | BinaryIO) -> Header:
    """Read a file's header; nothing is decoded unless the header does not know the length.

    Raises:
        AudioError: a missing or unreadable file
    """
    with opened(path) as sound:
        return Header(sound.rate, sound.channels, sound.length())


@contextmanager
def opened(source: str | Path | BinaryIO, name: str | None = None, remedy: str = REMEDY) -> Iterator[Sound]:
    """Open an audio file for reading.

    Args:
        source: path, or an open file that can seek
        name: for messages; the path by default
        remedy: what to do about a damaged file, for messages

    Raises:
        AudioError: a missing or unreadable file, one that needs the media extra, or one that changed meanwhile
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    name = name or str(source)
    before = stamp_of(path)
    if path is not None and before is None:
        raise AudioError(f"{name}: no such audio file; check datarc.root and the FileName column")
    try:
        with closing(_open(path or source, name, remedy)) as sound:  # type: ignore[arg-type]
            yield sound
    except AudioError as error:
        if stamp_of(path) != before:
            raise changed_error(name) from error
        raise
    if stamp_of(path) != before:
        raise changed_error(name)


def changed_error(name: str) -> AudioError:
    """Return the error to raise for a file that changed while it was read."""
    return AudioError(f"{name}: changed while it was read; run the command again when it is complete")


def stamp_of(path: Path | None) -> tuple[int, int, int] | None:
    """Return time, size and inode of a file; ``None`` for what is no file."""
    try:
        status = os.stat(path) if path is not None else None
    except (OSError, ValueError):
        return None
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _open(source: Path | BinaryIO, name: str, remedy: str) -> Sound:
    try:
        return SoundFileSound(source, name, remedy)
    except ERRORS as error:
        kind = demuxer_of(_beginning(source))
        suffix = source.suffix.lower() if isinstance(source, Path) else ""
        if kind is None:
            raise AudioError(f"{name}: unreadable audio ({reason_of(error)}); {remedy}") from error
        if not has_media():
            if kind in OFTEN_DAMAGED and suffix not in MEDIA_SUFFIXES:
                raise AudioError(f"{name}: unreadable audio ({reason_of(error)}); {remedy}") from error
            raise AudioError(f"{name}: soundfile cannot read this format; {MEDIA_EXTRA} can, or convert it") from error
        from s3prl_emotion.audio.media import MediaSound

        try:
            return MediaSound(source, kind, name, remedy)
        except AudioError as other:
            raise AudioError(f"{name}: unreadable audio ({reason_of(error)}); {remedy}") from other


def _beginning(source: Path | BinaryIO) -> bytes:
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return file.read(LONGEST_MAGIC)
        source.seek(0)
        beginning = source.read(LONGEST_MAGIC)
        source.seek(0)
        return beginning
    except (OSError, ValueError):
        return b""
