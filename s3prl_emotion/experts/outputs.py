"""Apply a function to every tensor of what a model returns, whatever structure it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

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
