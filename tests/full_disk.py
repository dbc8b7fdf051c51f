"""A disk that is full: the suite's writer runs into it after ten bytes of a file."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from s3prl_emotion.files import writing


class FullFile(io.BufferedWriter):
    """Takes ten bytes."""

    def write(self, data) -> int:
        super().write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[Path], bool] = lambda partial: True) -> None:
    """Let the disk be full for every partial file for which ``is_full`` holds."""
    opened = writing._open

    def open_full(partial: Path):
        return FullFile(io.FileIO(partial, "xb")) if is_full(partial) else opened(partial)

    monkeypatch.setattr(writing, "_open", open_full)
