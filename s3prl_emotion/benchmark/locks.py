"""Locks that are waited for: one process on a run, one on a prepared step."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from s3prl_emotion.benchmark.processes import InterruptedRunError

POLL = 0.1  # s


@contextmanager
def waited_for(path: Path, stopped: Callable[[], bool], most: float | None = None) -> Iterator[int]:
    """Hold a lock file, once whoever holds it lets go.

    Processes that inherit the descriptor hold the lock as well. So a run whose benchmark was killed is not begun anew
    while one of its processes still lives.

    Args:
        path: of the lock file; its folder is made
        stopped: asked while waiting, whether to give up
        most: seconds to wait at most

    Yields:
        the descriptor

    Raises:
        InterruptedRunError: ``stopped``, or it took too long
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if stopped():
                    raise InterruptedRunError("not started: the benchmark is ending") from error
                if most is not None and time.monotonic() - begun > most:
                    raise InterruptedRunError(f"{path}: another process still works here; end it") from error
            time.sleep(POLL)
        yield file.fileno()
