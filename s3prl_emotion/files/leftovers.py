"""Name partial files and folders after the process that writes them, and remove those of processes that are dead."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

STALE = 600.0  # s; a partial file of an unknown process that nobody wrote to for so long was left by a killed one
FOREIGN = 86_400.0  # s; the same for processes of another host or container: one may compute for hours between writes
LONGEST_NAME = 255  # bytes, of a file's name on common file systems
_OWNER = r"(?P<pid>\d+)-(?P<start>\d+)-(?P<host>[0-9a-f]{8})-\d+"
_PARTIAL = re.compile(rf"\..*\.{_OWNER}\.partial", re.DOTALL)
_SCRATCH = re.compile(rf".*\.tmp-{_OWNER}", re.DOTALL)
_COUNT = itertools.count()  # two threads of a process never share a partial file
_LOOKED_AT: set[Path] = set()  # folders in which this process has removed what others left


def partial_name(path: Path) -> Path:
    """Return the path of a new partial file beside ``path`` that names this process."""
    owner = _new_owner()
    name = f".{path.name}.{owner}.partial"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{zlib.crc32(os.fsencode(path.name)):08x}.{owner}.partial"
    return path.with_name(name)


def scratch_name(path: Path) -> Path:
    """Return the path of a new scratch folder beside ``path`` that names this process."""
    return path.with_name(f"{path.name}.tmp-{_new_owner()}")


def remove_left(folder: Path, once: bool = False) -> None:
    """Remove the partial files and scratch folders that dead processes left in a folder, not those below it.

    Args:
        folder: may be missing
        once: do nothing if this process has looked at the folder before
    """
    if once and folder in _LOOKED_AT:
        return
    _LOOKED_AT.add(folder)
    with suppress(OSError):  # the folder is missing, or may not be listed
        remove_stale([Path(item.path) for item in os.scandir(folder) if _owner_in(item.name)], FOREIGN)


def remove_stale(paths: Iterable[Path], age: float = STALE) -> None:
    """Remove partial files and folders that killed processes left.

    Those of a process of this host go if that process is dead; all others if they were not changed for ``age`` seconds.
    """
    for path in paths:
        with suppress(OSError):  # it is gone meanwhile, or another user's
            if _is_left(path, age):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_left(path: Path, age: float) -> bool:
    owner = _owner_in(path.name)
    if owner is not None and owner["host"] == _host():
        return not _is_alive(int(owner["pid"]), int(owner["start"]))
    return time.time() - path.lstat().st_mtime > age


def _owner_in(name: str) -> re.Match[str] | None:
    return _PARTIAL.fullmatch(name) or _SCRATCH.fullmatch(name)


def _new_owner() -> str:
    return f"{_process(os.getpid())}-{next(_COUNT)}"


@functools.cache
def _process(pid: int) -> str:
    return f"{pid}-{_start(pid) or 0}-{_host()}"


@functools.cache
def _host() -> str:
    """Return a mark of the machine since it was started, and of the container: within it, process ids are unique."""
    marks = [platform.node()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(marks).encode()):08x}"


def _is_alive(pid: int, start: int) -> bool:
    """Return whether a process lives and is the one that began at ``start``: ids are used again."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process
        pass
    now = _start(pid)
    return now != 0 and (not start or now is None or now == start)


def _start(pid: int) -> int | None:
    """Return when a process began (clock ticks since the machine's start); 0 for a zombie, ``None`` if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
