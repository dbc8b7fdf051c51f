"""Keep the log of a server small: repeated lines are counted, not repeated."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)
SPAN = 60.0  # s
MOST = 100  # different lines in a span


class Repeats(logging.Filter):
    """Lets each line through once a minute, and at most 100 different lines; says how many were left out.

    Whoever can reach a server can cause errors, as many as there is disk space for.
    """

    def __init__(self, span: float = SPAN, most: int = MOST) -> None:
        super().__init__()
        self.span, self.most = span, most
        self.left_out = 0
        self._lines: set[str] = set()
        self._begun = time.monotonic()
        self._lock = threading.Lock()  # the model's thread logs too

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged, with the number of those left out before where there are any."""
        error = record.exc_info[1] if record.exc_info else None
        line = f"{record.levelno} {record.getMessage()} {error!r}"
        with self._lock:
            if time.monotonic() - self._begun >= self.span:
                self._begun, self._lines, left_out, self.left_out = time.monotonic(), set(), self.left_out, 0
                if left_out:
                    record.msg, record.args = f"{record.getMessage()} ({self._words(left_out)})", None
            if line in self._lines or len(self._lines) >= self.most:
                self.left_out += 1
                return False
            self._lines.add(line)
        return True

    def rest(self) -> str | None:
        """Return what to say of the lines that were left out since the last one; ``None`` where there are none."""
        return self._words(self.left_out) if self.left_out else None

    @staticmethod
    def _words(count: int) -> str:
        return f"{count:,} repeated log lines were left out before"


@contextmanager
def counting() -> Iterator[None]:
    """Let the log's handlers leave out repeated lines, and say at the end how many these were."""
    filters = {handler: Repeats() for handler in logging.getLogger().handlers}
    for handler, repeats in filters.items():
        handler.addFilter(repeats)
    try:
        yield
    finally:
        for handler, repeats in filters.items():
            handler.removeFilter(repeats)
        rest = max((repeats.rest() or "" for repeats in filters.values()), default="")
        if rest:
            logger.warning("%s", rest)
