"""Collect the audio files to predict: files, all audio in folders, what label tables list, lists on standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from s3prl_emotion.audio import Part, readable_suffixes, say_passed_over, segment_name
from s3prl_emotion.corpora.audio_files import in_other_form, none_found
from s3prl_emotion.corpora.audio_names import check_below
from s3prl_emotion.corpora.formats.audformat_address import PREFIX as AUDB
from s3prl_emotion.corpora.formats.hub_dataset import PREFIX
from s3prl_emotion.corpora.formats.recognise import lists_files, own_root
from s3prl_emotion.corpora.locate import located
from s3prl_emotion.errors import AudioError, UsageError

STDIN = "-"
TABLES = (".csv", ".tsv", ".csv.gz")


@dataclass(frozen=True)
class AudioFile:
    """A file, or a part of one, to predict.

    Attributes:
        path: as the user wrote it, or below the folder that the user wrote
        relative: path below that folder; the file's name if the user wrote the file itself; followed by the times of a
            part
        listed: its name in the label table that lists it
        part: the part of the file; ``None``: the whole file
    """

    path: str
    relative: str
    listed: str | None = None
    part: Part | None = None

    @property
    def file(self) -> str:
        """What the file is called in the results."""
        return self.listed or self.path

    @property
    def name(self) -> str:
        """What it is called in the results: the file, with the times of a part."""
        return segment_name(self.file, self.part)

    @property
    def place(self) -> str:
        """Its path, with the times of a part, for messages."""
        return segment_name(self.path, self.part)


def collect(words: Sequence[str], stdin: TextIO, root: Path | None = None) -> list[AudioFile]:
    """Return the audio files that the words name, each once, in the order of the words and sorted within a folder.

    A file is returned whatever its suffix, and even if it does not exist: reading it reports that. Folders yield the
    files with suffixes of audio formats, except hidden ones (``.name``). Links are followed.

    Args:
        words: files, folders, label tables (.csv, .tsv), EmoBox's lists, or ``-`` for lines of them on ``stdin``
        stdin: standard input
        root: audio folder of the labels; ``None``: the one that they imply, or the table's own folder

    Raises:
        UsageError: the words name no audio file
        LabelError: a label table is malformed
        AudioError: none of the files that a label table lists is there
    """
    files: dict[tuple[str, Part | None], AudioFile] = {}
    passed: dict[str, list[str]] = {}
    for file in _files(words, stdin, root, passed):
        files.setdefault((os.path.abspath(file.path), file.part), file)
    for folder, names in passed.items():
        say_passed_over(folder, names)
    if not files:
        raise UsageError(
            f"{' '.join(words[:3])}{' …' if len(words) > 3 else ''}: no audio file there "
            f"({', '.join(sorted(readable_suffixes()))})"
        )
    return list(files.values())


def _files(words: Iterable[str], stdin: TextIO, root: Path | None, passed: dict[str, list[str]]) -> Iterator[AudioFile]:
    """Yield the files that the words name; add to ``passed`` what is left out of each folder."""
    for word in words:
        if word == STDIN:
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from _files((line for line in lines if line.strip() and line != STDIN), stdin, root, passed)
        elif word.startswith((PREFIX, AUDB)) or lists_files(Path(word)):
            yield from _listed(located(word), root)
        elif os.path.isdir(word):
            for relative in _inside(word, "", frozenset(), passed.setdefault(word, [])):
                yield AudioFile(os.path.join(word, relative), Path(relative).as_posix())
        elif word.lower().endswith(TABLES) and os.path.isfile(word):
            yield from _listed(Path(word), root)
        else:
            yield AudioFile(word, os.path.basename(word))


def _listed(table: Path, root: Path | None) -> Iterator[AudioFile]:
    """Yield the files and segments that a label table lists."""
    from s3prl_emotion.corpora.label_table import read_table  # deferred: pandas takes half a second to import
    from s3prl_emotion.corpora.segment_columns import files_and_parts

    folder = root or own_root(table) or table.parent
    files, parts = files_and_parts(read_table(table, classes=False))
    names = list(dict.fromkeys(files))
    check_below(names, table, fix="")
    if not any((folder / name).is_file() for name in names):
        raise AudioError(none_found(folder, names, table, "--root"))
    paths = {name: str(in_other_form(folder, folder / name) or folder / name) for name in names}
    for name, part in zip(files, parts, strict=True):
        yield AudioFile(paths[name], name if part is None else f"{name}_{part}", name, part)


def _inside(root: str, folder: str, above: frozenset[str], passed: list[str]) -> Iterator[str]:
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
            yield from _inside(root, path, above | {real}, passed)
        elif Path(name).suffix.lower() in readable_suffixes():
            yield path
        else:
            passed.append(path)
