"""The web application's routes: the page with its scripts and styles, the model's description, and predictions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s3prl_emotion.report.environment import TEMPLATES as REPORT
from s3prl_emotion.serve.access import Guard
from s3prl_emotion.serve.limits import Refused
from s3prl_emotion.serve.responses import about
from s3prl_emotion.serve.uploads import receive, shown
from s3prl_emotion.serve.worker import Worker

logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("page.js", "cards.js", "drawing.js", "microphone.js", "recorder.js")
STYLES = (REPORT / "page.css", TEMPLATES / "page.css")  # looks like the report
CLIENT_CLOSED = 499  # a response that nobody reads


def application(worker: Worker, local: bool) -> Starlette:
    """Return the web application.

    Args:
        worker: predicts uploaded files; holds the model and the limits
        local: whether only this machine can reach the server

    Returns:
        ``GET /``: the page; ``GET /about``: the model's description; ``POST /predict``: predicts the files of a
        multipart upload
    """
    description = about(worker.predictor, worker.limits, worker.windows)

    async def describe(request: Request) -> Response:
        return JSONResponse(description)

    async def predict(request: Request) -> Response:
        with worker.slot():
            files = await receive(request, worker.limits)
            try:
                results = [await _predict(worker, request, file) for file in files]
            finally:
                for file in files:
                    await file.close()
        return JSONResponse({"results": results}, 200 if any(item["error"] is None for item in results) else 422)

    return Starlette(
        routes=[
            *(_fixed(path, text, kind) for path, (text, kind) in _texts(description).items()),
            Route("/about", describe),
            Route("/predict", predict, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, local=local)],
        exception_handlers={
            Refused: _refuse,
            HTTPException: _not_found,
            ClientDisconnect: _disconnected,
            Exception: _failed,
        },
    )


async def _predict(worker: Worker, request: Request, file: UploadFile) -> dict[str, Any]:
    return await worker.predict(shown(file.filename or "audio"), file.file, request.is_disconnected)


def _texts(description: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return text and media type by path; read once, so that no request can name a file."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return {
        "/": (templates.get_template("page.html.jinja").render(about=description), "text/html"),
        "/page.css": (_joined(STYLES), "text/css"),
        **{f"/{name}": (_joined([TEMPLATES / name]), "text/javascript") for name in SCRIPTS},
    }


def _joined(paths: Sequence[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def _fixed(path: str, text: str, kind: str) -> Route:
    async def give(request: Request) -> Response:
        return Response(text, media_type=kind)

    return Route(path, give)


# --- errors ----------------------------------------------------------------------------------------------------------


async def _refuse(request: Request, error: Exception) -> Response:
    status, line = (error.status, error.line) if isinstance(error, Refused) else (500, str(error))
    return JSONResponse({"error": line}, status, {"Retry-After": "2"} if status == 503 else None)


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    line = "there are GET /, GET /about and POST /predict"
    return JSONResponse({"error": line}, status, error.headers if isinstance(error, HTTPException) else None)


async def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("a request failed:", exc_info=error)
    return JSONResponse({"error": "the server failed; its log says why"}, 500)
