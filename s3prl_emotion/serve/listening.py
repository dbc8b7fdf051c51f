"""The server on its address."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from s3prl_emotion.errors import UsageError

PATIENCE = 2  # s for answers under way when the server is told to end


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        UsageError: the address is not one of this machine's, or another process has the port
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: must be from 0 (any that is free) to 65535")
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
    """Take connections from now on.

    Raises:
        UsageError: another process has the port since
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(f"{host} --port {port}", error) from error


def _taken(where: str, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(f"--host {where}: cannot listen there ({reason}); take another --port, 0 for any that is free")


def address_of(listener: socket.socket) -> str:
    """The web address of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """Serves one application on one socket.

    Args:
        app: the application
        ready: called once requests are answered
    """

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        # Failures are logged by the application itself, so that each is told once.
        super().__init__(
            uvicorn.Config(
                app, http="h11", ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False,
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=PATIENCE,
            )
        )  # fmt: skip
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.ready()
