"""Apply a function to every tensor of what a model returns, and join what it returns, whatever structure that has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Outputs = TypeVar("Outputs")


def map_tensors(function: Callable[[Tensor], Tensor], outputs: Outputs) -> Outputs:
    """Return ``outputs`` with ``function`` applied to each of its tensors.

    Args:
        function: maps one tensor to one tensor
        outputs: a tensor, or tensors in a tuple, named tuple, list, dict or dataclass, nested at will; anything else
            in them (``None``, numbers) stays as it is

    Returns:
        the same structure
    """
    return _mapped(function, outputs)


def concatenated(outputs: Sequence[Outputs]) -> Outputs:
    """Return the outputs of several batches as those of one, tensors ``[B, ...]`` one after the other.

    Args:
        outputs: of one batch or more, alike in structure; see :func:`map_tensors`
    """
    joined = iter([torch.cat(parts) for parts in zip(*map(_tensors, outputs), strict=True)])
    return map_tensors(lambda _: next(joined), outputs[0])


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors in the order in which :func:`map_tensors` visits them."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(keep, outputs)
    return found


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(function, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [_mapped(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)  # a named tuple takes arguments
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {item.name: _mapped(function, getattr(value, item.name)) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value
