"""Write files and folders whole or not at all: the suite's only writer.

Content goes into a partial file beside the target, which takes the target's name once it is complete. So an older file
stays until then, and a crash or a full disk leaves nothing half-written under the name.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import EmotionError, TrainingError

REMEDY = "free disk space or fix the folder's permissions"
LONGEST_NAME = 255  # bytes, of a file's name on common file systems
STALE = 600.0  # s; a partial file that nobody wrote to for so long was left by a killed process


@contextmanager
def writing(
    path: Path,
    failure: type[EmotionError] = TrainingError,
    remedy: str = REMEDY,
    parents: bool = False,
    durable: bool = False,
) -> Iterator[BinaryIO]:
    """Open a file for writing; it appears under its name when the block ends without an error.

    Args:
        path: of the file
        failure: class of the error that is raised
        remedy: how to fix a failure, for its message
        parents: make missing folders above the file
        durable: wait until the content is on the disk

    Raises:
        EmotionError: ``failure``: the disk is full or the folder cannot be written; an older file is unchanged
    """
    partial = _partial(path)
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _open(partial) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename not in (None, str(partial), *map(str, path.parents)):
            raise  # of another file, which the block reads
        raise failure(f"{path}: could not be written ({error.strerror or error}); {remedy}") from error
    finally:
        with suppress(OSError):  # it has its name by now, or it could not be made
            partial.unlink()


@contextmanager
def writing_text(path: Path, failure: type[EmotionError] = TrainingError, remedy: str = REMEDY) -> Iterator[TextIO]:
    """Open a UTF-8 text file as :func:`writing` does; line ends are written as they are."""
    with writing(path, failure, remedy) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
            text.flush()
        finally:
            with suppress(OSError):  # reported already, by the write that failed
                text.detach()


def write_bytes(
    path: Path, data: bytes, failure: type[EmotionError] = TrainingError, remedy: str = REMEDY, parents: bool = False
) -> None:
    """Write bytes as :func:`writing` does."""
    with writing(path, failure, remedy, parents) as file:
        file.write(data)


def write_text(path: Path, text: str, failure: type[EmotionError] = TrainingError) -> None:
    """Write a UTF-8 text file as :func:`writing` does."""
    write_bytes(path, text.encode(), failure)


def write_json(path: Path, values: Any, failure: type[EmotionError] = TrainingError, **options: Any) -> None:
    """Write a JSON file as :func:`writing` does: indented by 2, other types as strings.

    Args:
        path: of the file
        values: to serialise
        failure: class of the error that is raised
        options: of ``json.dumps``, which override these
    """
    write_text(path, json.dumps(values, **{"indent": 2, "default": str, **options}) + "\n", failure)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write an npz file as :func:`writing` does, and return its path."""
    data = io.BytesIO()
    np.savez(data, **dict[str, Any](arrays))
    write_bytes(path, data.getvalue())
    return path


@contextmanager
def writing_folder(path: Path, is_complete: Callable[[Path], bool] = Path.is_dir) -> Iterator[Path]:
    """Make a folder that appears under its name, with everything in it, when the block ends without an error.

    Where another process was faster, its folder stays; one that is not complete is replaced.

    Args:
        path: of the folder; the folders above it are made
        is_complete: whether a folder that has the name already may stay

    Yields:
        an empty folder beside ``path`` to write into

    Raises:
        OSError: it cannot be written
    """
    scratch = _scratch(path)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        _rename_folder(scratch, path, is_complete)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def name_aside(path: Path) -> Path:
    """Return the first of ``path.1``, ``path.2``, … that does not exist."""
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.with_name(f"{path.name}.{number}")


def set_aside(path: Path) -> Path:
    """Rename a file or folder to the first free name of ``path.1``, ``path.2``, …, and return it.

    Raises:
        OSError: it cannot be renamed
    """
    aside = name_aside(path)
    path.rename(aside)
    return aside


def put_back(aside: Path, path: Path) -> bool:
    """Undo :func:`set_aside` unless the name was taken meanwhile; return whether it was undone."""
    with suppress(OSError):
        if not path.exists():
            aside.rename(path)
            return True
    return False


def remove_stale(paths: Iterable[Path], age: float = STALE) -> None:
    """Remove partial files and folders that killed processes left: those not changed for ``age`` seconds."""
    for path in paths:
        with suppress(OSError):  # it is gone meanwhile, or another user's
            if time.time() - path.stat().st_mtime > age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _open(partial: Path) -> BinaryIO:
    return partial.open("wb")


def _partial(path: Path) -> Path:
    name = f".{path.name}.{os.getpid()}.partial"
    return path.with_name(name if len(os.fsencode(name)) <= LONGEST_NAME else f".{uuid.uuid4().hex}.partial")


def _scratch(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")


def _rename_folder(scratch: Path, path: Path, is_complete: Callable[[Path], bool]) -> None:
    try:
        scratch.rename(path)
    except OSError:
        if is_complete(path):
            return
        if not path.exists():
            raise
        replaced = _scratch(path)
        path.rename(replaced)
        scratch.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
