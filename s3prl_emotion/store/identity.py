"""Identify features by what they depend on: the upstream's weights, code and options, and the waveform."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import nn

from s3prl_emotion.errors import StoreError
from s3prl_emotion.store.contents import file_hash, folder_hash
from s3prl_emotion.store.segments import raw_bytes
from s3prl_emotion.store.source_code import code_hash


@dataclass(frozen=True)
class Identity:
    """Everything that a collection's features depend on, as plain data; equal identities share a collection."""

    values: dict[str, Any]

    @cached_property
    def text(self) -> str:
        """The values as JSON, with sorted keys."""
        return json.dumps(self.values, sort_keys=True)

    @cached_property
    def id(self) -> str:
        """Name of the collection's folder: upstream and 16 hexadecimal digits."""
        return f"{self.values['upstream']}-{hashlib.sha256(self.text.encode()).hexdigest()[:16]}"

    def variant(self, **changes: Any) -> Identity:
        """Return the identity of the same upstream with another ``layer``, ``dtype`` or ``batched``."""
        return Identity({**self.values, **changes})


def identify(
    model: nn.Module,
    upstream: str,
    ckpt: str | None,
    model_config: str | None,
    selection: str,
    layer: int | None,
    dtype: torch.dtype,
    batched: bool = False,
) -> Identity:
    """Return the identity of a frozen upstream in memory.

    Args:
        model: the upstream
        upstream: ``-u``
        ckpt: ``-k``; its content counts, not its path
        model_config: ``-g``; likewise
        selection: ``-s``
        layer: the single layer that is stored, from 0, or ``None`` for all
        dtype: of the stored values
        batched: computed in padded batches, within 1e-4 of each utterance computed alone

    Raises:
        StoreError: the adapter's ``identity()`` is not plain data, or a file that counts cannot be read
    """
    describe: Any = getattr(model, "identity", None)
    try:
        own = json.loads(json.dumps(describe() if callable(describe) else None, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: it contains itself
        raise StoreError(
            f"-u {upstream}: its identity() must return plain numbers, strings, lists … ({error})"
        ) from error
    try:
        files = {
            "code": code_hash(model, upstream),
            "checkpoint": checkpoint_hash(ckpt),
            "config": file_hash(Path(model_config)) if model_config else None,
        }
    except OSError as error:
        raise StoreError(
            f"{error.filename}: cannot be read ({error.strerror}), but the features of -u {upstream} may depend on it; "
            "fix its permissions, or move it elsewhere"
        ) from error
    return Identity(
        {
            "upstream": upstream,
            "weights": weights_hash(model),
            **files,
            "options": own,
            "selection": selection,
            "layer": layer,
            "dtype": str(dtype).removeprefix("torch."),
            "batched": batched,
        }
    )


def utterance_key(waveform: NDArray[np.float32]) -> bytes:
    """Return the key of a waveform ``[N]`` (16 kHz, float32): a hash of its samples, 16 bytes."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(waveform, dtype=np.float32).data)


def weights_hash(model: nn.Module) -> str:
    """Return a hash of the names, types, shapes and values of all parameters and buffers."""
    digest = xxhash.xxh3_128()
    for name, tensor in _tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor.detach().cpu().contiguous()))
    return digest.hexdigest()


def checkpoint_hash(ckpt: str | None) -> str | None:
    """Return a hash of the content of ``-k``, a file or a folder; an id or address as it is, ``None`` for ``None``."""
    if ckpt is None:
        return None
    path = Path(os.path.expanduser(ckpt))
    if path.is_dir():
        return folder_hash(path)
    return file_hash(path) if path.is_file() else ckpt  # the weights of an id or address are in the weights' hash


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from sorted(model.named_parameters(remove_duplicate=False), key=itemgetter(0))
    yield from sorted(model.named_buffers(remove_duplicate=False), key=itemgetter(0))
