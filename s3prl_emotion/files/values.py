"""Check the values of a checkpoint against the models, optimizers and schedulers that take them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.limits import shown

NOT_WEIGHTS = ("best_score",)  # the score of no evaluation yet may be infinite
LIKE_WEIGHTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "next_m", "next_v"}


def check_values(target: Any, weights: Any, where: str) -> None:
    """Refuse values that no training gives, before they are loaded into a module, an optimizer or a scheduler.

    Args:
        target: has ``state_dict``
        weights: that part of a checkpoint
        where: its name in messages

    Raises:
        CheckpointError: values that are not finite, or of another type than the target's
    """
    fresh = target.state_dict()
    if isinstance(target, nn.Module):
        _check_module(fresh, weights, where)
    elif hasattr(target, "param_groups"):
        _check_groups(fresh["param_groups"], weights["param_groups"], where)
    else:
        _check_scheduler(target, fresh, weights, where)


def check_moments(target: Any, where: str) -> None:
    """Refuse an optimizer's moments that do not belong to its weights, which it would notice in its first step.

    Args:
        target: a loaded optimizer; of anything else there is nothing to check
        where: its name in messages

    Raises:
        CheckpointError: a moment has another shape than its weight, or is not finite
    """
    kinds = set()
    for group in getattr(target, "param_groups", []):
        for parameter in group["params"]:
            state = target.state.get(parameter, {})
            kinds.add(frozenset(state) or None)
            for key, value in state.items():
                if key in LIKE_WEIGHTS and getattr(value, "shape", None) != parameter.shape:
                    raise CheckpointError(f"{where}: {key} does not have the shape of its weight")
                if key == "step" and not _is_count(value):
                    raise CheckpointError(f"{where}: step must be a number from 0, got {shown(value)}")
                if isinstance(value, Tensor) and not value.isfinite().all():
                    raise CheckpointError(f"{where}: {key} holds values that are not finite; use an older checkpoint")
    if len(kinds - {None}) > 1:
        raise CheckpointError(f"{where}: some weights lack moments that others have; use an older checkpoint")


@contextmanager
def restoring(message: str) -> Iterator[None]:
    """Turn what foreign code raises on values that do not fit into one line that starts with ``message``.

    Raises:
        CheckpointError: anything in the block failed because of the values
    """
    try:
        yield
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{message} ({' '.join(str(error).split())[:300]})") from error


def _check_module(fresh: Mapping[str, Any], weights: Mapping[str, Any], where: str) -> None:
    for key, ours in fresh.items():
        value = weights.get(key)
        if not isinstance(ours, Tensor) or not isinstance(value, Tensor):
            continue
        if (value.is_floating_point(), value.is_complex()) != (ours.is_floating_point(), ours.is_complex()):
            raise CheckpointError(f"{where}: {key} must be {ours.dtype}, got {value.dtype}")
        if key in NOT_WEIGHTS or not value.is_floating_point() or value.isfinite().all():
            continue
        if ours.isfinite().all():
            raise CheckpointError(
                f"{where}: {key} holds values that are not finite: the training that wrote it diverged, or the file "
                "was changed; use an older checkpoint"
            )


def _check_groups(fresh: list[dict[str, Any]], groups: list[dict[str, Any]], where: str) -> None:
    for ours, theirs in zip(fresh, groups, strict=False):
        for key, value in theirs.items():
            if key in ours and key != "params" and not (_is_like(ours[key], value) and _is_rate(key, value)):
                raise CheckpointError(f"{where}: {key} must be like {shown(ours[key])}, got {shown(value)}")
        for key, value in ours.items():  # flags may be missing, of which each version of torch has more
            if key not in theirs and not isinstance(value, (bool, type(None))):
                raise CheckpointError(f"{where}: a group of weights lacks {key}; use an older checkpoint")


def _is_rate(key: str, value: Any) -> bool:
    """Return whether the numbers of an optimizer's option are in its range: from 0, averages below 1."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return all(0 <= number < (1 if key == "betas" else math.inf) for number in numbers if number is not None)


def _is_count(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and bool(value >= 0)
    return isinstance(value, int) and value >= 0


def _check_scheduler(scheduler: Any, fresh: Mapping[str, Any], state: Mapping[str, Any], where: str) -> None:
    """Check a scheduler's state, which torch takes as its attributes, whatever they are."""
    for key, value in state.items():
        if callable(getattr(scheduler, key, None)) or key.startswith("__"):
            raise CheckpointError(f"{where}: {shown(key)} is no part of a scheduler's state")
        if key in fresh and not _is_like(fresh[key], value):
            raise CheckpointError(f"{where}: {key} must be like {shown(fresh[key])}, got {shown(value)}")


def _is_like(ours: Any, theirs: Any) -> bool:
    """Return whether a value may replace another: a finite number a number, a flag or nothing a flag or nothing."""
    if isinstance(ours, bool) or ours is None:
        return theirs is None or isinstance(theirs, (bool, int, float))
    if isinstance(ours, (int, float)):
        return isinstance(theirs, (int, float)) and math.isfinite(theirs)
    if isinstance(ours, (list, tuple)):
        return (
            isinstance(theirs, (list, tuple))
            and len(ours) == len(theirs)
            and all(_is_like(*pair) for pair in zip(ours, theirs, strict=True))
        )
    if isinstance(ours, Tensor):
        return isinstance(theirs, Tensor) and theirs.shape == ours.shape
    return isinstance(theirs, type(ours))
