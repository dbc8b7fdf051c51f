"""Show progress as its reader needs it: as a bar on a terminal, as a line about every 10 s in a log file or a pipe."""

from __future__ import annotations

import logging
import operator
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, TextIO, cast

logger = logging.getLogger(__name__)
SECONDS_APART = 10.0
HIDES_HUB_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"  # of the environment; huggingface_hub and transformers read it


def progress(
    items: Any = None,
    name: str = "",
    unit: str = "",
    *,
    total: int | None = None,
    initial: int = 0,
    leave: bool = True,
    lines: bool = True,
    hidden: bool = False,
) -> Progress:
    """Return an iterable over ``items`` that shows how far it is, or a count to ``update()`` in a ``with`` block.

    Args:
        items: an iterable, or what has items by number
        name: of the work
        unit: what is counted, in the plural
        total: number of items; by default that of ``items``, if they know it
        initial: number of items that were done before
        leave: whether the last state stays: the bar, or a line with the duration
        lines: whether a log shows it; false for a part of work that is shown as well
        hidden: show nothing, as in all processes of a distributed run but the first
    """
    total = operator.length_hint(items) if total is None else total
    if hidden or not (is_terminal() or lines):
        return Progress(items, name, unit, total, initial, leave=False, seconds_apart=float("inf"))
    if not is_terminal():
        return Progress(items, name, unit, total, initial, leave)
    from tqdm import tqdm

    options = {"total": total or None, "initial": initial, "leave": leave, "dynamic_ncols": True}
    return cast("Progress", tqdm(items, desc=name, unit=unit, **options))


def is_terminal() -> bool:
    """Return whether standard error is a terminal that can redraw a line."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def hide_hub_bars() -> None:
    """Have Hugging Face's libraries, imported later, draw no bars unless on a terminal; a value that is set stays."""
    if not is_terminal():
        os.environ.setdefault(HIDES_HUB_BARS, "1")


class Progress:
    """Logs progress in lines; has the part of tqdm's interface that the suite uses.

    Attributes:
        n: number of items done
    """

    def __init__(
        self,
        items: Any,
        name: str,
        unit: str,
        total: int = 0,
        initial: int = 0,
        leave: bool = True,
        seconds_apart: float | None = None,
    ) -> None:
        self.items, self.name, self.unit, self.total, self.leave = items, name, unit, total, leave
        self.n = self.initial = initial
        self.seconds_apart = SECONDS_APART if seconds_apart is None else seconds_apart
        self.begun = self.logged = time.monotonic()
        self.is_open = True

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            yield item
            self.update()
        self.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def update(self, done: int = 1) -> None:
        """Count items, and log a line if the last is some time ago."""
        self.n += done
        now = time.monotonic()
        if now - self.logged < self.seconds_apart:
            return
        self.logged = now
        speed = (self.n - self.initial) / (now - self.begun)
        left = f", about {clock((self.total - self.n) / speed)} left" if self.total and speed > 0 else ""
        logger.info("%s: %s, %.3g a second%s", self.name, self._count(), speed, left)

    def close(self) -> None:
        """Log a last line, if it stays."""
        if self.is_open and self.leave:
            logger.info("%s: %s in %s", self.name, self._count(), clock(time.monotonic() - self.begun))
        self.is_open = False

    @staticmethod
    def write(text: str, file: TextIO | None = None) -> None:
        """Write a line to a stream, by default standard output; tqdm's writes it above the bar."""
        (file or sys.stdout).write(f"{text}\n")

    def _count(self) -> str:
        return f"{self.n} of {self.total} {self.unit}" if self.total else f"{self.n} {self.unit}"


def clock(seconds: float) -> str:
    """Format seconds as ``0:01:05``, with days if there are any."""
    return str(timedelta(seconds=max(0, round(seconds))))
