"""Name utterances that are parts of audio files: ``NAME:start-end`` in seconds with three decimals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

TIMES = ("Start", "End")  # columns of tables
DECIMALS = 3  # of times in names, and so of the times themselves: a name says which samples it stands for
NAME = re.compile(r"(?P<file>.+):(?P<start>\d+\.\d{3})-(?P<end>\d+\.\d{3})", re.DOTALL)


class Part(NamedTuple):
    """A part of an audio file, from ``start`` to ``end`` (s)."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:.{DECIMALS}f}-{self.end:.{DECIMALS}f}"

    @property
    def seconds(self) -> float:
        """Duration (s)."""
        return self.end - self.start

    def frames(self, rate: int) -> tuple[int, int]:
        """Return the first frame, and the frame behind the last, of a file with ``rate`` frames a second."""
        return round(self.start * rate), round(self.end * rate)


def segment_name(name: str, part: Part | None) -> str:
    """Return the name of an utterance: that of its file, and of its part if it is one, as ``a.wav:1.250-3.500``."""
    return name if part is None else f"{name}:{part}"


def split_segment(name: str) -> tuple[str, Part | None]:
    """Return the file and the part that :func:`segment_name` made a name of."""
    match = NAME.fullmatch(name)
    if match is None:
        return name, None
    return match["file"], Part(float(match["start"]), float(match["end"]))


def find_audio(root: Path, name: str) -> tuple[Path, Part | None]:
    """Return the file and the part that an utterance's name stands for; a file of that very name comes first."""
    file, part = split_segment(name)
    if part is None or (root / name).exists():
        return root / name, None
    return root / file, part


def list_name(name: str) -> str:
    """Return an utterance's name in s3prl's lists: the stem of its file, or the whole name of a part of a file."""
    return Path(name).stem if split_segment(name)[1] is None else name


def copy_name(name: str, suffix: str) -> str:
    """Return the path of a copy of an utterance's audio: with another suffix, and ``_`` for the ``:`` of a part."""
    file, part = split_segment(name)
    path = Path(file).with_suffix(suffix)
    return (path if part is None else path.with_name(f"{path.stem}_{part}{suffix}")).as_posix()
