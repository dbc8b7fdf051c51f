"""Start servers that fork processes on request, and exchange messages and open files with them."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

LENGTH = struct.Struct("!I")
MOST_DESCRIPTORS = 64  # of a message
START = (
    "import json, sys; path = json.loads(sys.argv[2]); sys.path[:] = path or sys.path; "
    "from {module} import main; main(int(sys.argv[1]))"
)
LEFT_TO_THE_CALLER = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # though sent to the whole process group


def send(end: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send a JSON message, and descriptors with it."""
    content = json.dumps(message).encode()
    content = LENGTH.pack(len(content)) + content
    sent = socket.send_fds(end, [content], list(descriptors))
    end.sendall(content[sent:])


def receive(end: socket.socket) -> tuple[Any, list[int]]:
    """Receive a message of :func:`send`.

    Raises:
        EOFError: the other side has ended
    """
    head, descriptors, _, _ = socket.recv_fds(end, LENGTH.size, MOST_DESCRIPTORS)
    head += _exactly(end, LENGTH.size - len(head))
    return json.loads(_exactly(end, LENGTH.unpack(head)[0])), descriptors


def _exactly(end: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = end.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def start_server(
    module: str,
    descriptor: int,
    *words: str,
    path: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``module.main(descriptor)`` in a process that leaves signals to the process group to its caller.

    Args:
        module: of the server
        descriptor: of its end of a socket
        words: more arguments, for the server to read
        path: its ``sys.path``; by default, what the environment says
        environment: its variables; by default, this process's
        folder: its working directory; by default, this process's
        output: file for what it prints; by default, this process's streams
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    code, folders = START.format(module=module), json.dumps([one or os.getcwd() for one in path])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_CALLER)
    try:
        return subprocess.Popen(
            [sys.executable, *flags, "-c", code, str(descriptor), folders, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[descriptor],
            env=environment,
            cwd=folder,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
