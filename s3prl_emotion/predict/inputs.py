"""Collect the audio files to predict: files, all audio in folders, and lists on standard input."""

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
    """A file to predict.

    Attributes:
        path: as the user wrote it, or below the folder that the user wrote
        relative: path below that folder; the file's name if the user wrote the file itself
    """

    path: str
    relative: str


def collect(words: Sequence[str], stdin: TextIO) -> list[AudioFile]:
    """Return the audio files that the words name, each once, in the order of the words and sorted within a folder.

    A file is returned whatever its suffix, and even if it does not exist: reading it reports that. Folders yield the
    files with suffixes of audio formats, except hidden ones (``.name``). Links are followed.

    Args:
        words: files, folders, or ``-`` for lines of them on ``stdin``
        stdin: standard input

    Raises:
        UsageError: the words name no audio file
    """
    files: dict[str, AudioFile] = {}
    for file in _files(words, stdin):
        files.setdefault(os.path.abspath(file.path), file)
    if not files:
        raise UsageError(
            f"{' '.join(words[:3])}{' …' if len(words) > 3 else ''}: no audio file there "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    return list(files.values())


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
    """Yield the audio files in a folder below ``root``, sorted; ``above`` holds the real folders above it."""
    joined = os.path.join(root, folder)
    real = os.path.realpath(joined)
    if real in above:  # a link to a folder above
        return
    for name in sorted(os.listdir(joined)):
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(os.path.join(root, path)):
            yield from _inside(root, path, above | {real})
        elif Path(name).suffix.lower() in SUFFIXES:
            yield path
