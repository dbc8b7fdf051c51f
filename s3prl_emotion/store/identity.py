"""Identify features by what they depend on: the upstream's weights, code and options, and the waveform."""

from __future__ import annotations

import hashlib
import inspect
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
from s3prl_emotion.store.segments import raw_bytes

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx")  # covered by the weights' hash
CODE = (".py", ".yaml", ".yml", ".json", ".conf")


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
        StoreError: the adapter's ``identity()`` is not plain data
    """
    describe: Any = getattr(model, "identity", None)
    try:
        own = json.loads(json.dumps(describe() if callable(describe) else None, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: it contains itself
        raise StoreError(
            f"-u {upstream}: its identity() must return plain numbers, strings, lists … ({error})"
        ) from error
    return Identity(
        {
            "upstream": upstream,
            "weights": weights_hash(model),
            "code": code_hash(model),
            "checkpoint": _checkpoint(ckpt),
            "config": _content(Path(model_config)) if model_config else None,
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


def code_hash(model: nn.Module) -> str:
    """Return a hash of the source of a model's classes: whole folders of adapters, and single modules elsewhere.

    The model's own package counts, and s3prl and this suite; torch and transformers do not, since their versions give
    the same features within rounding (``upstream.json`` names the versions that were used).

    Raises:
        StoreError: the upstream's class has no source file
    """
    packages = {"s3prl", "s3prl_emotion", _package(type(model))}
    classes = {base for part in model.modules() for base in type(part).__mro__ if _package(base) in packages}
    try:
        sources = {_source(Path(inspect.getfile(item)).resolve()) for item in classes | {type(model)}}
    except (TypeError, OSError) as error:
        raise StoreError(f"{type(model)}: no source file, so a store cannot notice changes of its code") from error
    return " ".join(
        sorted(f"{path.name}:{folder_hash(path, CODE) if path.is_dir() else _content(path)}" for path in sources)
    )


def folder_hash(folder: Path, suffixes: tuple[str, ...] = ()) -> str:
    """Return a hash of the names and contents of a folder's files: those with ``suffixes``, or all but weights."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.rglob("*")):
        wanted = path.suffix in suffixes if suffixes else path.suffix not in WEIGHTS
        if path.is_file() and wanted and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()} {_content(path)}\n".encode())
    return digest.hexdigest()


def _package(item: type) -> str:
    return item.__module__.partition(".")[0]


def _source(file: Path) -> Path:
    """Return the adapter's folder with the module in it or one level below, or the module's own file."""
    return next((folder for folder in file.parents[:2] if (folder / "hubconf.py").is_file()), file)


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from sorted(model.named_parameters(remove_duplicate=False), key=itemgetter(0))
    yield from sorted(model.named_buffers(remove_duplicate=False), key=itemgetter(0))


def _checkpoint(ckpt: str | None) -> str | None:
    if ckpt is None:
        return None
    path = Path(os.path.expanduser(ckpt))
    if path.is_dir():
        return folder_hash(path)
    return _content(path) if path.is_file() else ckpt  # an id or address; its weights are in the weights' hash


def _content(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
