"""Read a folder that has a folder of audio files for each class, with or without folders of splits above them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from s3prl_emotion.audio import readable_suffixes, say_passed_over
from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

SPLITS = {
    "train": "Train", "training": "Train",
    "dev": "Development", "development": "Development", "val": "Development", "valid": "Development",
    "validation": "Development",
    "test": "Test", "testing": "Test",
}  # fmt: skip


def has_class_folders(folder: Path) -> bool:
    """Return whether two folders at least hold audio: of classes, or of splits."""
    found = 0
    for inside in _folders(folder):
        found += any(_audio(inside, []))
        if found == 2:
            return True
    return False


def read_class_folders(folder: Path) -> dict[str, list[str | None]]:
    """Read the audio files below each class's folder, at any depth; other files are named in the log.

    Where all folders are called after splits (train, dev, test, …), those below them are the classes.

    Returns:
        columns of a label table, ``FileName``, ``EmoClass`` and perhaps ``Split_Set``, sorted by file

    Raises:
        LabelError: audio beside the folders, no test split, or fewer than two classes
    """
    passed: list[str] = []
    inside = _folders(folder)
    splits = {path: SPLITS.get(path.name.lower()) for path in inside}
    is_split = all(splits.values())
    classes = [path for split in inside for path in _folders(split)] if is_split else inside
    for above in inside if is_split else [folder]:
        _refuse_loose(above, "class", folder)
    if is_split:
        _refuse_loose(folder, "split", folder)
    rows: list[tuple[str, str, str | None]] = []
    for path in classes:
        for file in _audio(path, passed):
            name = os.path.relpath(file, folder).replace(os.sep, "/")
            rows.append((name, path.name, splits[path.parent] if is_split else None))
    say_passed_over(str(folder), passed)
    names = {emotion for _, emotion, _ in rows}
    if len(names) < 2:
        raise LabelError(
            f"{folder}: audio of {len(names)} class ({', '.join(sorted(names))}), of two at least; a folder of class "
            "folders holds a folder for each class"
        )
    rows.sort()
    table: dict[str, list[str | None]] = {
        "FileName": [name for name, _, _ in rows],
        "EmoClass": [emotion for _, emotion, _ in rows],
    }
    return table | ({"Split_Set": [split for _, _, split in rows]} if is_split else {})


def _refuse_loose(folder: Path, kind: str, root: Path) -> None:
    loose = sorted(path.name for path in _files(folder) if _is_audio(path.name))
    if loose:
        raise LabelError(
            f"{root}: {shown(str((folder / loose[0]).relative_to(root)))} lies beside the folders of each {kind}, so "
            f"it has no {kind} ({len(loose)} such files); move it into one of them, or name a label table"
        )


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_file() and not entry.name.startswith(".")]


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in readable_suffixes()


def _audio(folder: Path, passed: list[str], above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the audio files below a folder; add others to ``passed``. ``above`` holds the real folders above it."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder above
        return
    for path in sorted(_files(folder)):
        if _is_audio(path.name):
            yield str(path)
        else:
            passed.append(str(path))
    for path in _folders(folder):
        yield from _audio(path, passed, above | {real})
