"""Who may ask: requests that another site made a browser send are refused. And what browsers may do with the page."""

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
    """Whether a host's name or address means this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def check(method: str, headers: Headers, local: bool) -> None:
    """Refuse what a page of another site makes a browser send.

    Args:
        method: of the request
        headers: of the request
        local: whether only this machine reaches the server. Then its name in the request must be a local one: a
            foreign name that was made to resolve to 127.0.0.1 ("DNS rebinding") is another site's.

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
    """Host and port of a web address in lower case, empty where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


class Guard:
    """Checks each request, and puts :data:`HEADERS` on each answer."""

    def __init__(self, app: ASGIApp, local: bool) -> None:
        self.app, self.local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
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
            answer = JSONResponse({"error": refused.line}, refused.status)
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)
