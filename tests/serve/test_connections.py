"""Connections that hold the server up: half-sent requests, slow bodies, idle ones, unread responses, and their log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn")

from s3prl_emotion.serve import connections, uploads
from s3prl_emotion.serve.limits import Limits, Refused
from s3prl_emotion.serve.listening import Server, bound, listen
from s3prl_emotion.serve.log import Repeats, counting

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = GET[:-2]
LARGE = 2**24  # bytes of a response that no socket's buffers hold


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with 2 bytes, or with more than the buffers hold."""
    body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
    head = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def running(most: int) -> Iterator[tuple[Server, Callable[[bytes], socket.socket]]]:
    """A server of at most so many connections, and a function that connects and sends bytes."""
    with ExitStack() as stack:
        listener = stack.enter_context(bound("127.0.0.1", 0))
        listen(listener)
        ready = threading.Event()
        server = Server(app, ready.set)
        server.server_state.most = most  # type: ignore[attr-defined]
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        assert ready.wait(30)

        def connected(data: bytes) -> socket.socket:
            client = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=30))
            client.sendall(data)
            return client

        try:
            yield server, connected
        finally:
            server.should_exit = True
            thread.join(30)


def received(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    try:
        while part := client.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_half_open_connections_hold_nobody_up():
    """Beyond the cap the connection that has waited longest is closed."""
    with running(most=8) as (server, connected):
        half = [connected(HALF) for _ in range(30)]
        good = connected(GET)
        assert good.recv(12) == b"HTTP/1.1 200"
        assert len(server.server_state.connections) <= 8
        assert {received(client) for client in half[:20]} == {b""}


def test_a_request_that_does_not_arrive_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADERS", 0.2)
    with running(most=8) as (_, connected):
        end = received(connected(HALF))
        assert end.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert json.loads(end.partition(b"\r\n\r\n")[2]) == {"error": "the request did not arrive within 0.2 s"}
        assert received(connected(GET)).endswith(b"ok")  # closed as nothing follows


def test_bytes_that_trickle_in_do_not_count_as_a_request(monkeypatch: pytest.MonkeyPatch):
    """A header a moment, for ever; and a body that comes after its response."""
    monkeypatch.setattr(connections, "HEADERS", 0.4)
    late = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with running(most=8) as (_, connected):
        for begin in (HALF, late):
            client = connected(begin)
            closed, end = False, time.monotonic() + 20
            while not closed and time.monotonic() < end:
                try:
                    client.sendall(b"X")
                    time.sleep(0.02)
                except OSError:
                    closed = True
            assert closed


def test_a_response_that_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch):
    ended, end = threading.Event(), connections.Connection.end
    monkeypatch.setattr(connections, "READING", 0.2)
    monkeypatch.setattr(connections.Connection, "end", lambda self: (end(self), ended.set())[0])
    with running(most=8) as (_, connected):
        client = connected(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(60)
        assert len(received(client)) < LARGE


def test_without_an_idle_connection_a_new_one_is_refused():
    with running(most=0) as (_, connected):
        assert received(connected(b"")).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch):
    resource = pytest.importorskip("resource")
    for limit, least, most in ((60, 4, 26), (10**6, 256, 256), (resource.RLIM_INFINITY, 256, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert least <= connections.most_connections() <= most


def test_a_slow_upload_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A byte a moment is no silence, yet it must not occupy a slot for ten minutes."""
    monkeypatch.setattr(uploads, "SILENCE", 0.2)

    async def drip() -> Any:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async def read() -> None:
        async for _ in uploads._counted(drip(), Limits()):
            pass

    with pytest.raises(Refused, match=r"too slowly \(0.2 s of silence, less than 1000 bytes/s"):
        asyncio.run(asyncio.wait_for(read(), 20))


def test_repeated_log_lines_are_counted(caplog: pytest.LogCaptureFixture):
    log = logging.getLogger("asyncio")
    with counting():
        for number in range(5000):
            log.error("socket.accept() out of system resource")
            log.error("error %d", number)
    assert len(caplog.records) == 101
    assert caplog.messages[-1] == "9,900 repeated log lines were left out before"
    caplog.clear()
    log.error("again"), log.error("again")
    assert caplog.messages == ["again"] * 2  # the filter is gone


def test_the_next_line_says_how_many_were_left_out():
    repeats = Repeats(span=0.0)
    record = logging.makeLogRecord({"msg": "failed %s", "args": ("x",)})
    repeats.left_out = 7
    assert repeats.filter(record)
    assert record.getMessage() == "failed x (7 repeated log lines were left out before)"
