"""Commands as subprocesses: with a log each, and an end when the benchmark ends."""

from __future__ import annotations

import copy
import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3prl_emotion.errors import INTERRUPTED, TrainingError
from s3prl_emotion.files.folders import PACKAGE

OWN = {"s3prl-emotion": "s3prl_emotion", "run_downstream.py": "s3prl_emotion.run_downstream"}
CHILD = str(Path(__file__).with_name("child.py"))
ERROR = re.compile(r"^\S+: error: (.*)$")
TAIL = 20_000  # bytes of a log that are searched for the error
SECONDS_TO_END = 10
FULL = (errno.ENOSPC, errno.EDQUOT)


class InterruptedRunError(TrainingError):
    """A command was ended from outside; what it did so far can be gone on with."""


class FullDiskError(InterruptedRunError):
    """There is no room to go on; every other run would end the same way."""


class Processes:
    """The processes of a benchmark, so that they can all be ended.

    Args:
        threads: that each may use for computing; ``None`` leaves that to it
        folder: in which they work; ``None``: where this process does
    """

    def __init__(self, threads: int | None = None, folder: str | None = None) -> None:
        self.folder = folder
        self.kept: tuple[int, ...] = ()
        self.environment = {"TQDM_MININTERVAL": "10", **os.environ}  # a log needs no progress bar ten times a second
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment["PYTHONPATH"] = os.pathsep.join(paths)
        if threads is not None:
            self.environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._alive: set[subprocess.Popen[bytes]] = set()

    def variant(self, kept: Sequence[int] = (), environment: Mapping[str, str] | None = None) -> Processes:
        """The same, with more environment variables, and with files that stay open in the processes.

        Args:
            kept: descriptors of locks, which are then held for as long as any of the processes lives
            environment: variables
        """
        other = copy.copy(self)  # which shares what is alive and whether it must stop
        other.environment = {**self.environment, **(environment or {})}
        other.kept = (*self.kept, *kept)
        return other

    def run(self, command: Sequence[str], log: Path) -> None:
        """Run a command to its end, its output appended to a log.

        Raises:
            TrainingError: it failed; holds its own error line
            InterruptedRunError: it was ended from outside, or the benchmark is ending
            FullDiskError: it failed for want of room
        """
        words = _as_installed(command)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            begin = file.tell()
            process = self._start(words, file)
        try:
            code = process.wait()
        finally:
            with self._lock:
                self._alive.discard(process)
        if self.stopped.is_set() or code < 0 or code == INTERRUPTED:
            raise InterruptedRunError(
                f"ended from outside, by {f'signal {-code}' if code < 0 else 'Ctrl-C'} (log: {log})"
            )
        if code:
            said = f"{last_error(log, begin) or f'exit code {code}'} (log: {log})"
            raise FullDiskError(said) if is_full_disk(said) else TrainingError(said)

    def stop(self) -> None:
        """End all processes, and let no new one start."""
        self.stopped.set()
        with self._lock:
            alive = list(self._alive)
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, words: list[str], log: object) -> subprocess.Popen[bytes]:
        child = [sys.executable, "-I", "-S", CHILD, str(os.getpid()), *words]
        with self._lock:
            if self.stopped.is_set():
                raise InterruptedRunError("not started: the benchmark is ending")
            process = subprocess.Popen(
                child,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,  # type: ignore[call-overload]
                cwd=self.folder,
                pass_fds=self.kept,
            )
            self._alive.add(process)
        return process


def is_full_disk(error: BaseException | str) -> bool:
    """Whether an error, or what a log says of one, is that the disk or a quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(os.strerror(number) in str(error) for number in FULL)


def last_error(log: Path, begin: int = 0) -> str:
    """What the end of a log says went wrong: the last ``program: error:`` line, else the last line."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(begin, file.tell() - TAIL))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [found.group(1) for line in lines if (found := ERROR.match(line))]
    return (errors or lines or [""])[-1]


def _as_installed(command: Sequence[str]) -> list[str]:
    """The suite's own commands are this installation's, whatever stands on PATH."""
    if command[0] in OWN:
        return [sys.executable, "-m", OWN[command[0]], *command[1:]]
    return list(command)
