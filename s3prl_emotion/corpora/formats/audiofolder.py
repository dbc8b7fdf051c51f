"""Read an audiofolder of ``datasets``: a folder whose ``metadata.csv`` or ``.jsonl`` names files and their labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_emotion.corpora.formats.class_folders import SPLITS
from s3prl_emotion.errors import LabelError

NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMNS = ("file_name", "audio_file_name")  # the library's own names


def metadata_files(folder: Path) -> list[Path]:
    """Return the files of metadata in a folder, or in the folders of its splits."""
    inside = [path for name in NAMES for path in folder.glob(name)]
    return sorted(inside or [path for name in NAMES for path in folder.glob(f"*/{name}")])


def read_audiofolder(folder: Path) -> dict[str, list[str | None]]:
    """Read the metadata of an audiofolder; folders of splits (train, test, …) are ``Split_Set``.

    Returns:
        the columns of the metadata by their own names, with ``FileName``, below the folder

    Raises:
        LabelError: malformed, or without the column that names the files
    """
    rows: list[dict[str, str | None]] = []
    files = metadata_files(folder)
    splits = {path: SPLITS.get(path.parent.name.lower()) if path.parent != folder else None for path in files}
    for path in files:
        for number, row in _rows(path):
            name = next((row.pop(key) for key in FILE_COLUMNS if key in row), None)
            if not isinstance(name, str) or not name:
                raise LabelError(
                    f"{path} line {number}: no file_name, which names the audio in an audiofolder; its columns are "
                    f"{', '.join(row)}"
                )
            below = (path.parent / name).relative_to(folder).as_posix() if path.parent != folder else name
            place = {"Split_Set": splits[path]} if all(splits.values()) else {}
            rows.append({"FileName": below, **place, **{key: _text(value) for key, value in row.items()}})
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in columns}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield reader.line_num, {str(key): value for key, value in row.items() if key is not None}
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    entry = json.loads(line)
                    if not isinstance(entry, dict):
                        raise LabelError(f"{path} line {number}: not a JSON object")
                    yield number, entry
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise LabelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _text(value: Any) -> str | None:
    if value is None or value == "" or isinstance(value, (dict, list)):
        return None
    return str(value)
