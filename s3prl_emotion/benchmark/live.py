"""What a benchmark shows while it works: a table on a terminal, lines of a log elsewhere.

All of it is read from what the runs leave behind, so that it does not matter where they are executed.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.plan import Run

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
TAIL = 4_000  # bytes of a log that hold the last state of its progress bars
STEPS = re.compile(r"overall: +\d+%\|[^|]*\| (\d+)/(\d+) ")
BEST = re.compile(r"^New best on dev at step (\d+): (\S+)$", re.MULTILINE)


@dataclass
class Progress:
    """How far a run is: what it does, steps made and asked for, best score on dev so far."""

    doing: str
    step: int | None = None
    steps: int | None = None
    best: float | None = None


def progress_of(run: Run, doing: str) -> Progress:
    """Read how far a run is from the ends of its logs."""
    progress = Progress(doing)
    if doing == "train":
        found = STEPS.findall(_tail(run.folder / "log.txt"))
        if found:
            progress.step, progress.steps = int(found[-1][0]), int(found[-1][1])
        scores = BEST.findall(_tail(run.expdir / "log.log"))
        if scores:
            progress.best = float(scores[-1][1])
    return progress


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@dataclass
class Board:
    """Counts, runs at work, and how long what is left will take.

    Attributes:
        session: of the benchmark
        waiting: runs that are not submitted yet
        finished: how many, in this session and before
        failed: how many
    """

    session: str
    waiting: list[Run]
    finished: int = 0
    failed: int = 0
    submitted: dict[str, Run] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)  # seconds, by system
    polled: float = 0.0

    def submit(self, run: Run) -> None:
        """A run is handed to the executor."""
        self.submitted[run.cell.id] = run

    def end(self, run: Run, seconds: float | None = None) -> None:
        """A run ended; ``seconds`` that it took, if it was finished."""
        self.submitted.pop(run.cell.id, None)
        self.progress.pop(run.cell.id, None)
        self.begun.pop(run.cell.id, None)
        if seconds is not None:
            self.took.setdefault(run.cell.system, []).append(seconds)

    def poll(self) -> None:
        """Look where the runs are; says of each once that it runs."""
        if time.monotonic() - self.polled < POLL_SECONDS:
            return
        self.polled = time.monotonic()
        for name, run in self.submitted.items():
            state = State.of(run)
            if state is not None and state.session == self.session and state.doing is not None:
                if name not in self.begun:
                    self.begun[name] = time.monotonic()
                    logger.info("running: %s", name)
                self.progress[name] = progress_of(run, state.doing)

    def seconds_left(self) -> float | None:
        """Estimate from what runs of the same system took, or any; ``None`` before the first is finished."""
        if not self.took:
            return None
        every = [seconds for known in list(self.took.values()) for seconds in known]
        left = 0.0
        for run in [*self.waiting, *list(self.submitted.values())]:
            known = self.took.get(run.cell.system, every)
            begun = self.begun.get(run.cell.id)
            spent = 0.0 if begun is None else time.monotonic() - begun
            left += max(0.0, sum(known) / len(known) - spent)
        return left / max(1, len(self.begun))

    def __rich__(self) -> Table:
        """The table."""
        waiting = len(self.waiting) + len(self.submitted) - len(self.begun)
        left = self.seconds_left()
        title = f"{self.finished} finished, {len(self.begun)} running, {self.failed} failed, {waiting} waiting"
        title += "" if left is None else f"; about {clock(left)} left"
        table = Table("run", "does", "step", "best on dev", "since", title=title, title_justify="left")
        for name, begun in list(self.begun.items()):  # rich draws from a thread of its own
            now = self.progress.get(name, Progress(""))
            steps = "" if now.step is None else f"{now.step} of {now.steps}"
            best = "" if now.best is None else f"{now.best:.4f}"
            table.add_row(name, now.doing, steps, best, clock(time.monotonic() - begun))
        return table


def clock(seconds: float) -> str:
    """Seconds as ``0:01:05``, with days where there are any."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def shown(board: Board) -> Iterator[None]:
    """Show the board on a terminal, above which the log goes on; nothing elsewhere, where the log says it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    with Live(board, console=console, refresh_per_second=2, transient=True):
        before = [handler.setStream(sys.stderr) for handler in handlers]  # rich's own now
        try:
            yield
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                if stream is not None:
                    handler.setStream(stream)
