"""Show the progress of a benchmark: a table on a terminal, a line about every 10 s elsewhere.

The progress is read from the files that runs write, so that it does not matter where they are executed.
"""

from __future__ import annotations

import logging
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.plan import Run
from s3prl_emotion.errors import visible
from s3prl_emotion.files.progress import SECONDS_APART, clock, is_terminal

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
MOST_NAMED = 3  # runs in a line of the log
TAIL = 4_000  # bytes at a log's end that hold its last line of progress
STEPS = re.compile(r"overall: (\d+) of (\d+) steps")
BEST = re.compile(r"^New best on dev at step (\d+): (\S+)$", re.MULTILINE)


@dataclass
class Progress:
    """Progress of a run: what it does, steps made and planned, best dev score so far."""

    doing: str
    step: int | None = None
    steps: int | None = None
    best: float | None = None


def progress_of(run: Run, doing: str) -> Progress:
    """Read a run's progress from the ends of its logs."""
    progress = Progress(doing)
    if doing == "train":
        lines = STEPS.findall(_tail(run.folder / "log.txt"))
        if lines:
            progress.step, progress.steps = map(int, lines[-1])
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
    """Counts of runs, the running ones, and the estimated time left.

    Attributes:
        session: id of the benchmark's session
        waiting: runs that are not submitted yet
        finished: number of finished runs, earlier sessions included
        failed: number of failed runs
        logs: whether to log how far the runs are, about every 10 s
    """

    session: str
    waiting: list[Run]
    finished: int = 0
    failed: int = 0
    submitted: dict[str, Run] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    took: dict[tuple[str, ...], list[float]] = field(default_factory=dict)  # seconds; see _alike
    polled: float = 0.0
    logs: bool = False
    logged: float = field(default_factory=time.monotonic)

    def submit(self, run: Run) -> None:
        """Note that a run was submitted to the executor."""
        self.submitted[run.cell.id] = run

    def end(self, run: Run, seconds: float | None = None) -> None:
        """Note that a run ended, and how many seconds it took if it finished."""
        self.submitted.pop(run.cell.id, None)
        self.progress.pop(run.cell.id, None)
        self.begun.pop(run.cell.id, None)
        if seconds is not None:
            for kind in _alike(run):
                self.took.setdefault(kind, []).append(seconds)

    def poll(self) -> None:
        """Update the progress of the submitted runs, and log each once when it starts."""
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
        if self.logs and self.polled - self.logged >= SECONDS_APART:
            self.logged = self.polled
            steps = [(name, now) for name, now in self.progress.items() if now.step is not None][:MOST_NAMED]
            runs = "".join(f"; {name}: {now.step} of {now.steps} steps" for name, now in steps)
            logger.info("%s%s", self.summary(), runs)

    def summary(self) -> str:
        """Return the counts of runs, and the estimated time left."""
        waiting = len(self.waiting) + len(self.submitted) - len(self.begun)
        left = self.seconds_left()
        line = f"{self.finished} finished, {len(self.begun)} running, {self.failed} failed, {waiting} waiting"
        return line + ("" if left is None else f"; about {clock(left)} left")

    def seconds_left(self) -> float | None:
        """Estimate from how long the most similar runs took; ``None`` before the first has finished.

        The median counts (the lower of two), since the first run, which fills the store, takes far longer than others.
        """
        if not self.took:
            return None
        typical = {kind: statistics.median_low(list(durations)) for kind, durations in list(self.took.items())}
        left = 0.0
        for run in [*self.waiting, *list(self.submitted.values())]:
            begun = self.begun.get(run.cell.id)
            spent = 0.0 if begun is None else time.monotonic() - begun
            left += max(0.0, next(typical[kind] for kind in _alike(run) if kind in typical) - spent)
        return left / max(1, len(self.begun))

    def __rich__(self) -> Table:
        """Return the table that rich draws."""
        title = Text(self.summary())
        table = Table("run", "does", "step", "best on dev", "since", title=title, title_justify="left")
        for name, begun in list(self.begun.items()):  # rich draws from a thread of its own
            now = self.progress.get(name, Progress(""))
            steps = "" if now.step is None else f"{now.step} of {now.steps}"
            best = "" if now.best is None else f"{now.best:.4f}"
            table.add_row(Text(visible(name)), Text(visible(now.doing)), steps, best, clock(time.monotonic() - begun))
        return table


def _alike(run: Run) -> tuple[tuple[str, ...], ...]:
    """Return what a run's duration is known by: system and upstream, the system, or nothing of it."""
    return (run.cell.system, run.cell.upstream), (run.cell.system,), ()


@contextmanager
def shown(board: Board) -> Iterator[None]:
    """Show the board below the log on a terminal; elsewhere let it log lines."""
    if not is_terminal():
        board.logs = True
        yield
        return
    console = Console(stderr=True)
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    with Live(board, console=console, refresh_per_second=2, transient=True):
        before = [handler.setStream(sys.stderr) for handler in handlers]  # rich's, which prints above the table
        try:
            yield
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                if stream is not None:
                    handler.setStream(stream)
