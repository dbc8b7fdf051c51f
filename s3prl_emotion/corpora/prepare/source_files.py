"""Find and read a corpus's files among the leftovers of unpacking and of other operating systems."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, Prepared, wrong_layout
from s3prl_emotion.corpora.table_file import DECIMAL_COMMA, open_table
from s3prl_emotion.errors import LabelError

logger = logging.getLogger(__name__)
# What prepare writes
LABELS, VOTES, RATINGS, ABOUT = "labels.csv", "votes.csv", "ratings.csv", "prepare.json"
Named = list[tuple[Path, re.Match[str]]]


def walk(root: Path) -> Iterator[Path]:
    """Yield every file below a folder, sorted; links are followed once; hidden files and ``__MACOSX`` are skipped."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith("."):  # macOS leaves ._a.wav beside a.wav
                yield Path(folder) / name


def tables(folder: Path) -> list[Path]:
    """Return the corpus's own CSV files below a folder, sorted, without those that ``prepare`` wrote there."""
    found = sorted(path for path in walk(folder) if path.suffix.lower() == ".csv")
    ours = (LABELS, VOTES, RATINGS)
    return [path for path in found if path.name not in ours or not path.with_name(ABOUT).is_file()]


def audio_files(root: Path) -> list[Path]:
    """Return every audio file below a folder that soundfile can read, sorted.

    Published corpora have their audio so; films beside it (RAVDESS, CREMA-D) are no further utterances.
    """
    from s3prl_emotion.audio import SUFFIXES

    return [path for path in walk(root) if path.suffix.lower() in SUFFIXES]


def all_audio_files(root: Path) -> list[Path]:
    """Return every audio file below a folder, media included where the extra is installed; log what is passed over."""
    from s3prl_emotion.audio import readable_suffixes, say_passed_over

    found: list[Path] = []
    passed: list[Path] = []
    readable = readable_suffixes()
    for path in walk(root):
        (found if path.suffix.lower() in readable else passed).append(path)
    say_passed_over(str(root), (path.relative_to(root).as_posix() for path in passed))
    return found


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by their stem; of two with the same stem, the one in the uppermost folder."""
    return {path.stem: path for path in sorted(paths, key=lambda path: (len(path.parts), path), reverse=True)}


def named_files(
    root: Path,
    pattern: re.Pattern[str],
    title: str,
    layout: str,
    key: Callable[[Path], str] | None = None,
    search: Callable[[Path], list[Path]] = audio_files,
) -> tuple[Named, list[str]]:
    """Find the audio files whose names fit a pattern, each utterance once.

    Args:
        root: searched at any depth
        pattern: of the whole stem
        title: the corpus's, for messages
        layout: the expected files, for messages
        key: what identifies an utterance; by default the stem. Some releases hold copies of themselves in subfolders
        search: returns the audio files below a folder

    Returns:
        the files with their matches, sorted by path, and notes on skipped files

    Raises:
        LabelError: no file name fits
    """
    key = key or (lambda path: path.stem)
    files: dict[str, tuple[Path, re.Match[str]]] = {}
    strangers, copies = [], []
    for path in sorted(search(root), key=lambda path: (len(path.parts), path)):
        match = pattern.fullmatch(path.stem)
        if match is None:
            strangers.append(path)
        elif key(path) in files:
            copies.append(path)
        else:
            files[key(path)] = (path, match)
    if not files:
        raise wrong_layout(root, title, layout)
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} audio files are not named as in {title} and are left out, as {strangers[0]}")
    if copies:
        notes.append(f"{len(copies)} files are second copies and are left out, as {copies[0]}")
    return sorted(files.values(), key=lambda item: item[0]), notes


def prepare_named(
    root: Path,
    title: str,
    layout: str,
    pattern: re.Pattern[str],
    to_clip: Callable[[Path, re.Match[str]], Clip],
    expected: Expected,
    tolerated: Mapping[str, str] | None = None,
) -> Prepared:
    """Prepare a corpus whose file names say everything: class, speaker, and whatever else there is.

    Args:
        root: searched at any depth
        title: the corpus's, for messages
        layout: the expected files, for messages
        pattern: of the whole stem
        to_clip: makes a row of a file and the match of its stem
        expected: counts to compare with
        tolerated: as in :class:`~s3prl_emotion.corpora.prepare.preparer.Prepared`

    Raises:
        LabelError: no file name fits
    """
    files, notes = named_files(root, pattern, title, layout)
    clips = [to_clip(path, match) for path, match in files]
    return Prepared(root, clips, expected=expected, notes=notes, tolerated=tolerated or {})


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark, or else in Latin-1.

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
    """Read the rows of a CSV file, whose encoding and separator are recognised; missing cells are empty.

    Args:
        path: the file
        needed: columns that it must have

    Raises:
        LabelError: unreadable, a stray quotation mark, or a column is missing or there twice
    """
    file = open_table(path, needed)
    for note in file.notes:
        logger.info("%s: %s", path, note)
    missing = [name for name in needed if name not in file.header]
    if missing:
        raise LabelError(f"{path}: no column {missing[0]}; has {', '.join(file.header) or 'none'}")
    return [dict(zip_longest(file.header, row[: len(file.header)], fillvalue="")) for _, row in file.rows()]


def first_file(root: Path, *names: str) -> Path | None:
    """Return the first of several files that exists, ignoring case; ``None`` if none does."""
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
    """Parse a number, with a decimal point or comma; ``None`` if the cell is empty, NaN or no number."""
    try:
        value = float(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


GENDERS = {"male": "Male", "m": "Male", "female": "Female", "f": "Female"}


def gender(text: str) -> str | None:
    """Return Male or Female, or ``None`` for anything else."""
    return GENDERS.get(text.strip().lower())
