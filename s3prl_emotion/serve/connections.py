"""Limit connections: how many are open, and how long a request may take to arrive and a response to be read."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEADERS = 10.0  # s within which a request's headers must have arrived, from the connection or the last response on
READING = 30.0  # s within which a client must read on, after which its response is dropped
MOST = 256  # connections
LEAST = 4  # connections, however low the limit on open files is
USUALLY_OPEN = 64  # files of a process with a model, where they cannot be counted


def most_connections() -> int:
    """Return how many connections may be open: half of the files that the process may still open, 256 at most.

    The other half is for uploads, which are kept in temporary files, and for the model.
    """
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = limit == resource.RLIM_INFINITY
    except ImportError:  # Windows, which has no such limit
        return MOST
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = USUALLY_OPEN
    return MOST if unlimited else max(LEAST, min(MOST, (limit - used) // 2))


class Room(ServerState):
    """The open connections of a server.

    Attributes:
        most: how many may be open
        waiting: those without a complete request, the longest waiting first
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.waiting: dict[Connection, None] = {}

    def make(self, new: Connection) -> bool:
        """Close the connection that has waited longest for a request if there are too many; return whether one fits.

        A good request arrives with its connection, so it hardly ever waits; half-sent ones and idle ones do.
        """
        if len(self.connections) <= self.most:
            return True
        oldest = next((item for item in self.waiting if item is not new), None)
        if oldest is None:
            return False
        oldest.end()
        return True


class Connection(H11Protocol):
    """A connection that ends when nobody sends a request on it, or nobody reads the response."""

    def __init__(
        self,
        config: Config,
        server_state: Room,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,  # uvicorn's name
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.room = server_state
        self._waits: asyncio.TimerHandle | None = None
        self._reads: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request, or refuse the connection where there are too many."""
        super().connection_made(transport)
        if self.room.make(self):
            self._wait()
        else:
            self._answer("503 Service Unavailable", "too many requests at a time; try again in a few seconds")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what has arrived; a request whose headers are complete is waited for no longer."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the client to read on."""
        super().pause_writing()
        self._reads = self._reads or self.loop.call_later(READING, self.end)

    def resume_writing(self) -> None:
        """Go on writing."""
        if self._reads is not None:
            self._reads.cancel()
            self._reads = None
        if self.flow is not None:
            super().resume_writing()

    def end(self) -> None:
        """Close the connection at once, whatever is not read of a response."""
        self._stop_waiting()
        self.room.connections.discard(self)  # it counts no longer, although its descriptor is closed a moment later
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self.room.waiting[self] = None
        unread = self.transport.get_write_buffer_size() > 0
        self._waits = self.loop.call_later(READING if unread else HEADERS, self._expire)

    def _stop_waiting(self) -> None:
        self.room.waiting.pop(self, None)
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _expire(self) -> None:
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.end()
        elif self.cycle is None:
            self._answer("408 Request Timeout", f"the request did not arrive within {HEADERS:g} s")
        else:
            self._stop_waiting()
            self.transport.close()

    def _answer(self, status: str, line: str) -> None:
        """Send a response without a request, and close the connection."""
        self._stop_waiting()
        body = json.dumps({"error": line})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        self.transport.close()
