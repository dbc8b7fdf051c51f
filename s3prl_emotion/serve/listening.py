"""Listen on an address, and serve an application there."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from s3prl_emotion.errors import UsageError
from s3prl_emotion.serve.connections import Connection, Room, most_connections

PATIENCE = 2  # s that running requests get to finish when the server ends
ACCEPTED = 8  # connections that asyncio accepts in one go, before those that are too many are closed
QUEUE = 128  # connections that the system keeps until they are accepted


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        UsageError: the address is not this machine's, or another process uses the port
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: must be from 0 (any free port) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such host ({error})") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _taken(f"{host} --port {port}", error) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Accept connections from now on.

    Raises:
        UsageError: another process started to use the port since
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(f"{host} --port {port}", error) from error


def _taken(where: str, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"--host {where}: cannot listen there ({reason}); use another --port, or 0 for any free one")


def address_of(listener: socket.socket) -> str:
    """Return the web address of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """Serves one application on one socket, to as many connections as the process has files for.

    Args:
        app: the application
        ready: called once the server accepts requests
    """

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        # The application logs failures itself; with uvicorn's log each would appear twice.
        super().__init__(
            uvicorn.Config(
                app, http=Connection, backlog=ACCEPTED, ws="none", lifespan="off", log_config=None,
                log_level="critical", access_log=False, server_header=False, proxy_headers=False,
                timeout_graceful_shutdown=PATIENCE,
            )
        )  # fmt: skip
        self.server_state = Room(most_connections())
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, then call ``ready``."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUE)  # asyncio has made the queue as short as what it accepts in one go
        self.ready()
