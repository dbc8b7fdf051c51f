"""Read checkpoints without running code in them; write them without risking the older one."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.files.writing import writing

ALLOWED_CLASSES: list[Any] = [argparse.Namespace]  # s3prl stores its command line in one; the rest is plain data
REQUIRED = ("Args", "Config")
DOWNSTREAM = "a downstream experiment"


def load_checkpoint(
    path: str | os.PathLike[str],
    map_location: Any = "cpu",
    mmap: bool = False,
    required: Sequence[str] = REQUIRED,
    kind: str = DOWNSTREAM,
) -> dict[str, Any]:
    """Read a checkpoint of s3prl's runner or ours, with ``weights_only=True``.

    Args:
        path: ``states-N.ckpt`` or ``dev-best.ckpt``
        map_location: as in ``torch.load``
        mmap: read a tensor when it is used, which saves time where few are
        required: keys that every checkpoint of this kind has
        kind: of checkpoint, for messages

    Raises:
        CheckpointError: a missing or damaged file, one that holds more than tensors and plain data (no code in it is
            run), or one of another kind
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    torch.serialization.add_safe_globals(ALLOWED_CLASSES)
    try:
        content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: damaged or not a checkpoint; use an older one") from error
        raise CheckpointError(
            f"{path}: refused, since it holds objects other than tensors and plain data; no code in it was run"
        ) from error
    except Exception as error:  # damaged bytes make torch's readers fail in many ways: IndexError, struct.error, …
        raise CheckpointError(
            f"{path}: damaged or not a checkpoint ({_first_line(error)}); use an older one"
        ) from error
    if not isinstance(content, dict) or any(key not in content for key in required):
        raise CheckpointError(f"{path}: not a checkpoint of {kind} (it lacks {' or '.join(required)})")
    return content


def save_checkpoint(
    state: dict[str, Any], path: str | os.PathLike[str], remedy: str = "free disk space and resume with -a"
) -> None:
    """Write a checkpoint whole or not at all, and wait until it is on the disk.

    Args:
        state: tensors and plain data
        path: of the file
        remedy: how to fix a failure, for its message

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; an older file of this name is unchanged
    """
    path = Path(path)
    try:
        with writing(path, CheckpointError, remedy, durable=True) as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's zip writer reports a full disk so
        raise CheckpointError(f"{path}: could not be written ({_first_line(error)}); {remedy}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
