"""Load batches in other processes, which are never forked from this one and end with it."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, NoReturn

import torch
from torch.utils.data import DataLoader

from s3prl_emotion.errors import LoaderError
from s3prl_emotion.processes.loader_server import Answer, Request, pickled
from s3prl_emotion.processes.wire import receive, send, start_server

AHEAD = 2  # batches that each process loads ahead
TIMEOUT = 1800  # s that a process may take for one batch
SMALL = 1 << 14  # bytes; a larger message is sent only to a process that waits for it, else both might wait to send
SERVER = "s3prl_emotion.processes.loader_server"
MOST_PENDING = 64  # requests to a process; others are answered first


class Loader(DataLoader[Any]):
    """A data loader whose processes are shared by all loaders and kept for all epochs.

    Order, batches and draws from this process's random generators are those of torch's own loader. An error that a
    dataset raises in a process is raised here, and its log records are logged here. A dataset may have the methods

    - ``for_processes() -> Any``: returns what processes index in its place, which may have ``modules``, the names of
      modules that it needs there, and ``take_notes()``, which is called after each batch and whose value is given to
    - ``add_notes(notes)``: called in this process when that batch is returned
    - ``name_of(index) -> str``: returns the name of an item, for the message that its process died

    Args:
        dataset: this, or what its ``for_processes`` returns, can be pickled; each process gets it once
        workers: number of processes; 0 loads in this one
        flag: the setting for the number of processes, for messages
        options: of torch's loader, other than those for processes
    """

    all_batches: int | None = None
    """number of batches of all processes of a distributed training together, where they share the dataset"""

    def __init__(self, dataset: Any, workers: int = 0, flag: str = "--num_workers", **options: Any) -> None:
        super().__init__(dataset, num_workers=0, **options)
        self.workers, self.flag = workers, flag

    def sent(self) -> Any:
        """Return what the processes get in place of the dataset."""
        return self.dataset.for_processes() if hasattr(self.dataset, "for_processes") else self.dataset

    def __iter__(self) -> Any:
        """Return the batches.

        Raises:
            LoaderError: a process died, or takes longer than :data:`TIMEOUT` for a batch
        """
        return _Batches(self) if self.workers else self._own_batches()

    def _own_batches(self) -> Iterator[Any]:
        """Return batches that this process loads, without torch's iterator, which costs as much as a batch of means."""
        order = _start(self)
        if self.batch_sampler is None:
            return (self.collate_fn(self.dataset[index]) for index in order)
        items = getattr(self.dataset, "__getitems__", lambda indices: [self.dataset[index] for index in indices])
        return (self.collate_fn(items(indices)) for indices in order)


def _start(loader: Loader) -> Iterator[Any]:
    """Return the indices of each batch of an epoch, and draw a seed, as torch's loader does."""
    torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    return iter(loader.sampler if loader.batch_sampler is None else loader.batch_sampler)


def start_early(*modules: str) -> None:
    """Start the server that forks loader processes, which imports ``modules`` while this process goes on."""
    _POOL.start(modules)


class _Worker:
    """A loader process: its id, the connection to it, what it knows, and what it was asked for."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid, self.connection = pid, connection
        self.known: set[int] = set()
        self.folder = ""
        self.pending: deque[_Pending] = deque()


class _Pending(NamedTuple):
    """A batch that a process was asked for, and where it stands in the iteration that wants it."""

    wanted: weakref.ref[_Batches]
    number: int
    index: Any


class _Batches(Iterator[Any]):
    """One iteration over a loader: asks for batches ahead and returns them in order."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.order = _start(loader)
        self.asked = self.returned = 0
        self.answers: dict[int, bytes] = {}
        self.workers = _POOL.first(loader)
        for _ in range(AHEAD * loader.workers):
            self._ask()

    def __next__(self) -> Any:
        if self.returned == self.asked:
            raise StopIteration
        while self.returned not in self.answers:
            _POOL.receive(self.workers, self.loader.flag)
        answer: Answer = pickle.loads(self.answers.pop(self.returned))  # noqa: S301  # from our own process
        self.returned += 1
        for name, level, message in answer.records:
            logging.getLogger(name).log(level, "%s", message)
        if answer.error is not None:
            self._wait()
            self.asked = self.returned  # the iteration ends here, as that of torch's loader
            raise answer.error from _WorkerError(answer.traceback)
        if answer.notes is not None:
            self.loader.dataset.add_notes(answer.notes)  # type: ignore[attr-defined]
        self._ask()
        return answer.batch

    def _wait(self) -> None:
        """Wait until no process works for this iteration, so that none ends with a file half written."""
        with suppress(LoaderError):
            while any(number not in self.answers for number in range(self.returned, self.asked)):
                _POOL.receive(self.workers, self.loader.flag)

    def _ask(self) -> None:
        try:
            index = next(self.order)
        except StopIteration:
            return
        worker = self.workers[self.asked % len(self.workers)]
        _POOL.ask(worker, self.loader, _Pending(weakref.ref(self), self.asked, index))
        self.asked += 1


class _WorkerError(Exception):
    """The traceback of an error in a loader process, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Pool:
    """The loader processes of this process, and the server that forks them."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.keys: weakref.WeakKeyDictionary[Any, tuple[int, Any]] = weakref.WeakKeyDictionary()
        self.ended: list[subprocess.Popen[bytes]] = []
        self._empty()

    def _empty(self) -> None:
        self.lock = threading.RLock()
        self.server: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.workers: list[_Worker] = []
        self.forgotten: set[int] = set()

    def start(self, modules: Sequence[str]) -> None:
        """Start the server, unless it runs, and let it import modules."""
        with self.lock:
            if self.control is None:
                self.control, theirs = socket.socketpair()
                self.control.settimeout(TIMEOUT)
                with theirs:
                    self.server = start_server(SERVER, theirs.fileno(), path=sys.path)
            with suppress(OSError):  # it has died: noticed when it is to fork
                send(self.control, {"import": list(modules)})

    def first(self, loader: Loader) -> list[_Worker]:
        """Return as many processes as a loader wants.

        Raises:
            LoaderError: they cannot be started
        """
        with self.lock, self._stopping():
            try:
                if len(self.workers) < loader.workers:
                    sent = loader.sent()
                    self.start([type(sent).__module__, *getattr(sent, "modules", ())])
                while len(self.workers) < loader.workers:
                    self.workers.append(self._fork())
            except (OSError, EOFError) as error:
                raise LoaderError(
                    f"{loader.flag} {loader.workers}: loader processes cannot be started ({str(error) or 'one died'}); "
                    f"lower {loader.flag} (0 needs none), or free memory, and start the same command again"
                ) from error
            return self.workers[: loader.workers]

    def ask(self, worker: _Worker, loader: Loader, pending: _Pending) -> None:
        """Ask a process for a batch; send it the dataset first, if it does not have it.

        Raises:
            LoaderError: the process has died
        """
        with self.lock, self._stopping():
            folder = os.getcwd()
            if folder != worker.folder:  # paths may be relative
                self._send(worker, pickled(folder), loader.flag)
                worker.folder = folder
            for key in worker.known & self.forgotten:
                self._send(worker, pickled(key), loader.flag)
                worker.known.discard(key)
            key = self._key(loader)
            if key not in worker.known:
                content = pickled((loader.sent(), loader.collate_fn))
                self._send(worker, pickled((key, content)), loader.flag)
                worker.known.add(key)
            self._send(worker, pickled(Request(key, pending.index)), loader.flag)
            worker.pending.append(pending)

    def receive(self, workers: Sequence[_Worker], flag: str) -> None:
        """Wait for answers of processes, and hand each to the iteration that wants it, if that goes on.

        Raises:
            LoaderError: a process has died, or takes longer than :data:`TIMEOUT`
        """
        with self.lock, self._stopping():
            busy = {worker.connection: worker for worker in workers if worker.pending}
            if any(connection.closed for connection in busy):
                raise LoaderError("the loader processes were ended by an earlier error; start the same command again")
            ready = wait(list(busy), TIMEOUT)
            if not ready:
                self._fail(next(iter(busy.values())), flag, f"has not finished within {TIMEOUT // 60} minutes")
            for connection in ready:
                worker = busy[connection]  # type: ignore[index]
                try:
                    content = worker.connection.recv_bytes()
                except (EOFError, OSError):
                    self._fail(worker, flag)
                pending = worker.pending.popleft()
                batches = pending.wanted()
                if batches is not None:
                    batches.answers[pending.number] = content

    def stop(self) -> None:
        """Close all connections, upon which the processes end."""
        with self.lock:
            for worker in self.workers:
                worker.connection.close()
            if self.control is not None:
                self.control.close()
            if self.server is not None:
                self.ended = [process for process in (*self.ended, self.server) if process.poll() is None]
            self._empty()

    def leave(self) -> None:
        """Close this process's copies of the connections, in a child that was forked."""
        self.lock = threading.RLock()  # which another thread may have held
        if self.server is not None:
            self.server.returncode = 0  # it is no child of this process
        self.stop()

    def _key(self, loader: Loader) -> int:
        """Return the key under which processes know a loader's dataset and ``collate_fn``."""
        key, collate = self.keys.get(loader.dataset, (-1, None))
        if collate is not loader.collate_fn:
            self.forgotten.add(key)
            key = next(self.numbers)
            self.keys[loader.dataset] = key, loader.collate_fn
            weakref.finalize(loader.dataset, self._forget, key).atexit = False
        return key

    def _forget(self, key: int) -> None:
        self.forgotten.add(key)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Stop where a message may have been sent or received in part: after an error or Ctrl-C."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _fork(self) -> _Worker:
        own, theirs = socket.socketpair()
        with theirs:
            send(self._server(), {"fork": True}, [theirs.fileno()])
        pid, _ = receive(self._server())
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # for a process that is stopped within a message
            own.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT, 0))
        return _Worker(pid, Connection(own.detach()))

    def _server(self) -> socket.socket:
        if self.control is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.control

    def _send(self, worker: _Worker, content: bytes, flag: str) -> None:
        """Send a message once the process can take it."""
        while worker.pending and (len(content) > SMALL or len(worker.pending) >= MOST_PENDING):
            self.receive([worker], flag)
        try:
            worker.connection.send_bytes(content)
        except OSError:
            self._fail(worker, flag)

    def _fail(self, worker: _Worker, flag: str, what: str = "") -> NoReturn:
        """Raise the error that a process has died or is stuck."""
        if not what:
            what = self._end_of(worker.pid)
            with suppress(OSError, EOFError):  # answers that it gave before
                while worker.pending:
                    worker.connection.recv_bytes()
                    worker.pending.popleft()
        raise LoaderError(
            f"loader process {worker.pid} {what}{_reading(worker)}; start the same command again, with more free "
            f"memory or a lower {flag} (0 needs no such process): finished work is kept"
        )

    def _end_of(self, pid: int) -> str:
        """Return how a process ended."""
        code = None
        with suppress(OSError, EOFError):
            send(self._server(), {"status": pid})
            code, _ = receive(self._server())
        if code is None:
            return "died"
        if code >= 0:
            return f"ended with exit code {code}"
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by signal {-code} ({names.get(-code, 'unknown')})"


def _reading(worker: _Worker) -> str:
    """Return what a process was reading, for a message; empty where the dataset has no names."""
    batches = worker.pending[0].wanted() if worker.pending else None
    name_of = getattr(batches.loader.dataset, "name_of", None) if batches is not None else None
    if name_of is None:
        return ""
    index = worker.pending[0].index
    first, *others = index if isinstance(index, list) else [index]
    return f" while it read {name_of(first)}{f' or one of the next {len(others)} files' if others else ''}"


_POOL = _Pool()
os.register_at_fork(after_in_child=_POOL.leave)
