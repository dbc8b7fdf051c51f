"""Write a training's curves so that a full disk ends the run with one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.writing import REMEDY

FLUSH_SECONDS = 120.0  # between two writes to the disk, as in tensorboardX


@contextmanager
def curves(folder: Path) -> Iterator[SummaryWriter]:
    """Open a folder's curves.

    tensorboardX writes in a thread, whose errors nobody sees: on a full disk that thread ends, its queue fills up, and
    the training waits for ever. So events are written where they are made.

    Raises:
        TrainingError: the disk is full or the file cannot be written
    """
    writer = SummaryWriter(str(folder))
    try:
        _write_at_once(writer)
        yield writer
    except BaseException:
        with suppress(TrainingError):  # the first error counts
            _close(writer)
        raise
    _close(writer)


def _write_at_once(writer: SummaryWriter) -> None:
    events = _events_of(writer)
    path, written = _file_of(writer), [float("-inf")]

    def add_event(event: Any) -> None:
        with _naming(path):
            events._ev_writer.write_event(event)
            if time.monotonic() - written[0] > FLUSH_SECONDS:
                written[0] = time.monotonic()
                events._ev_writer.flush()

    events.add_event = add_event


def _close(writer: SummaryWriter) -> None:
    events = _events_of(writer)
    try:
        with _naming(_file_of(writer)):
            writer.close()
    finally:
        events._closed = True  # or it is closed once more at the end of the process, with a traceback


def _events_of(writer: SummaryWriter) -> Any:
    return writer._get_file_writer().event_writer


def _file_of(writer: SummaryWriter) -> Path:
    return Path(_events_of(writer)._ev_writer._file_name)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: could not be written ({error.strerror or error}); {REMEDY}") from error
