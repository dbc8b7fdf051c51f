"""``loader_server.main(descriptor)``: start the processes that load data, from a process with a single thread.

The training process must not fork: a thread of gloo or CUDA may hold a lock at that moment, for which the child then
waits for ever. So it starts this server, which imports what loading needs and forks a process for each request. Both
end with the training process, however it ends: the sockets to them are its alone, and they exit when these close.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from s3prl_emotion.processes.parent import end_with_parent
from s3prl_emotion.processes.wire import receive, send

SECONDS_TO_REPORT = 5.0  # for a process whose connection is closed already
SECONDS_TO_END = 2.0  # for a process that is in the midst of a batch when the training process ends


class Request(NamedTuple):
    """A batch to load."""

    dataset: int
    """key of the dataset"""
    index: Any
    """a list of indices, or a single one where the loader does not batch"""


class Answer(NamedTuple):
    """A loaded batch, or the error that it raised."""

    batch: Any
    error: BaseException | None
    traceback: str
    notes: Any
    """what the dataset wants the training process to know; see :class:`~s3prl_emotion.processes.loaders.Loader`"""
    records: list[tuple[str, int, str]]
    """log records: logger, level, message"""


def main(descriptor: int) -> None:
    """Serve the training process at the other end of a socket until it ends.

    Requests: ``{"import": [modules]}`` (no answer); ``{"fork": true}`` with the socket of the new process, whose id is
    the answer; ``{"status": id}``: the exit code of a process that has ended (negative: the signal), ``null`` if it
    does not end within some seconds.
    """
    children: set[int] = set()
    with socket.socket(fileno=descriptor) as end:
        end.set_inheritable(False)
        while True:
            try:
                request, descriptors = receive(end)
            except (EOFError, OSError):
                break
            if "import" in request:
                for name in request["import"]:
                    with suppress(Exception):  # raised again, and reported, where the dataset is unpickled
                        importlib.import_module(name)
                continue
            if "fork" in request:
                child = _fork(end, descriptors[0])
                children.add(child)
                answer: int | None = child
            else:
                answer = _status(request["status"], children)
            try:
                send(end, answer)
            except OSError:
                break
    _end(children)


def _fork(end: socket.socket, descriptor: int) -> int:
    server = os.getpid()
    child = os.fork()
    if child:
        os.close(descriptor)
        return child
    code = 1
    try:
        end_with_parent(server)
        end.close()
        _load(Connection(descriptor))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _status(child: int, children: set[int]) -> int | None:
    """Return the exit code of a child; also take notice of others that ended."""
    found: int | None = None
    deadline = time.monotonic() + SECONDS_TO_REPORT
    while child in children and found is None and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            found = os.waitstatus_to_exitcode(status)
            children.discard(child)
        else:
            time.sleep(0.01)
    for other in list(children):
        if os.waitpid(other, os.WNOHANG)[0]:
            children.discard(other)
    return found


def _end(children: set[int]) -> None:
    """Wait for the children, which end on their own, and kill those that do not."""
    deadline = time.monotonic() + SECONDS_TO_END
    while children and time.monotonic() < deadline:
        for child in list(children):
            if os.waitpid(child, os.WNOHANG)[0]:
                children.discard(child)
        time.sleep(0.005)
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


class _Kept(logging.Handler):
    """Keeps log records for the training process, which formats them as its own."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> list[tuple[str, int, str]]:
        """Return the records since the last call."""
        records, self.records = self.records, []
        return records


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, which are copied once; torch's own way writes and reads a file in memory."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a value is rebuilt."""
        torch = sys.modules.get("torch")
        if torch is not None and type(value) is torch.Tensor and _is_plain(value):
            return torch.from_numpy, (value.detach().numpy(),)
        return NotImplemented


def _is_plain(tensor: Any) -> bool:
    return tensor.device.type == "cpu" and not tensor.requires_grad and not tensor.is_sparse and tensor.numel() > 0


def pickled(value: Any) -> bytes:
    """Return a value as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def _load(connection: Connection) -> None:
    """Load batches until the training process closes the connection.

    Messages are a :class:`Request`; ``(key, bytes)``: a pickled dataset with its ``collate_fn``; ``key``: forget it;
    and a working directory.
    """
    kept = _Kept()
    logging.getLogger().addHandler(kept)
    os.environ["OMP_NUM_THREADS"] = "1"  # for what is yet to be imported: as many processes share the processors
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    datasets: dict[int, Any] = {}
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())  # noqa: S301  # of the training process
            if isinstance(message, Request):
                connection.send_bytes(_answered(message, datasets, kept))
            elif isinstance(message, tuple):
                datasets[message[0]] = message[1]
            elif isinstance(message, int):
                datasets.pop(message, None)
            else:
                os.chdir(message)
        except (EOFError, OSError):
            return


def _answered(request: Request, datasets: dict[int, Any], kept: _Kept) -> bytes:
    """Return the pickled answer to a request."""
    try:
        if isinstance(datasets[request.dataset], bytes):
            datasets[request.dataset] = pickle.loads(datasets[request.dataset])  # noqa: S301
        dataset, collate = datasets[request.dataset]
        many = isinstance(request.index, list)
        batch = collate([dataset[index] for index in request.index] if many else dataset[request.index])
        notes = dataset.take_notes() if hasattr(dataset, "take_notes") else None
        return pickled(Answer(batch, None, "", notes, kept.taken()))
    except Exception as error:
        text = traceback.format_exc()
        answer = Answer(None, error, text, None, kept.taken())
        try:
            content = pickled(answer)
            pickle.loads(content)  # noqa: S301  # an exception whose arguments do not fit its class fails only here
        except Exception:
            content = pickled(answer._replace(error=RuntimeError(f"{type(error).__name__}: {error}")))
        return content
