"""Which audio files are meant: files, folders with all that is in them, and lists on the standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from s3prl_emotion.audio import SUFFIXES
from s3prl_emotion.errors import UsageError

STDIN = "-"


@dataclass(frozen=True)
class AudioFile:
    """A file to judge.

    Attributes:
        path: as the user wrote it, or below the folder that the user wrote
        relative: its path below that folder; the file's name where it was named itself
    """

    path: str
    relative: str


def collect(words: Sequence[str], stdin: TextIO) -> list[AudioFile]:
    """Audio files that the words mean, each once, in the order of the words and sorted within a folder.

    A file that is named is taken whatever it is called, and even if it is not there: that shows when it is read. Of
    folders, files with the suffixes of audio formats are taken, not hidden ones (``.name``). Links are followed.

    Args:
        words: files, folders, or ``-`` for lines of them on ``stdin``
        stdin: where ``-`` reads from

    Raises:
        UsageError: no audio file among all that
    """
    found: dict[str, AudioFile] = {}
    for file in _files(words, stdin):
        found.setdefault(os.path.abspath(file.path), file)
    if not found:
        raise UsageError(
            f"{' '.join(words[:3])}{' …' if len(words) > 3 else ''}: no audio file there "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    return list(found.values())


def _files(words: Iterable[str], stdin: TextIO) -> Iterator[AudioFile]:
    for word in words:
        if word == STDIN:
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from _files((line for line in lines if line.strip() and line != STDIN), stdin)
        elif os.path.isdir(word):
            for relative in _inside(word, "", frozenset()):
                yield AudioFile(os.path.join(word, relative), Path(relative).as_posix())
        else:
            yield AudioFile(word, os.path.basename(word))


def _inside(root: str, folder: str, above: frozenset[str]) -> Iterator[str]:
    """Paths below ``root`` of the audio files in its ``folder``, sorted; ``above``: real folders that hold it."""
    place = os.path.join(root, folder)
    real = os.path.realpath(place)
    if real in above:  # a link back up
        return
    for name in sorted(os.listdir(place)):
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(os.path.join(root, path)):
            yield from _inside(root, path, above | {real})
        elif Path(name).suffix.lower() in SUFFIXES:
            yield path
