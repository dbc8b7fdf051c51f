"""Write files and folders whole or not at all: the suite's only writer.

Content goes into a partial file beside the target, which takes the target's name once it is complete. So an older file
stays until then, and a crash or a full disk leaves nothing half-written under the name. Links stay, and their target is
written; pipes and character devices get the content as it comes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import EmotionError, TrainingError
from s3prl_emotion.files.leftovers import partial_name, remove_left, scratch_name
from s3prl_emotion.files.outputs import Place, place_of

REMEDY = "free disk space or fix the folder's permissions"


@contextmanager
def writing(
    path: Path,
    failure: type[EmotionError] = TrainingError,
    remedy: str = REMEDY,
    parents: bool = False,
    durable: bool = False,
) -> Iterator[BinaryIO]:
    """Open a file for writing; it appears under its name when the block ends without an error.

    A link stays, and its target is written. A FIFO, a character device or an open descriptor (``/dev/stdout``) gets the
    content as it comes. An existing file keeps its mode and, where that is allowed, its owner.

    Args:
        path: of the file
        failure: class of the error that is raised
        remedy: how to fix a failure, for its message
        parents: make missing folders above the file
        durable: wait until the content is on the disk

    Raises:
        EmotionError: ``failure``: the disk is full or the folder cannot be written; an older file is unchanged. Or the
            name is that of a folder, block device, socket or read-only file, or a link that leads nowhere
    """
    place = place_of(path, failure)
    partial = None if place.is_stream else partial_name(place.real)
    try:
        if partial is None:
            with _opened(place) as file:
                yield file
            return
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(place.real.parent, once=True)
        with _open(partial) as file:
            if place.existing is not None:
                _keep_owner(file, place.existing)
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if place_of(place.real, failure).is_stream:  # it took the name meanwhile
            raise failure(f"{path}: could not be written (a device or a pipe has its name now); {remedy}")
        partial.replace(place.real)
    except OSError as error:
        if error.filename not in (None, *map(str, (partial, path, *path.parents, *place.real.parents))):
            raise  # of another file, which the block reads
        raise failure(f"{path}: could not be written ({error.strerror or error}); {remedy}") from error
    finally:
        if partial is not None:
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


def write_text(
    path: Path, text: str, failure: type[EmotionError] = TrainingError, remedy: str = REMEDY, parents: bool = False
) -> None:
    """Write a UTF-8 text file as :func:`writing` does."""
    write_bytes(path, text.encode(), failure, remedy, parents)


def write_json(path: Path, values: Any, failure: type[EmotionError] = TrainingError, **options: Any) -> None:
    """Write a JSON file as :func:`writing` does: indented by 2, other types as strings.

    Args:
        path: of the file
        values: to serialise
        failure: class of the error that is raised
        options: of ``json.dumps``, which override these
    """
    write_text(path, json.dumps(values, **{"indent": 2, "default": str, **options}) + "\n", failure)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], parents: bool = False) -> Path:
    """Write an npz file as :func:`writing` does, and return its path."""
    data = io.BytesIO()
    np.savez(data, **dict[str, Any](arrays))
    write_bytes(path, data.getvalue(), parents=parents)
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
    path = Path(os.path.realpath(path))  # a link stays, and its target is made
    scratch = scratch_name(path)
    remove_left(path.parent, once=True)
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


class _Stream(io.BufferedWriter):
    """A file without positions, whatever it is: zip files and texts are then written without going back."""

    def seekable(self) -> bool:
        """Return ``False``."""
        return False

    def tell(self) -> int:
        """Raise ``OSError``."""
        raise io.UnsupportedOperation("a stream has no position")

    def seek(self, offset: int, whence: int = 0) -> int:
        """Raise ``OSError``."""
        raise io.UnsupportedOperation("a stream has no position")


def _opened(place: Place) -> BinaryIO:
    """Open a stream; a FIFO waits for its reader."""
    if place.descriptor is not None:  # a copy shares the position, and what is in the file stays
        return _Stream(io.FileIO(os.dup(place.descriptor), "wb"))
    return _Stream(io.FileIO(os.open(place.path, os.O_WRONLY), "wb"))


def _open(partial: Path) -> BinaryIO:
    return partial.open("xb")


def _keep_owner(file: BinaryIO, existing: os.stat_result) -> None:
    """Give a new file the owner, the group and the mode of the one that it will replace, as far as it is allowed."""
    with suppress(OSError):
        os.fchown(file.fileno(), -1, existing.st_gid)
    with suppress(OSError):
        os.fchown(file.fileno(), existing.st_uid, -1)
    with suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(existing.st_mode))


def _rename_folder(scratch: Path, path: Path, is_complete: Callable[[Path], bool]) -> None:
    try:
        scratch.rename(path)
    except OSError:
        if is_complete(path):
            return
        if not path.exists():
            raise
        replaced = scratch_name(path)
        path.rename(replaced)
        scratch.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
