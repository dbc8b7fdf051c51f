"""Refuse requests that another site made a browser send, and set the headers that protect the page."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s3prl_emotion.serve.limits import Refused

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}


def is_local(host: str) -> bool:
    """Return whether a host's name or address is reachable from this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False


def check(method: str, headers: Headers, local: bool) -> None:
    """Refuse a request that a page of another site made a browser send.

    Args:
        method: of the request
        headers: of the request
        local: whether only this machine can reach the server. The request must then name a local host, since a foreign
            name that resolves to 127.0.0.1 ("DNS rebinding") belongs to another site.

    Raises:
        Refused: 403
    """
    host = headers.get("host", "")
    if local and not is_local(_name(f"//{host}")):
        raise Refused(403, "this server is for this machine alone; open it as http://127.0.0.1 or http://localhost")
    if method in ("GET", "HEAD"):
        return
    origin = headers.get("origin")
    own = origin is None or (_netloc(origin) == host.lower() and host != "")
    if not own or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refused(403, "a page of another site asks for this, which is refused; use the server's own page")


def _netloc(url: str) -> str:
    """Return host and port of a web address in lower case; empty for anything else."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets without an address
        return ""


class Guard:
    """Middleware that checks each request and adds :data:`HEADERS` to each response."""

    def __init__(self, app: ASGIApp, local: bool) -> None:
        self.app, self.local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            check(scope["method"], Headers(scope=scope), self.local)
        except Refused as refused:
            response = JSONResponse({"error": refused.line}, refused.status)
            await response(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)
