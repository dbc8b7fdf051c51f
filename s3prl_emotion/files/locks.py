"""Lock files and folders against other processes: the suite's only lock.

The system releases a lock when the process that holds it ends, however it ends. A child that inherits the open file
holds the lock as well, for as long as it lives. So forked children close it, and commands inherit only the locks that
:data:`INHERITED` names; their own children do not.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from s3prl_emotion.errors import EmotionError, UsageError

BUSY = (errno.EAGAIN, errno.EACCES)
INHERITED = "S3PRL_EMOTION_LOCKS"  # environment variable: descriptors of the locks that a command inherits
_OWN: set[IO[str]] = set()  # locks that forked children let go


def lock(file: int | IO[bytes] | IO[str], shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed.

    A file system without locks counts as locked, so that the suite works there; two processes then do not notice each
    other.

    Args:
        file: the file, or its descriptor
        shared: allow other shared locks, but no exclusive one
        wait: for whoever holds it to release it

    Returns:
        whether the lock is held now; ``False`` if another process holds it
    """
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, mode)
    except OSError as error:
        return error.errno not in BUSY
    return True


@contextmanager
def locked(
    path: Path,
    busy: str,
    failure: type[EmotionError] = UsageError,
    wait: Callable[[], None] | None = None,
) -> Iterator[int]:
    """Hold a lock file, which names the process that holds it.

    Args:
        path: of the lock file, which is not removed
        busy: what to say if another process holds the lock; that process and a remedy are added
        failure: class of the error that is raised
        wait: called between attempts as long as another process holds the lock: sleeps, or raises to give up;
            ``None`` gives up at once

    Yields:
        the descriptor, for commands that are to hold the lock too

    Raises:
        EmotionError: ``failure``: another process holds the lock
    """
    with path.open("a+") as file, _kept_from_children(file):
        while not lock(file):
            if wait is None:
                file.seek(0)
                raise failure(f"{busy} (process {file.read().strip() or 'unknown'}); wait for it or end it")
            wait()
        with suppress(OSError):  # a full disk: the lock holds without the name
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield file.fileno()


def keep_from_children() -> None:
    """Keep the locks that this command inherited from its children: they might outlive it."""
    for word in os.environ.pop(INHERITED, "").split():
        with suppress(OSError, ValueError):  # a variable of an outer process, whose descriptors were closed
            os.set_inheritable(int(word), False)
            _OWN.add(os.fdopen(int(word), "r", closefd=True))


@contextmanager
def _kept_from_children(file: IO[str]) -> Iterator[None]:
    """Close the file in children that are forked during the block; closing a copy releases no lock."""
    _OWN.add(file)
    try:
        yield
    finally:
        _OWN.discard(file)


def _close_in_child() -> None:
    for file in _OWN:
        file.close()
    _OWN.clear()


os.register_at_fork(after_in_child=_close_in_child)
