"""Seed, save and restore every random generator, with states as plain tensors for checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (CPU and every CUDA device)."""
    random.seed(seed)
    np.random.seed(seed)  # s3prl's tasks and SpecAugment draw from NumPy's global generator
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def rng_state() -> dict[str, Any]:
    """Return the state of all generators as tensors and plain numbers, which ``weights_only`` loading accepts."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numpy_state
    return {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Restore all generators from ``state``; CUDA's only if the number of devices is the same."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def draws_part_by_part(device: torch.device) -> bool:
    """Return whether one draw for a whole tensor is what draws for its parts, one after the other, are.

    CUDA and the CPU code of older torch (2.4) draw other numbers.
    """
    whole, parts = (torch.Generator(device).manual_seed(0) for _ in range(2))
    drawn = torch.empty(2048, device=device).bernoulli_(0.5, generator=whole)
    pieces = [torch.empty(1024, device=device).bernoulli_(0.5, generator=parts) for _ in range(2)]
    return torch.equal(drawn, torch.cat(pieces))


@contextmanager
def own_seed(seed: int) -> Iterator[None]:
    """Seed all generators inside the block and restore them afterwards, so that it does not change training."""
    state = rng_state()
    seed_everything(seed)
    try:
        yield
    finally:
        restore_rng(state)
