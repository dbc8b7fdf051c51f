"""Lay the audio of a Hugging Face dataset into files of the cache, beside a table of its columns.

The suite decodes audio itself, so that the bytes are written as they are, and no torchcodec is needed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from s3prl_emotion.corpora.formats.recognise import EXTRACTED_MARK
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.files.folders import CACHE_VARIABLE, cache_folder
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.writing import writing_folder
from s3prl_emotion.limits import shown

logger = logging.getLogger(__name__)

EXTRA = 'pip install "s3prl-emotion[datasets]"'
VERSION = 1  # of what is written
AT_ONCE = 64  # rows in memory
TABLE, AUDIO = "columns.csv", "audio"
SPLITS = {
    "train": "Train", "training": "Train", "validation": "Development", "valid": "Development", "val": "Development",
    "dev": "Development", "test": "Test",
}  # fmt: skip
FOLD = re.compile(r"(fold|session)_?\d+", re.IGNORECASE)
SUFFIXES = ((b"RIFF", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"), (b"\xff\xfb", ".mp3"))
OURS = ("FileName", "Split_Set", "Fold")  # columns that say where a row lies


def extracted(source: Path, name: str, config: str | None = None) -> Path:
    """Return the folder of the cache with a dataset's audio and columns, which is made unless it is there.

    Args:
        source: what ``save_to_disk`` wrote, a folder with parquet files, or one such file
        name: of the dataset, for messages and for the folder
        config: which of several configurations of the dataset

    Raises:
        LabelError: not readable as a dataset, no column of audio or several, or a row without audio
        UsageError: ``datasets`` is not installed, or the cache cannot be written
    """
    tail = re.sub(r"[^\w.-]+", "-", name).strip("-.")[-60:]
    folder = cache_folder() / "datasets" / f"{tail}-{_fingerprint(source, config)}"
    try:
        if not (folder / EXTRACTED_MARK).is_file():
            splits = _splits(source, name, config)
            logger.info("%s: its audio is laid into %s", name, folder)
            with writing_folder(folder, lambda path: (path / EXTRACTED_MARK).is_file()) as scratch:
                _write(splits, name, source, scratch)
                (scratch / EXTRACTED_MARK).write_text(json.dumps({"dataset": name, "version": VERSION}))
    except OSError as error:
        raise UsageError(
            f"{name}: its audio cannot be laid into {folder}: {error.strerror or error}; name a folder with room for "
            f"it in the environment variable {CACHE_VARIABLE}"
        ) from error
    return folder


def _fingerprint(source: Path, config: str | None) -> str:
    """Return a hash of the names, sizes and times of a dataset's files."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    digest = hashlib.sha256(f"{VERSION} {os.path.abspath(source)} {config}".encode("utf-8", "surrogateescape"))
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def _splits(source: Path, name: str, config: str | None) -> dict[str, Any]:
    """Open a dataset, without decoding anything; return its splits by name."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(f"{name}: a Hugging Face dataset needs the package datasets; {EXTRA}") from error
    try:
        with _quiet(datasets):
            if source.is_dir() and any((source / file).is_file() for file in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(source))
            elif source.is_file():
                found = datasets.load_dataset("parquet", data_files={"train": str(source)}, streaming=True)
            else:
                found = datasets.load_dataset(str(source), name=config, streaming=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())
        fix = "; name one, as hf://OWNER/NAME:CONFIG" if "onfig" in reason else ""
        raise LabelError(f"{name}: not readable as a Hugging Face dataset: {reason[:300]}{fix}") from error
    return dict(found) if isinstance(found, dict) else {"train": found}


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Show no bars of the library's own."""
    shows = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shows:
            datasets.enable_progress_bars()


def write_dataset(dataset: Any, folder: Path, name: str = "dataset") -> None:
    """Lay a dataset in memory, or one that is streamed, into a folder that ``datarc.labels`` can name.

    Args:
        dataset: a ``Dataset``, ``IterableDataset``, or a dictionary of them by split
        folder: must not exist yet
        name: of the dataset, for messages

    Raises:
        LabelError: no column of audio or several, or a row without audio
    """
    with writing_folder(folder) as scratch:
        _write(dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}, name, Path(), scratch)
        (scratch / EXTRACTED_MARK).write_text(json.dumps({"dataset": name, "version": VERSION}))


def _write(splits: Mapping[str, Any], name: str, source: Path, folder: Path) -> None:
    first = next(iter(splits.values()))
    features = first.features if first.features is not None else first._resolve_features().features
    audio = _audio_column(features, name)
    texts = {key: feature for key, feature in features.items() if key != audio and _is_scalar(feature)}
    column, places = _split_column(list(splits), name)
    headers = [f"{key} of the source" if key in OURS else key for key in texts]
    (folder / AUDIO).mkdir()
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["FileName", *([column] if column else []), *headers])
        for split, dataset in splits.items():
            taken: set[str] = set()
            bar = progress(
                _rows(dataset), f"{name} {split}", "rows", total=getattr(dataset, "num_rows", None), leave=False
            )
            for number, row in enumerate(bar):
                where = f"{name}: row {number} of {split}"
                file_name = _laid(
                    row[audio], folder / AUDIO, split if len(splits) > 1 else "", number, taken, (source, where)
                )
                values = [_text(row.get(key), feature) for key, feature in texts.items()]
                writer.writerow([file_name, *([places[split]] if column else []), *values])


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield rows from Arrow tables, where audio is bytes and path whatever its feature would decode it to."""
    for batch in dataset.with_format("arrow").iter(batch_size=AT_ONCE):
        yield from batch.to_pylist()


def _audio_column(features: Mapping[str, Any], name: str) -> str:
    found = [key for key, feature in features.items() if _is_audio(feature)]
    if not found:
        raise LabelError(
            f"{name}: the dataset has no column of audio (a feature Audio); its columns are {', '.join(features)}"
        )
    if len(found) > 1:
        raise LabelError(
            f"{name}: the dataset has several columns of audio ({', '.join(found)}); keep one of them "
            f"(Dataset.remove_columns) and save it anew"
        )
    return found[0]


def _is_audio(feature: Any) -> bool:
    return type(feature).__name__ == "Audio" or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))


def _is_scalar(feature: Any) -> bool:
    """Return whether a column holds one text, number or class a row."""
    dtype = getattr(feature, "dtype", None)
    return type(feature).__name__ in ("Value", "ClassLabel") and isinstance(dtype, str) and "binary" not in dtype


def _split_column(splits: list[str], name: str) -> tuple[str | None, dict[str, str]]:
    """Return the column that the splits become, and their values in it."""
    if len(splits) == 1:
        return None, {}
    if all(FOLD.fullmatch(split) for split in splits):
        return "Fold", {split: split for split in splits}
    places = {split: SPLITS.get(split.lower(), split) for split in splits}
    tests = [split for split, place in places.items() if place.lower().startswith("test")]
    if "Train" in places.values() and tests:
        return "Split_Set", places
    lacks = "test" if "Train" in places.values() else "train"
    logger.warning(
        "%s: has the splits %s and no %s split, so its rows are taken together; datarc.columns: {Fold: split} tests on "
        "each of them",
        *(name, ", ".join(splits), lacks),
    )
    return "split", {split: split for split in splits}


def _text(value: Any, feature: Any) -> str:
    if value is None:
        return ""
    names = getattr(feature, "names", None)
    if names is not None:  # a class label: -1 is none
        return str(names[value]) if isinstance(value, int) and 0 <= value < len(names) else ""
    return str(value)


# --- audio ------------------------------------------------------------------------------------------------------------


def _laid(value: Any, folder: Path, split: str, number: int, taken: set[str], origin: tuple[Path, str]) -> str:
    """Write the audio of a row, or link to its file; return its name below the folder."""
    source, where = origin
    data = value.get("bytes") if isinstance(value, dict) else None
    path = value.get("path") if isinstance(value, dict) else None
    own = PurePosixPath(str(path or "").replace("\\", "/")).name
    own = re.sub(r"[\x00-\x1f\x7f]", "_", own) or f"{number:06d}"
    if data and not PurePosixPath(own).suffix:
        own += next((suffix for magic, suffix in SUFFIXES if data.startswith(magic)), "")
    if own in taken or own.startswith("."):
        own = f"{number:06d}_{own}"
    taken.add(own)
    target = folder / split / own
    target.parent.mkdir(exist_ok=True)
    if data:
        target.write_bytes(data)
    else:
        file = None if not path else next((p for p in (Path(path), source / path) if p.is_file()), None)
        if file is None:
            what = f"neither bytes nor the file {shown(str(path))}" if path else "neither bytes nor a file"
            raise LabelError(f"{where}: has no audio, {what}; leave the row out, or save the dataset with its audio")
        target.symlink_to(file.resolve())
    return f"{split}/{own}" if split else own


# --- as a label table -------------------------------------------------------------------------------------------------


def read_extracted(folder: Path) -> dict[str, list[str | None]]:
    """Read the columns of a dataset that was laid into files.

    Raises:
        LabelError: the folder is damaged
    """
    try:
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise LabelError(f"{folder}: is damaged; remove it, and it is made again") from error
    return {name: [row[place] or None for row in rows] for place, name in enumerate(header)}
