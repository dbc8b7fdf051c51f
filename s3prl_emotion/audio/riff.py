"""Read how much audio the header of a WAV file promises, which libsndfile cuts to what is there."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

MOST_CHUNKS = 64  # before the data
UNKNOWN = 0x7FFF0000  # bytes; larger sizes are written by programs that do not know the length, as into a pipe


def promised_frames(source: Path | BinaryIO, frames: int) -> int:
    """Return the frames that a WAV file's data chunk promises.

    Args:
        source: path of the file, or the open file, whose position is kept
        frames: number of frames that are there

    Returns:
        ``frames`` where the chunk promises no more, or does not know
    """
    try:
        promised, there = _sizes(source)
    except (OSError, struct.error):
        return frames
    if promised >= UNKNOWN or there <= 0 or promised <= there:
        return frames
    return frames * promised // there


def _sizes(source: Path | BinaryIO) -> tuple[int, int]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _data_chunk(file)
    at = source.tell()
    try:
        return _data_chunk(source)
    finally:
        source.seek(at)


def _data_chunk(file: BinaryIO) -> tuple[int, int]:
    """Return the size of the data chunk by its header and by the file (bytes); zeros where there is none."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(12)[:4] != b"RIFF":
        return 0, 0
    for _ in range(MOST_CHUNKS):
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return length, size - file.tell()
        file.seek(length + length % 2, io.SEEK_CUR)
    return 0, 0
