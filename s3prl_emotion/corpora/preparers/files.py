"""Finding and reading a corpus's files, whatever unpacking and other systems have left among them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from s3prl_emotion.corpora.preparers.base import wrong_layout
from s3prl_emotion.errors import LabelError

Named = list[tuple[Path, re.Match[str]]]


def walk(root: Path) -> Iterator[Path]:
    """Every file below a folder, sorted; links are followed once; hidden files and ``__MACOSX`` are passed over."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith("."):  # ._a.wav is what macOS leaves beside a.wav
                yield Path(folder) / name


def audio_files(root: Path) -> list[Path]:
    """Every audio file below a folder, sorted."""
    from s3prl_emotion.audio import SUFFIXES  # deferred: brings torch

    return [path for path in walk(root) if path.suffix.lower() in SUFFIXES]


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their name without ending; of two with one name that which lies least deep."""
    return {path.stem: path for path in sorted(paths, key=lambda path: (len(path.parts), path), reverse=True)}


def named_files(
    root: Path, pattern: re.Pattern[str], title: str, layout: str, key: Callable[[Path], str] | None = None
) -> tuple[Named, list[str]]:
    """Audio files whose names say all that there is to know.

    Args:
        root: searched at any depth
        pattern: of the whole stem
        title: of the corpus, for messages
        layout: what is looked for, for messages
        key: what identifies an utterance; by default the stem. Releases hold copies of themselves in subfolders

    Returns:
        the files with their matches, sorted by path, and notes on files that were passed over

    Raises:
        LabelError: no file is named so
    """
    key = key or (lambda path: path.stem)
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    strangers, copies = [], []
    for path in sorted(audio_files(root), key=lambda path: (len(path.parts), path)):
        match = pattern.fullmatch(path.stem)
        if match is None:
            strangers.append(path)
        elif key(path) in found:
            copies.append(path)
        else:
            found[key(path)] = (path, match)
    if not found:
        raise wrong_layout(root, title, layout)
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} audio files are not named as in {title} and are left out, as {strangers[0]}")
    if copies:
        notes.append(f"{len(copies)} files are second copies and are left out, as {copies[0]}")
    return sorted(found.values(), key=lambda item: item[0]), notes


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark, or else in Latin-1.

    Raises:
        LabelError: it cannot be read
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror}); it is part of the corpus's labels") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_csv(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file by column; missing cells are empty.

    Raises:
        LabelError: unreadable, or a column is missing
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), restval="")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise LabelError(f"{path} line {reader.line_num}: not readable as CSV: {error}") from error
    columns = [name or "" for name in reader.fieldnames or []]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise LabelError(f"{path}: no column {missing[0]}; has {', '.join(columns) or 'none'}")
    return [{(name or "").strip(): value or "" for name, value in row.items() if name is not None} for row in rows]


def first_file(root: Path, *names: str) -> Path | None:
    """The first of some files that is there, whatever the case of its letters."""
    for name in names:
        folder = root
        *above, last = Path(name).parts
        for part in above:
            folder = next((path for path in _entries(folder) if path.name.lower() == part.lower()), folder / part)
        for path in _entries(folder):
            if path.name.lower() == last.lower() and path.is_file():
                return path
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def number(text: str) -> float | None:
    """A number, or ``None`` where a cell is empty or says that it is not known (NaN)."""
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


GENDERS = {"male": "Male", "m": "Male", "female": "Female", "f": "Female"}


def gender(text: str) -> str | None:
    """Male or Female, ``None`` for anything else."""
    return GENDERS.get(text.strip().lower())
