"""Receiving files: counted while they come, in files without a name, which are gone with their process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from s3prl_emotion.serve.limits import Limits, Refused

logger = logging.getLogger(__name__)

LONGEST_NAME = 120  # characters that are shown
OTHER_FIELDS = 8  # of a form, beside files
FIELD_SIZE = 65_536  # bytes of each of them
ENVELOPE = 4096  # bytes of multipart lines around each file or field
SILENCE = 30.0  # s without a byte after which a client counts as gone
LONGEST = 600.0  # s in which an upload must be whole
DRAINED = 10.0  # s for which the rest of a refused upload is thrown away, so that the client reads the answer


async def receive(request: Request, limits: Limits) -> list[UploadFile]:
    """Files of a multipart upload, in their order; the caller closes them.

    The size is counted as bytes come, whatever ``Content-Length`` says. What is large is kept in temporary files that
    have no name in any folder.

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
    """What a client calls its file, for people to read: without folders, control characters and excess."""
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
    except ValueError as error:  # a codec that the request names for its file names
        raise Refused(400, "the upload cannot be read: file names must be UTF-8") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    found = [file for file in files if file.filename or file.size]  # a form's field without a file has neither
    if not found:
        await form.close()
        raise Refused(400, "no file in the upload; send at least one, as curl -F file=@speech.wav does")
    return found


async def _counted(stream: AsyncGenerator[bytes, None], limits: Limits) -> AsyncGenerator[bytes, None]:
    """Chunks of the body, up to the limits of size and time."""
    most = limits.size + ENVELOPE * (limits.files + OTHER_FIELDS)
    received, end = 0, asyncio.get_running_loop().time() + LONGEST
    while True:
        left = min(SILENCE, end - asyncio.get_running_loop().time())
        try:
            chunk = await asyncio.wait_for(anext(stream), left)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise Refused(408, f"the upload came too slowly ({SILENCE:g} s of silence, or {LONGEST:g} s)") from error
        received += len(chunk)
        if received > most:
            raise Refused(413, f"the upload is larger than {limits.megabytes:g} MB; send fewer or shorter files")
        yield chunk


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Throw away what still comes for a while: a client that is still sending does not read an answer."""

    async def rest() -> None:
        async for _ in stream:
            pass

    try:
        await asyncio.wait_for(rest(), DRAINED)
    except (asyncio.TimeoutError, ClientDisconnect, RuntimeError) as error:  # RuntimeError: it was read to its end
        logger.debug("the rest of a refused upload: %r", error)
