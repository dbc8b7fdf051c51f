"""``command_server.main(descriptor)``: fork commands from a process that has imported what they need.

The arguments name a module, whose ``import_all(words)`` is called first. The server keeps a single thread and computes
nothing, since a forked child would wait for ever for threads that it does not inherit. Of all threads, only those of
OpenBLAS and jemalloc may live, which these start again in children. It forks no command where that does not hold.

A child leaves the server's loop and goes on as a fresh interpreter would with ``python -m MODULE``: with a working
directory, environment, streams and open files of its own. It ends after its exit hooks: to free all that was imported,
as interpreters do, it would have to copy it first. The server and its children end with the process that started them,
however that ends, since the socket to it closes.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_emotion.processes.parent import end_with_parent
from s3prl_emotion.processes.wire import LEFT_TO_THE_CALLER, receive, send

POOLS = ("numpy", "scipy.linalg")  # each starts threads of an OpenBLAS when it is imported
SURVIVING = "jemalloc_bg_thd"  # of pyarrow, any number at any time
THREADS = Path("/proc/self/task")
ARGUMENTS = slice(45, 47)  # where Linux's /proc/PID/stat, behind the name, has the addresses of the command line
_CODES: list[int] = []  # the exit code of this child's command, once it has ended


@dataclass
class Job:
    """A command, for the child that becomes it.

    Attributes:
        module: what ``python -m`` names
        arguments: of the command
        folder: its working directory
        environment: all its variables
        locks: name of the variable with the descriptors of the locks that it inherits; its value is made here
        descriptors: its output, then those locks
    """

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    locks: str
    descriptors: list[int]


def main(descriptor: int) -> None:
    """Serve the process at the other end of a socket until it ends; in a child, run its command.

    Requests: ``{"start": number, "job": …}`` with a socket, an output file and locks. To that socket is sent ``{"pid":
    …}``, and ``{"code": …}`` when the command has ended (negative: the signal); or else ``{"refused": why}``.
    ``{"end": number, "signal": …}`` sends a signal.
    """
    atexit.register(_end_at_once)  # the first to be registered is the last to be called
    gc.disable()
    most, refusal = _import(sys.argv[3], json.loads(sys.argv[4]))
    gc.freeze()  # else the first collection of each child would copy all pages
    with socket.socket(fileno=descriptor) as control:
        control.set_inheritable(False)
        job = _Server(control, most, refusal).serve()
    if job is None:
        os._exit(0)  # the server has nothing to tidy
    _become(job)


def _import(module: str, words: list[str]) -> tuple[int, str | None]:
    """Import what commands need; return the number of threads that may live, and why nothing can be forked, if so."""
    for name in POOLS:
        with suppress(ImportError):
            importlib.import_module(name)
    most = _threads()
    try:
        importlib.import_module(module).import_all(words)
    except Exception as error:  # a command that needs it says more
        return most, f"{type(error).__name__}: {error}"
    return most, None


def _threads() -> int:
    """Return the number of this process's threads, those of C code included where the system shows them."""
    if not THREADS.is_dir():
        return threading.active_count()
    names = []
    for path in THREADS.glob("*/comm"):
        with suppress(OSError):  # it has just ended
            names.append(path.read_text().strip())
    return sum(name != SURVIVING for name in names)


@dataclass
class _Server:
    """The loop of the server.

    Attributes:
        control: socket to the process that started it
        most: number of threads that may live
        refusal: why no command may be forked
        children: number and socket of each command, by process
        pipe: Python writes into it when a child ends
    """

    control: socket.socket
    most: int
    refusal: str | None
    children: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)
    pipe: tuple[int, int] = field(default_factory=os.pipe)

    def serve(self) -> Job | None:
        """Answer requests; return ``None`` when the other side has ended, and in a child its job."""
        for end in self.pipe:
            os.set_blocking(end, False)
        woken, wakes = self.pipe
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self.control.fileno(), woken], [], [])
            if woken in ready:
                with suppress(BlockingIOError):
                    os.read(woken, 4096)
                self._report()
            if self.control.fileno() not in ready:
                continue
            try:
                request, descriptors = receive(self.control)
            except (EOFError, OSError):
                self._end()
                return None
            if "end" in request:
                self._signal(request["end"], request["signal"])
                continue
            job = self._start(request, descriptors)
            if job is not None:
                return job

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> Job | None:
        status = socket.socket(fileno=descriptors[0])
        started = _threads() - self.most
        if self.refusal is None and started > 0:
            self.refusal = f"imports have started {started} threads"
        if self.refusal is not None:
            _answer(status, {"refused": self.refusal})
            _close(descriptors[1:])
            return None
        server = os.getpid()
        for stream in (sys.stdout, sys.stderr):  # else children would print what imports have printed
            stream.flush()
        try:
            child = os.fork()
        except OSError as error:  # no memory, or too many processes
            _answer(status, {"refused": error.strerror})
            _close(descriptors[1:])
            return None
        if child:
            self.children[child] = request["start"], status
            with suppress(OSError):
                send(status, {"pid": child})
            _close(descriptors[1:])
            return None
        end_with_parent(server)
        status.close()
        self._leave()
        return Job(**request["job"], descriptors=descriptors[1:])

    def _leave(self) -> None:
        """Drop, in a child, what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close(self.pipe)
        for _, status in self.children.values():
            status.close()
        self.children.clear()

    def _report(self) -> None:
        """Send the exit code of each child that has ended."""
        for child, (_, status) in list(self.children.items()):
            ended, how = os.waitpid(child, os.WNOHANG)
            if ended:
                del self.children[child]
                _answer(status, {"code": os.waitstatus_to_exitcode(how)})

    def _signal(self, number: int, signal_number: int) -> None:
        for child, (other, _) in self.children.items():
            if other == number:
                os.kill(child, signal_number)

    def _end(self) -> None:
        for child in self.children:
            os.kill(child, signal.SIGKILL)


def _wake(number: int, frame: Any) -> None:
    """Handle SIGCHLD: the number that Python writes into the pipe wakes the server."""


def _answer(status: socket.socket, message: dict[str, Any]) -> None:
    with status, suppress(OSError):
        send(status, message)


def _close(descriptors: Any) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(job: Job) -> None:
    """Run a command in this child as ``python -m`` would."""
    output, *locks = job.descriptors
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    for lock in locks:
        os.set_inheritable(lock, True)
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment, **({job.locks: " ".join(map(str, locks))} if locks else {}))
    if sys.path[0] == "":  # the flags of this interpreter may leave it out
        sys.path[0] = job.folder
    sys.orig_argv[:] = [sys.executable, "-m", job.module, *job.arguments]
    sys.argv[:] = ["-m", *job.arguments]
    _show_as(sys.orig_argv)
    importlib.invalidate_caches()
    if "numpy" in sys.modules:  # else all children would draw the same; Python's own generator sees to that itself
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_CALLER)
    gc.enable()
    try:
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        _CODES.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    _CODES.append(0)


def _end_at_once() -> None:
    """End a child whose command has ended by itself; after an exception it ends as usual."""
    if _CODES:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(_CODES[-1])


def _show_as(words: list[str]) -> None:
    """Show a command in the list of processes, where Linux lets a process write over its own arguments."""
    try:
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    begin, end = map(int, stat[ARGUMENTS])
    if 0 < begin < end:
        shown = b"\0".join(map(os.fsencode, words))[: end - begin - 1]
        ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)
