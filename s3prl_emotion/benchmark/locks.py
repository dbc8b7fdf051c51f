"""Locks that a benchmark waits for: one process on a run, one on a prepared step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from s3prl_emotion.benchmark.processes import InterruptedRunError
from s3prl_emotion.files.locks import locked

POLL = 0.1  # s


@contextmanager
def waited_for(path: Path, stopped: Callable[[], bool], most: float | None = None) -> Iterator[int]:
    """Hold a lock file as soon as the process that holds it releases it.

    Processes that inherit the descriptor hold the lock as well. So a run whose benchmark was killed does not start anew
    while one of its processes still lives.

    Args:
        path: of the lock file; its folder is made
        stopped: asked while waiting, whether to give up
        most: longest wait (s)

    Yields:
        the descriptor

    Raises:
        InterruptedRunError: ``stopped``, or it took too long
    """
    begun = time.monotonic()

    def wait() -> None:
        if stopped():
            raise InterruptedRunError("not started: the benchmark is ending")
        if most is not None and time.monotonic() - begun > most:
            raise InterruptedRunError(f"{path}: another process still works here; end it")
        time.sleep(POLL)

    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, f"{path}: another process works here", InterruptedRunError, wait) as descriptor:
        yield descriptor
