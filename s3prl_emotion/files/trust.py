"""Know which files the user has declared trusted, and which files another user wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "S3PRL_TRUST_UPSTREAM"  # of the environment: 1 is --trust_upstream for every process that inherits it
SAFE_TORCH = (2, 6)  # from here on weights_only=True cannot be made to run code (CVE-2025-32434)


@dataclass
class Trust:
    """What the user has declared trusted in this process.

    Attributes:
        upstream: ``--trust_upstream``: files of upstreams may be pickles, which run code
        checkpoint: ``--trust_checkpoint``: files that another user wrote may be loaded below torch 2.6
    """

    upstream: bool = False
    checkpoint: bool = False


TRUST = Trust()


@contextmanager
def trusting(upstream: bool = False, checkpoint: bool = False) -> Iterator[None]:
    """Trust files within a block as flags say."""
    before = vars(TRUST).copy()
    TRUST.upstream, TRUST.checkpoint = upstream, checkpoint
    try:
        yield
    finally:
        vars(TRUST).update(before)


@contextmanager
def children_trusting(upstream: bool) -> Iterator[None]:
    """Trust upstreams within a block, in this process and in those that it starts."""
    before = os.environ.get(VARIABLE)
    if upstream:
        os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        os.environ.update({} if before is None else {VARIABLE: before})


def trusts_upstream() -> bool:
    """Return whether the user trusts the files of upstreams, by flag or by environment."""
    return TRUST.upstream or os.environ.get(VARIABLE) == "1"


def unsafe_origin(path: str | os.PathLike[str]) -> str | None:
    """Return why ``weights_only=True`` does not suffice for a file; ``None`` where it does.

    Below torch 2.6 a crafted file can run code in spite of it, so only files of this user are safe there.
    """
    import torch  # takes seconds, and nothing else here needs it

    if can_load_safely() or Path(path).stat().st_uid == os.getuid():
        return None
    return (
        f"another user wrote it, and torch {torch.__version__} can be made to run code by a crafted file "
        "(CVE-2025-32434); install torch 2.6 or later"
    )


def can_load_safely() -> bool:
    """Return whether ``weights_only=True`` of this torch runs no code, whoever made the file."""
    return _torch_version() >= SAFE_TORCH


def _torch_version() -> tuple[int, ...]:
    import torch

    return tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
