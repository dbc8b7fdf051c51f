"""Start commands of the suite as forks of a process that has imported what they need."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import IO

from s3prl_emotion.processes.wire import receive, send, start_server

SERVER = "s3prl_emotion.processes.command_server"
ROOM = 4096  # characters of a command that the list of processes shows
SECONDS_TO_CLOSE = 2.0  # for a server that has been asked to end
LOST = -signal.SIGKILL  # code of a command whose server died: the kernel ends it too
PER_COMMAND = ("CUDA_VISIBLE_DEVICES", "RAY_")  # beginnings of variables that no library reads when it is imported


class RefusedError(Exception):
    """The server forks no command; the message says why."""


class Command:
    """A command that a server has forked; has the methods of ``subprocess.Popen`` that a benchmark needs.

    Args:
        server: sends it signals
        number: of the command
        status: socket on which the server reports its end
    """

    def __init__(self, server: CommandServer, number: int, status: socket.socket) -> None:
        self._server, self._number, self._status = server, number, status
        self.pid: int | None = None  # once it is known
        self._lock = threading.Lock()
        self._code: int | None = None
        self._refusal: str | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the command has ended (negative: the signal); any thread may wait.

        Raises:
            RefusedError: the command was not started
            subprocess.TimeoutExpired: it goes on
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired("command", timeout or 0.0)
        try:
            while self._code is None and self._refusal is None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not connection.wait([self._status], left):  # unlike select, takes any descriptor
                    raise subprocess.TimeoutExpired("command", timeout or 0.0)
                self._receive()
        finally:
            self._lock.release()
        if self._refusal is not None:
            raise RefusedError(self._refusal)
        return self._code or 0

    def _receive(self) -> None:
        try:
            message, _ = receive(self._status)
        except (EOFError, OSError):
            message = {"refused": self._server.last_words()} if self.pid is None else {"code": LOST}
        self.pid = message.get("pid", self.pid)
        self._code, self._refusal = message.get("code"), message.get("refused")
        if "pid" not in message:
            self._status.close()

    def terminate(self) -> None:
        """Ask the command to end."""
        self._server.signal(self._number, signal.SIGTERM)

    def kill(self) -> None:
        """End the command at once."""
        self._server.signal(self._number, signal.SIGKILL)


class CommandServer:
    """A server that forks commands; starts with the first of them, and again after it was killed.

    Args:
        module: its ``import_all(words)`` imports what commands need
        environment: variables of the server, some of which libraries read when they are imported
        words: say what those are

    Attributes:
        fixed: those variables that all of its commands must share
    """

    def __init__(self, module: str, environment: Mapping[str, str], words: Sequence[str] = ()) -> None:
        self.module, self.environment, self.words = module, dict(environment), list(words)
        self.fixed = {name: value for name, value in environment.items() if not name.startswith(PER_COMMAND)}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._output: IO[bytes] | None = None

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        output: int,
        folder: str,
        environment: Mapping[str, str],
        locks: tuple[str, Sequence[int]] = ("", ()),
    ) -> Command:
        """Start ``python -m module``.

        Args:
            module: the command's
            arguments: of the command
            output: descriptor of the file that gets both its streams
            folder: its working directory
            environment: all its variables
            locks: descriptors that stay open in it, and the variable that tells it their numbers

        Raises:
            RefusedError: the server does not run and cannot be started
        """
        number = next(self._numbers)
        variable, kept = locks
        job = {
            "module": module, "arguments": list(arguments), "folder": folder, "environment": dict(environment),
            "locks": variable,
        }  # fmt: skip
        own, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                control = self._started()
                send(control, {"start": number, "job": job}, [theirs.fileno(), output, *kept])
            except OSError as error:
                own.close()
                self._close()
                raise RefusedError(error.strerror or str(error)) from error
        return Command(self, number, own)

    def signal(self, number: int, signal_number: int) -> None:
        """Send a signal to a command, unless it has ended."""
        with self._lock, suppress(OSError):
            if self._control is not None:
                send(self._control, {"end": number, "signal": int(signal_number)})

    def last_words(self) -> str:
        """Return the last line that the server printed before it died."""
        with self._lock:
            lines: list[bytes] = []
            if self._output is not None:
                self._output.seek(0)
                lines = self._output.read().split(b"\n")
            return next((line.decode(errors="replace") for line in reversed(lines) if line.strip()), "it was killed")

    def close(self) -> None:
        """End the server; commands that still run end with it."""
        with self._lock:
            self._close()

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._close()
        if self._control is None:
            self._control, theirs = socket.socketpair()
            self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
            with theirs:
                words = (self.module, json.dumps(self.words), " " * ROOM)
                self._process = start_server(
                    SERVER, theirs.fileno(), *words, environment=self.environment, output=self._output
                )
        return self._control

    def _close(self) -> None:
        for end in (self._control, self._output):
            if end is not None:
                end.close()
        if self._process is not None:
            try:
                self._process.wait(SECONDS_TO_CLOSE)
            except subprocess.TimeoutExpired:  # amid its imports
                self._process.kill()
                self._process.wait()
        self._process = self._control = self._output = None
