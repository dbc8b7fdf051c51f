"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import EmotionError, TrainingError


def write_text(path: Path, text: str) -> None:
    """Write a text file as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write an npz file as :func:`write_bytes` does."""
    data = io.BytesIO()
    np.savez(data, **dict[str, Any](arrays))
    write_bytes(path, data.getvalue())
    return path


def write_bytes(path: Path, data: bytes, failure: type[EmotionError] = TrainingError) -> None:
    """Write a file whole or not at all.

    Args:
        path: of the file
        data: its content
        failure: what is raised

    Raises:
        EmotionError: ``failure``: the folder cannot be written or the disk is full; an older file is untouched
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise failure(f"{path}: could not be written ({error.strerror}); free room or mend its rights") from error
    finally:
        with contextlib.suppress(OSError):  # it is not there, or its folder is none
            partial.unlink()
