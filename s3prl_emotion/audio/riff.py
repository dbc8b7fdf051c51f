"""Read how much audio the header of a WAV file promises, which libsndfile cuts to what is there."""

from __future__ import annotations

import struct
from pathlib import Path

MOST_CHUNKS = 64  # before the data
UNKNOWN = 0x7FFF0000  # bytes; larger sizes are written by programs that do not know the length, as into a pipe


def promised_frames(path: Path, frames: int) -> int:
    """Return the frames that a WAV file's data chunk promises.

    Args:
        path: of the file
        frames: number of frames that are there

    Returns:
        ``frames`` where the chunk promises no more, or does not know
    """
    try:
        promised, there = _data_chunk(path)
    except (OSError, struct.error):
        return frames
    if promised >= UNKNOWN or there <= 0 or promised <= there:
        return frames
    return frames * promised // there


def _data_chunk(path: Path) -> tuple[int, int]:
    """Return the size of the data chunk by its header and by the file (bytes); zeros where there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return 0, 0
        for _ in range(MOST_CHUNKS):
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                return length, size - file.tell()
            file.seek(length + length % 2, 1)
    return 0, 0
