"""Compute a digest of nested plain data and tensors, which does not depend on how they are stored."""

from __future__ import annotations

import hashlib
import struct
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Update = Callable[[bytes], None]
CHUNK = 2**24  # elements that are copied at a time, where a tensor is not contiguous in the memory of the CPU


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of nested data, in hexadecimal.

    Args:
        value: containers of plain values and of dense tensors, without cycles
    """
    hasher = hashlib.sha256()
    _feed(value, hasher.update)
    return hasher.hexdigest()


def _feed(value: Any, update: Update) -> None:
    """Feed an unambiguous encoding: each value's kind, its length where it has one, and its content."""
    if isinstance(value, Tensor):
        _feed_tensor(value, update)
    elif value is None or isinstance(value, (bool, int, complex)):
        update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, float):
        update(b"float:" + struct.pack("<d", value))  # to the bit, NaN included
    elif isinstance(value, (str, bytes, bytearray)):
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
        update(f"{type(value).__name__}:{len(content)}:".encode() + content)
    elif isinstance(value, dict):
        update(f"dict:{len(value)}:".encode())
        for key, item in value.items():
            _feed(key, update)
            _feed(item, update)
        if isinstance(value, OrderedDict) and vars(value):  # the versions in the state of a module
            _feed(vars(value), update)
    elif isinstance(value, (list, tuple)):
        update(f"{'tuple' if isinstance(value, tuple) else 'list'}:{len(value)}:".encode())
        for item in value:
            _feed(item, update)
    elif isinstance(value, (set, frozenset)):
        update(f"set:{len(value)}:{sorted(map(digest_of, value))}".encode())
    elif isinstance(value, Namespace):
        update(b"namespace:")
        _feed(vars(value), update)
    else:
        update(f"{type(value).__name__}:{value if isinstance(value, (torch.dtype, torch.device)) else ''};".encode())


def _feed_tensor(tensor: Tensor, update: Update) -> None:
    update(f"tensor:{tensor.dtype}:{list(tensor.shape)}:{tensor.requires_grad}:".encode())
    flat = tensor.detach().resolve_conj().resolve_neg()
    if flat.device.type == "cpu" and flat.is_contiguous():
        update(memoryview(_bytes(flat.reshape(-1)).numpy()))  # type: ignore[arg-type]
        return
    for part in flat.reshape(-1).split(CHUNK):
        update(memoryview(_bytes(part.cpu().contiguous()).numpy()))  # type: ignore[arg-type]


def _bytes(flat: Tensor) -> Tensor:
    return flat.view(torch.uint8) if flat.numel() else flat.new_empty(0, dtype=torch.uint8)
