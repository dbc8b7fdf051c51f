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

from s3prl_emotion.errors import CheckpointError, DamagedCheckpointError
from s3prl_emotion.files.digest import digest_of
from s3prl_emotion.files.packed import is_packed, read_packed
from s3prl_emotion.files.structure import check_entries, check_experiment, check_limits
from s3prl_emotion.files.trust import TRUST, trusts_upstream, unsafe_origin
from s3prl_emotion.files.writing import writing

ALLOWED_CLASSES: list[Any] = [argparse.Namespace]  # s3prl stores its command line in one; the rest is plain data
REQUIRED = ("Args", "Config")
DOWNSTREAM = "a downstream experiment"
DIGEST = "Digest"  # key of the digest of all other entries; s3prl's own runner ignores it
DIGEST_FORMAT = "sha256-1:"  # a later encoding of the content gets another number
ARCHIVE = b"PK\x03\x04"  # first bytes of torch's format since 1.6


def load_checkpoint(
    path: str | os.PathLike[str],
    map_location: Any = "cpu",
    mmap: bool = False,
    required: Sequence[str] = REQUIRED,
    kind: str = DOWNSTREAM,
) -> dict[str, Any]:
    """Read a checkpoint of s3prl's runner or ours, with ``weights_only=True``, and check that nothing of it changed.

    What :func:`save_checkpoint` wrote is compared with its digest. Other files have none: the checksums of their
    archive are checked, if they are one. Of a packed head, each file is compared with its hash.

    Args:
        path: ``states-N.ckpt`` or ``dev-best.ckpt``, or the ``config.yaml`` of a packed head
        map_location: as in ``torch.load``
        mmap: map the file into memory instead of copying it, if it is an archive
        required: keys that every checkpoint of this kind has
        kind: of checkpoint, for messages

    Returns:
        the content, without its digest

    Raises:
        DamagedCheckpointError: the file is not what was written
        CheckpointError: a missing file, one that holds more than tensors and plain data (no code in it is run), one of
            another kind, or with entries of a wrong type or size
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    if kind == DOWNSTREAM and is_packed(path):
        content = read_packed(path)
        check_limits(path, content)
        return _checked(path, content, required, kind)
    trusted, flag = (TRUST.checkpoint, "checkpoint") if kind == DOWNSTREAM else (trusts_upstream(), "upstream")
    if not trusted and (why := unsafe_origin(path)) is not None:
        raise CheckpointError(f"{path}: {why}, or pass --trust_{flag} if you trust its origin")
    archive = is_archive(path)
    if archive and (fault := archive_fault(path)) is not None:
        raise _damaged(path, fault)
    torch.serialization.add_safe_globals(ALLOWED_CLASSES)
    try:
        content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and archive)
    except pickle.UnpicklingError as error:
        if not archive:
            raise DamagedCheckpointError(f"{path}: damaged or not a checkpoint; use an older one") from error
        _check_archive(path)
        raise CheckpointError(
            f"{path}: refused, since it holds objects other than tensors and plain data; no code in it was run"
        ) from error
    except Exception as error:  # damaged bytes make torch's readers fail in many ways: IndexError, struct.error, …
        raise DamagedCheckpointError(
            f"{path}: damaged or not a checkpoint ({_first_line(error)}); use an older one"
        ) from error
    digest = content.pop(DIGEST, None) if isinstance(content, dict) else None
    known = isinstance(digest, str) and digest.startswith(DIGEST_FORMAT)
    if archive and not known:
        _check_archive(path)
    if isinstance(content, dict):
        check_limits(path, content)
    if known and DIGEST_FORMAT + digest_of(content) != digest:
        raise _damaged(path, "its content is not what was written")
    return _checked(path, content, required, kind)


def _checked(path: Path, content: Any, required: Sequence[str], kind: str) -> dict[str, Any]:
    """Return the content of a file once its entries are known to be those of a checkpoint of this kind."""
    if not isinstance(content, dict) or any(key not in content for key in required):
        raise CheckpointError(f"{path}: not a checkpoint of {kind} (it lacks {' or '.join(required)})")
    check_entries(path, content)
    if kind == DOWNSTREAM:
        check_experiment(path, content)
    return content


def save_checkpoint(
    state: dict[str, Any], path: str | os.PathLike[str], remedy: str = "free disk space and resume with -a"
) -> None:
    """Write a checkpoint and its digest, whole or not at all, and wait until it is on the disk.

    Args:
        state: tensors and plain data
        path: of the file
        remedy: how to fix a failure, for its message

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; an older file of this name is unchanged
    """
    path = Path(path)
    content = {name: value for name, value in state.items() if name != DIGEST}
    content[DIGEST] = DIGEST_FORMAT + digest_of(content)
    try:
        with writing(path, CheckpointError, remedy, durable=True) as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's zip writer reports a full disk so
        raise CheckpointError(f"{path}: could not be written ({_first_line(error)}); {remedy}") from error


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, as torch writes since 1.6.

    Raises:
        CheckpointError: it cannot be read
    """
    try:
        with path.open("rb") as file:
            return file.read(len(ARCHIVE)) == ARCHIVE
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def archive_fault(path: Path) -> str | None:
    """Return why an archive is damaged, or would be larger in memory than on the disk; ``None`` where it is neither.

    torch compresses nothing, so a compressed part is either damage or a trap.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # a damaged directory makes zipfile fail in many ways
        return _first_line(error)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "its parts are compressed"
    if sum(member.file_size for member in members) > path.stat().st_size:
        return "its parts are longer than the file"
    return None


def _check_archive(path: Path) -> None:
    """Compare every part of an archive with its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            fault = archive.testzip()
    except Exception as error:  # as above
        raise _damaged(path, _first_line(error)) from error
    if fault is not None:
        raise _damaged(path, f"the checksum of {fault} differs")


def _damaged(path: Path, reason: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path}: damaged or not a checkpoint ({reason}); use an older one")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
