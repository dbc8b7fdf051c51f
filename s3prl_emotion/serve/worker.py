"""Predict uploaded files with one model in one thread, one file after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

from starlette.requests import ClientDisconnect

from s3prl_emotion.errors import AudioError, is_out_of_memory
from s3prl_emotion.predict.predictor import Predictor
from s3prl_emotion.predict.windows import Windows
from s3prl_emotion.serve.decoding import NAME, read_audio, short_message
from s3prl_emotion.serve.limits import Limits, Refused
from s3prl_emotion.serve.responses import failed, predicted

logger = logging.getLogger(__name__)


class Worker:
    """Predicts uploaded files.

    Call its methods from the event loop; a thread decodes and predicts the files in the order in which they were
    received. Files of other uploads may come between the files of an upload.

    Attributes:
        predictor: the model, or the ensemble
        limits: limits on uploads
        windows: how to split long audio; ``None`` for no windows
        channel: which channel of a file with several is predicted
        is_busy: whether the thread is working
    """

    def __init__(self, predictor: Predictor, limits: Limits, windows: Windows | None = None) -> None:
        self.predictor, self.limits, self.windows = predictor, limits, windows
        self.channel = predictor.channel
        self.is_busy = False
        self._uploads = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Occupy one of the slots for uploads, from before it is received until the response.

        Raises:
            Refused: 503, all slots are occupied
        """
        if self._uploads >= self.limits.waiting:
            raise Refused(503, f"{self.limits.waiting} uploads are waiting already; try again in a few seconds")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def predict(self, name: str, file: BinaryIO, is_gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        """Return the response for a file.

        Args:
            name: name of the file, as it is shown
            file: its bytes
            is_gone: returns whether the client has disconnected

        Raises:
            ClientDisconnect: the client has disconnected
        """
        async with self._turn:
            if await is_gone():
                raise ClientDisconnect
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._respond, name, file)

    def close(self) -> None:
        """End the thread once it has finished its current file."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _respond(self, name: str, file: BinaryIO) -> dict[str, Any]:
        self.is_busy = True
        try:
            return self._predict(name, file)
        except AudioError as error:
            return failed(name, short_message(error))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                return self._failed(name)
            logger.exception("a file did not fit into the memory; use --window or a lower --max_seconds:")
            return failed(name, "the server's memory does not suffice for this audio; cut it")
        except Exception:  # upstreams are foreign code; the next file may work
            return self._failed(name)
        finally:
            self.is_busy = False

    def _failed(self, name: str) -> dict[str, Any]:
        logger.exception("a file could not be predicted:")
        return failed(name, "the model failed on this audio; the server's log says why")

    def _predict(self, name: str, file: BinaryIO) -> dict[str, Any]:
        audio = read_audio(file, self.limits, self.channel)
        attends = self.predictor.about.attends
        prediction = next(iter(self.predictor.stream([(NAME, audio.waveform)], self.windows, attends)))
        if isinstance(prediction, AudioError):
            raise prediction
        for ckpt in prediction.trained_on_by:  # the client's name for the file is not logged
            what = ckpt if self.predictor.about.members else "the checkpoint"
            logger.warning("an uploaded file is audio that %s was trained on", what)
        return predicted(name, self.predictor, prediction, audio, self.windows is not None)
