"""Switch Python's garbage collection, which would search all that a command's imports make again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_STATE = {"own process": False}


def own_process() -> None:
    """Note that this process runs one command and ends, so what its imports made is never searched."""
    _STATE["own process"] = True


@contextmanager
def collection(on: bool) -> Iterator[None]:
    """Switch the collection of reference cycles on or off until the block ends.

    A training's imports make a million objects that stay; searching them for garbage takes a fifth of its start.

    Args:
        on: whether to collect
    """
    before = gc.isenabled()
    if on and not before and _STATE["own process"]:
        gc.freeze()
    (gc.enable if on else gc.disable)()
    try:
        yield
    finally:
        (gc.enable if before else gc.disable)()
