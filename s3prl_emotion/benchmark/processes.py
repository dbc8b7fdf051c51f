"""Run commands as subprocesses with a log, and end them when the benchmark ends."""

from __future__ import annotations

import copy
import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.folders import PACKAGE
from s3prl_emotion.files.locks import INHERITED, locked
from s3prl_emotion.files.outputs import check_regular
from s3prl_emotion.files.progress import HIDES_HUB_BARS
from s3prl_emotion.processes import parent
from s3prl_emotion.processes.commands import Command, CommandServer, RefusedError
from s3prl_emotion.processes.ending import BASE, SIGNALS

logger = logging.getLogger(__name__)
WARM = "s3prl_emotion.training.warm"  # imports what runs need, in the server that forks them
COUNTS_GPUS = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # else an import that looks for a GPU makes CUDA unusable in forks
OWN = {"s3prl-emotion": "s3prl_emotion", "run_downstream.py": "s3prl_emotion.run_downstream"}
ERROR = re.compile(r"^\S+: error: (.*)$")
TAIL = 20_000  # bytes of a log that are searched for the error
SECONDS_TO_END = 20.0  # for all processes together, to save their checkpoints after SIGTERM
ENDED = {BASE + number: "Ctrl-C" if number == signal.SIGINT else number.name for number in SIGNALS}  # by exit code
POLL = 0.1  # s
FULL = (errno.ENOSPC, errno.EDQUOT)
_Process = subprocess.Popen[bytes] | Command


class InterruptedRunError(TrainingError):
    """A command was ended from outside; the run can be resumed."""


class FullDiskError(InterruptedRunError):
    """The disk is full; every other run would fail the same way."""


class Processes:
    """The processes of a benchmark, which :meth:`stop` ends all together.

    Args:
        threads: number of computing threads of each; ``None``: the process decides
        folder: their working directory; ``None``: this process's
        isolate: start each of the suite's own commands in a fresh interpreter; else it is forked, on Linux, from a
            server that has imported what runs need
        upstreams: whose code that server imports too
    """

    def __init__(
        self,
        threads: int | None = None,
        folder: str | None = None,
        isolate: bool = False,
        upstreams: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.kept: tuple[int, ...] = ()
        quiet = {"TQDM_MININTERVAL": "10", HIDES_HUB_BARS: "1"}  # s; other libraries' bars would fill the log
        self.environment = {**quiet, **os.environ}
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment["PYTHONPATH"] = os.pathsep.join(paths)
        if threads is not None:
            self.environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._alive: set[_Process] = set()
        self._warned: set[str] = set()
        is_warm = not isolate and sys.platform == "linux"  # elsewhere, system libraries may not survive a fork
        self.server = CommandServer(WARM, {**self.environment, **COUNTS_GPUS}, upstreams) if is_warm else None

    def variant(self, kept: Sequence[int] = (), environment: Mapping[str, str] | None = None) -> Processes:
        """Return a copy with more environment variables, and with files that stay open in the processes.

        Args:
            kept: descriptors of locks, which are held while any of the processes lives
            environment: variables to add
        """
        other = copy.copy(self)  # shares the set of live processes and the stop event
        other.environment = {**self.environment, **(environment or {})}
        other.kept = (*self.kept, *kept)
        return other

    @contextmanager
    def locking(self, path: Path, most: float | None = None) -> Iterator[Processes]:
        """Hold a lock file, once the process that holds it releases it.

        The processes inherit the lock. So a run whose benchmark was killed does not start again while one of its
        processes still lives.

        Args:
            path: the lock file; its folder is made
            most: longest wait (s)

        Yields:
            processes that hold the lock too

        Raises:
            InterruptedRunError: the benchmark is ending, or the wait was too long
        """
        begun = time.monotonic()

        def wait() -> None:
            if self.stopped.is_set():
                raise InterruptedRunError("not started: the benchmark is ending")
            if most is not None and time.monotonic() - begun > most:
                raise InterruptedRunError(f"{path}: another process still works here; end it")
            time.sleep(POLL)

        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, f"{path}: another process works here", InterruptedRunError, wait) as descriptor:
            yield self.variant(kept=[descriptor])

    def run(self, command: Sequence[str], log: Path) -> None:
        """Run a command to its end and append its output to a log.

        Raises:
            TrainingError: the command failed; holds its own error line
            InterruptedRunError: it was ended from outside, or the benchmark is ending
            FullDiskError: it failed because the disk or a quota is full
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        check_regular(log, TrainingError)
        with log.open("ab") as file:
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            begin = file.tell()
            code = self._code_of(command, file)
        if code < 0 or code in ENDED:
            raise InterruptedRunError(f"ended from outside, by {ENDED.get(code, f'signal {-code}')} (log: {log})")
        if code and self.stopped.is_set():
            raise InterruptedRunError(f"ended with the benchmark (log: {log})")
        if code:
            message = f"{last_error(log, begin) or f'exit code {code}'} (log: {log})"
            raise FullDiskError(message) if is_full_disk(message) else TrainingError(message)

    def close(self) -> None:
        """End the server of commands, once no command runs any more."""
        if self.server is not None:
            self.server.close()

    def stop(self) -> None:
        """End all processes, which save their checkpoints, and start no new ones."""
        self.stopped.set()
        with self._lock:
            alive = list(self._alive)
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            except RefusedError:  # it was never started
                continue

    def _code_of(self, command: Sequence[str], log: IO[bytes]) -> int:
        """Run a command, in a fresh interpreter where the server forks none, and return its exit code."""
        if self.server is not None and command[0] in OWN:
            try:
                return self._waited(partial(self._fork, self.server, command, log))
            except RefusedError as error:
                if str(error) not in self._warned:
                    logger.warning("runs start in fresh interpreters, which takes seconds for each: %s", error)
                self._warned.add(str(error))
        return self._waited(partial(self._start, _as_installed(command), log))

    def _waited(self, start: Callable[[], _Process]) -> int:
        """Start a process, unless the benchmark is ending, and wait for its end."""
        with self._lock:
            if self.stopped.is_set():
                raise InterruptedRunError("not started: the benchmark is ending")
            process = start()
            self._alive.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._alive.discard(process)

    def _fork(self, server: CommandServer, command: Sequence[str], log: IO[bytes]) -> Command:
        folder = self.folder or os.getcwd()
        return server.start(
            OWN[command[0]], command[1:], log.fileno(), folder, self.environment, (INHERITED, self.kept)
        )

    def _start(self, words: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(parent.__file__), str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**self.environment, INHERITED: " ".join(map(str, self.kept))},
            cwd=self.folder,
            pass_fds=self.kept,
        )


def is_full_disk(error: BaseException | str) -> bool:
    """Return whether an error, or a log's line about one, says that the disk or a quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(os.strerror(number) in str(error) for number in FULL)


def last_error(log: Path, begin: int = 0) -> str:
    """Return the error at the end of a log: its last ``program: error:`` line, or its last line."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(begin, file.tell() - TAIL))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [match.group(1) for line in lines if (match := ERROR.match(line))]
    return (errors or lines or [""])[-1]


def _as_installed(command: Sequence[str]) -> list[str]:
    """Replace the suite's own commands by those of this installation, whatever PATH holds."""
    if command[0] in OWN:
        return [sys.executable, "-m", OWN[command[0]], *command[1:]]
    return list(command)
