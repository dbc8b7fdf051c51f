"""A lock file: one process in a directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3prl_emotion.errors import UsageError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, however it ends.

    Raises:
        UsageError: another process holds it; the message is ``busy`` with that process's id
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UsageError(f"{busy} (process {file.read().strip() or 'unknown'}); wait for it or end it") from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
