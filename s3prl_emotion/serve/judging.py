"""The model in a thread of its own: one file at a time, a bounded number of uploads, whoever asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

from starlette.requests import ClientDisconnect

from s3prl_emotion.errors import AudioError
from s3prl_emotion.predict.predictor import Predictor
from s3prl_emotion.predict.windows import Windows
from s3prl_emotion.serve.answers import answer, failed
from s3prl_emotion.serve.decoding import NAME, read_audio, told_plainly
from s3prl_emotion.serve.limits import Limits, Refused

logger = logging.getLogger(__name__)


class Judge:
    """Judges uploaded files.

    Its methods belong to the event loop; files are decoded and judged in one thread beside it, in the order in which
    they were received. An upload of several files lets others' files in between.

    Attributes:
        predictor: the model
        limits: of uploads
        windows: that long audio is taken apart into
        is_busy: whether the thread is at work
    """

    def __init__(self, predictor: Predictor, limits: Limits, windows: Windows | None = None) -> None:
        self.predictor, self.limits, self.windows = predictor, limits, windows
        self.is_busy = False
        self._uploads = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one upload, from before it is received until it is answered.

        Raises:
            Refused: 503, all are taken
        """
        if self._uploads >= self.limits.waiting:
            raise Refused(503, f"{self.limits.waiting} uploads are waiting already; try again in a few seconds")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def judge(self, name: str, file: BinaryIO, is_gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        """What is said of a file, or why nothing is.

        Args:
            name: as it is shown
            file: its bytes
            is_gone: whether nobody waits for the answer any more

        Raises:
            ClientDisconnect: nobody does
        """
        async with self._turn:
            if await is_gone():
                raise ClientDisconnect
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, name, file)

    def close(self) -> None:
        """End the thread when it is done with what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _judge(self, name: str, file: BinaryIO) -> dict[str, Any]:
        self.is_busy = True
        try:
            return self._answer(name, file)
        except AudioError as error:
            return failed(name, told_plainly(error))
        except Exception:  # upstreams are others' code; whatever one file does to them, the next is judged
            logger.exception("a file could not be judged:")
            return failed(name, "the model failed on this audio; the server's log says why")
        finally:
            self.is_busy = False

    def _answer(self, name: str, file: BinaryIO) -> dict[str, Any]:
        waveform = read_audio(file, self.limits)
        attends = self.predictor.about.attends
        found = next(iter(self.predictor.stream([(NAME, waveform)], self.windows, attends)))
        if isinstance(found, AudioError):
            raise found
        return answer(name, self.predictor, found, waveform, self.windows is not None)
