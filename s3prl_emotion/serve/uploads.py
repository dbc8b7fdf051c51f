"""Receive uploaded files, within limits that are checked while the bytes arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from s3prl_emotion.serve.limits import Limits, Refused

logger = logging.getLogger(__name__)

LONGEST_NAME = 120  # characters of a file's name that are shown
OTHER_FIELDS = 8  # form fields besides files
FIELD_SIZE = 65_536  # bytes of each such field
ENVELOPE = 4096  # bytes of multipart lines around each file or field
SILENCE = 30.0  # s without a byte, after which an upload is refused
SLOWEST = 1000  # bytes/s that an upload must have on average once SILENCE has passed
LONGEST = 600.0  # s within which an upload must be complete
DRAINED = 10.0  # s for which the rest of a refused upload is discarded, so that the client reads the response


async def receive(request: Request, limits: Limits) -> list[UploadFile]:
    """Return the files of a multipart upload, in their order; the caller closes them.

    The size is counted as the bytes arrive, whatever ``Content-Length`` says. Large files are kept in temporary files
    without a name, which vanish with the process.

    Raises:
        Refused: not multipart (415), malformed, no files or too many (400), too large (413), too slow (408)
        ClientDisconnect: the client went away
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = request.stream()
    try:
        if kind != "multipart/form-data":
            raise Refused(415, f"takes multipart/form-data with audio files, not {kind[:60] or 'a body of no type'}")
        return await _parse(request, stream, limits)
    except Refused:
        await _drain(stream)
        raise


def shown(name: str) -> str:
    """Return a client's file name in a form to show: no folders, no control characters, shortened."""
    last = name.replace("\\", "/").rpartition("/")[2]
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in last)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


async def _parse(request: Request, stream: AsyncGenerator[bytes, None], limits: Limits) -> list[UploadFile]:
    parser = MultiPartParser(
        request.headers, _counted(stream, limits), max_files=limits.files, max_fields=OTHER_FIELDS,
        max_part_size=FIELD_SIZE,
    )  # fmt: skip
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the upload cannot be read: {error.message}") from error
    except ValueError as error:  # an encoding of file names that the request declares
        raise Refused(400, "the upload cannot be read: file names must be UTF-8") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    filled = [file for file in files if file.filename or file.size]  # an empty field of a form has neither
    if not filled:
        await form.close()
        raise Refused(400, "no file in the upload; send at least one, as curl -F file=@speech.wav does")
    return filled


async def _counted(stream: AsyncGenerator[bytes, None], limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield chunks of the body, up to the limits on size and time."""
    most = limits.size + ENVELOPE * (limits.files + OTHER_FIELDS)
    received, begun = 0, asyncio.get_running_loop().time()
    while True:
        due = begun + min(LONGEST, SILENCE + received / SLOWEST)
        left = min(SILENCE, due - asyncio.get_running_loop().time())
        try:
            chunk = await asyncio.wait_for(anext(stream), left)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise Refused(
                408,
                f"the upload came too slowly ({SILENCE:g} s of silence, less than {SLOWEST} bytes/s, or {LONGEST:g} s)",
            ) from error
        received += len(chunk)
        if received > most:
            raise Refused(413, f"the upload is larger than {limits.megabytes:g} MB; send fewer or shorter files")
        yield chunk


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Discard the rest of an upload for a while, since a client reads the response only after sending."""

    async def rest() -> None:
        async for _ in stream:
            pass

    try:
        await asyncio.wait_for(rest(), DRAINED)
    except (asyncio.TimeoutError, ClientDisconnect, RuntimeError) as error:  # RuntimeError: it was read completely
        logger.debug("the rest of a refused upload: %r", error)
