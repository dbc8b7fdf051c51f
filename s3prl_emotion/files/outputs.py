"""Decide where an output goes: through symbolic links, straight into streams, and over nothing but regular files."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.files.leftovers import remove_left
from s3prl_emotion.files.locks import lock

LOCK = ".lock"
_DESCRIPTORS = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd|/dev/fd")
_MOST_LINKS = 40  # as Linux follows
_REFUSED = ((stat.S_ISDIR, "folder"), (stat.S_ISBLK, "block device"), (stat.S_ISSOCK, "socket"))


@dataclass(frozen=True)
class Place:
    """Where an output goes.

    Attributes:
        path: as the user named it
        real: the regular file behind all links, which may not exist yet
        existing: the state of an existing file
        is_stream: whether it is a FIFO, a character device, or an open descriptor of this process
        descriptor: that descriptor, such as 1 for ``/dev/stdout``
    """

    path: Path
    real: Path
    existing: os.stat_result | None = None
    is_stream: bool = False
    descriptor: int | None = None


def place_of(path: Path, failure: type[EmotionError] = UsageError, label: str = "") -> Place:
    """Return where an output goes, from the file system alone: nothing is opened.

    Args:
        path: of the output
        failure: class of the error that is raised
        label: of the message, such as ``"--out "``

    Raises:
        EmotionError: ``failure``: the name is that of a folder, block device, socket or read-only file, or a link leads
            nowhere
    """
    try:
        existing = os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise failure(f"{label}{path}: is a link that leads in a circle; remove it or name another file") from error
        existing = None
    real = Path(os.path.realpath(path))
    if existing is None:
        if os.path.islink(path) and not os.path.isdir(real.parent):
            raise failure(
                f"{label}{path}: is a link to {real}, whose folder does not exist; make that folder or remove the link"
            )
        return Place(path, real)
    for is_kind, kind in _REFUSED:
        if is_kind(existing.st_mode):
            raise failure(f"{label}{path}: is a {kind}; name a file")
    descriptor = _descriptor(path)
    if descriptor is not None or not stat.S_ISREG(existing.st_mode):
        _check_open_for_writing(path, descriptor, failure, label)
        return Place(path, path, existing, is_stream=True, descriptor=descriptor)
    if not os.access(real, os.W_OK):
        raise failure(f"{label}{path}: may not be written (it is read-only); name another file")
    return Place(path, real, existing)


def check_file(
    path: Path, label: str = "--out ", failure: type[EmotionError] = UsageError, parents: bool = False
) -> None:
    """Refuse a file that cannot be written, before the work begins, and remove what dead processes left beside it.

    Args:
        path: of the file
        label: the flag that names it, for the message
        failure: class of the error that is raised
        parents: whether missing folders above it will be made

    Raises:
        EmotionError: ``failure``: it is no file or stream, or its folder does not exist or cannot be written
    """
    place = place_of(path, failure, label)
    if place.is_stream:
        return
    folder = place.real.parent if os.path.islink(path) else path.parent
    if parents:
        check_folder(folder, label, failure)
        return
    if not os.path.isdir(folder):
        raise failure(f"{label}{path}: its folder does not exist; make it or name another file")
    _check_room(folder, f"{label}{path}: its folder", failure)
    remove_left(folder)


def is_standard_output(path: Path) -> bool:
    """Return whether an output goes where standard output goes, as ``/dev/stdout`` does."""
    place = place_of(path)
    with suppress(OSError):
        return place.is_stream and place.existing is not None and os.path.samestat(place.existing, os.fstat(1))
    return False


def check_folder(path: Path, label: str = "--out ", failure: type[EmotionError] = UsageError) -> None:
    """Refuse a folder that cannot be made or written, before the work begins; it is not made yet.

    Raises:
        EmotionError: ``failure``: a file has its name, a link leads nowhere, or it cannot be written
    """
    existing = path
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not os.path.isdir(existing):
        raise failure(f"{label}{path}: {_why_not_a_folder(existing, path)}")
    _check_room(existing, f"{label}{path}:", failure)
    remove_left(path)


def make_folder(path: Path, label: str = "", failure: type[EmotionError] = UsageError) -> None:
    """Make a folder and those above it.

    Raises:
        EmotionError: ``failure``: a file has its name, a link leads nowhere, or it cannot be made
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for folder in (path, *path.parents):
            if os.path.lexists(folder) and not os.path.isdir(folder):
                raise failure(f"{label}{path}: {_why_not_a_folder(folder, path)}") from error
        raise failure(f"{label}{path}: cannot be made ({error.strerror}); name another folder") from error


@contextmanager
def new_folder(
    path: Path, label: str = "", failure: type[EmotionError] = UsageError, notes: Collection[str] = (LOCK,)
) -> Iterator[None]:
    """Make a folder for the block; if that fails before there is work in it, what was made goes again.

    Args:
        path: of the folder; those above it are made, too
        label: the flag that names it, for the message
        failure: class of the error that is raised
        notes: names of files that are no work

    Raises:
        EmotionError: ``failure``: it cannot be made
    """
    missing = missing_folders(path)
    try:
        make_folder(path, label, failure)
        yield
    except BaseException:
        remove_unused(missing, notes)
        raise


def missing_folders(path: Path) -> list[Path]:
    """Return those of a folder and the folders above it that do not exist, the innermost first."""
    return [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]


def remove_unused(folders: Sequence[Path], notes: Collection[str] = (LOCK,)) -> None:
    """Remove folders that a failed start made, unless they hold more than ``notes``.

    Args:
        folders: the innermost first; a folder that stays keeps those above it
        notes: names of files that are no work
    """
    for folder in folders:
        with suppress(OSError):  # it was not made, or is in use
            if {item.name for item in os.scandir(folder)} <= set(notes) and not _is_locked(folder):
                for name in notes:
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()


@contextmanager
def removing_unused(*paths: Path, notes: Collection[str] = (LOCK,)) -> Iterator[None]:
    """Remove the folders that the block makes at and above ``paths`` if it fails and leaves no work in them."""
    missing = [missing_folders(path) for path in paths]
    try:
        yield
    except BaseException:
        for folders in missing:
            remove_unused(folders, notes)
        raise


def append(path: Path, text: str, failure: type[EmotionError], remedy: str) -> None:
    """Add whole lines to a log, or none of them.

    Raises:
        EmotionError: ``failure``: it is no regular file, the disk is full, or it cannot be written
    """
    check_regular(path, failure)
    try:
        with path.open("ab", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            data = memoryview(text.encode())
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        raise failure(f"{path}: could not be written ({error.strerror or error}); {remedy}") from error


def check_regular(path: Path, failure: type[EmotionError]) -> None:
    """Refuse a log that is no regular file; links to one are followed, and it may be missing.

    Raises:
        EmotionError: ``failure``
    """
    if place_of(path, failure).is_stream:
        raise failure(f"{path}: is a device or a pipe, which keeps no log; remove it or choose another folder")


def _is_locked(folder: Path) -> bool:
    """Return whether another process works in a folder: two may have found that it did not exist."""
    path = folder / LOCK
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not lock(file)


def _descriptor(path: Path) -> int | None:
    """Return the open descriptor of this process that a path names, as ``/dev/stdout`` and ``/dev/fd/63`` do."""
    current = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(current)
        folder = os.path.realpath(folder)
        match = _DESCRIPTORS.fullmatch(folder)
        if match and name.isdigit() and match[1] in (None, str(os.getpid())):
            return int(name)
        try:
            current = os.path.join(folder, os.readlink(os.path.join(folder, name)))
        except OSError:
            return None
    return None


def _check_open_for_writing(path: Path, descriptor: int | None, failure: type[EmotionError], label: str) -> None:
    if descriptor is not None:
        is_open = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    else:
        is_open = os.access(path, os.W_OK)
    if not is_open:
        raise failure(f"{label}{path}: may not be written (it is read-only); name another file")


def _check_room(folder: Path, what: str, failure: type[EmotionError]) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise failure(f"{what} cannot be written ({error.strerror}); name another one") from error


def _why_not_a_folder(existing: Path, path: Path) -> str:
    which = "is" if existing == path else f"{existing} is"
    if os.path.islink(existing) and not os.path.exists(existing):
        return f"{which} a link to {os.readlink(existing)}, which does not exist; make that folder or remove the link"
    return f"{which} a file; name a folder"
