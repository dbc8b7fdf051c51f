"""Check the types, sizes and ranges of what a checkpoint holds, before anything is built from it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.errors import CheckpointError
from s3prl_emotion.limits import excess, parts_of, shown

LARGEST_CONTENT = 2**26  # values and characters of a checkpoint besides its tensors' elements
LARGEST_COUNT = 2**40  # steps, epochs or batches
LARGEST_VIEW = 2**24  # elements of a tensor that repeats its memory, as an expanded one does
EXTRA_STATE = "_extra_state"  # torch's name for what a module keeps besides tensors
MODELS = ("Upstream", "Featurizer", "Downstream")
Check = Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return value is None or type(value) is int


def _are_generators(value: Any) -> bool:
    keys = {"python", "numpy", "torch", "cuda"}
    one_a_process = isinstance(value, list) and len(value) > 0
    return one_a_process and all(isinstance(state, dict) and state.keys() >= keys for state in value)


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("state"), dict):
        return False
    groups = value.get("param_groups")
    return isinstance(groups, list) and all(isinstance(group, dict) for group in groups)


def _is_left(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"splits", "names"}:
        return False
    lists = all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in value.values())
    return lists and all(Path(name).name == name and name.endswith(".ckpt") for name in value["names"])


ARGUMENTS: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(
        ("upstream", "downstream", "mode", "evaluate_split", "expdir", "upstream_path", "downstream_path",
         "upstream_feature_selection", "config", "device", "downstream_variant", "cache_dir", "hub", "override",
         "init_ckpt", "past_exp"),
        (_is_text, "text"),
    ),
    **dict.fromkeys(
        ("upstream_trainable", "upstream_feature_normalize", "from_hf_hub", "disable_cudnn"),
        (_is_flag, "true or false"),
    ),
    **dict.fromkeys(("upstream_layer_selection", "local_rank"), (_is_number, "a whole number")),
    "seed": (lambda value: _is_count(value) and value < 2**32, "a number from 0 to 2**32 - 1"),
}  # fmt: skip
"""What the arguments must be that the suite itself uses; others of the host need only be plain data."""

REBUILDING = (
    "upstream", "upstream_ckpt", "upstream_model_config", "upstream_feature_selection", "upstream_layer_selection",
    "upstream_feature_normalize", "upstream_trainable", "downstream", "downstream_variant", "seed", "expdir",
    "local_rank",
)  # fmt: skip
"""Arguments from which a model is rebuilt; s3prl's runner stores all of them."""

ENTRIES: dict[str, tuple[Check, str]] = {
    "Args": (lambda value: isinstance(value, Namespace), "a namespace of arguments"),
    "Config": (lambda value: isinstance(value, dict), "a mapping of sections"),
    **dict.fromkeys(("Step", "Epoch", "Batch", "Unimproved", "WorldSize"), (_is_count, "a number from 0")),
    **dict.fromkeys(
        MODELS,
        (lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value), "tensors by name"),
    ),
    "Unaveraged": (
        lambda value: isinstance(value, dict) and all(isinstance(item, Tensor) for item in value.values()),
        "tensors by name",
    ),
    "Optimizer": (_is_optimizer, "state and param_groups"),
    "Scheduler": (lambda value: isinstance(value, dict), "a mapping"),
    "Scaler": (lambda value: isinstance(value, dict), "a mapping"),
    "Records": (
        lambda value: isinstance(value, dict) and all(isinstance(item, list) for item in value.values()),
        "lists by name",
    ),
    "Left": (_is_left, "splits and names of checkpoints"),
    "Statistics": (lambda value: value in ("frames", "means"), "frames or means"),
    "BatchIds": (lambda value: isinstance(value, list) and all(map(_is_count, value)), "a list of numbers"),
    "Rng": (_are_generators, "states of generators"),
}
"""What the entries of s3prl's runner and of ours must be."""


def check_limits(path: Path, content: dict[str, Any]) -> None:
    """Refuse content that would take for ever to print, compare or copy; its cost is one visit to each object.

    Raises:
        CheckpointError: it refers to itself, is nested too deeply or is too large; or a tensor is no plain one
    """

    def parts(value: Any) -> Iterable[Any]:
        if isinstance(value, Tensor):
            _check_tensor(path, value)
        return parts_of(value)

    def plain(value: Any) -> Iterable[Any]:
        if isinstance(value, Tensor):
            raise CheckpointError(f"{path}: its Args or Config hold a tensor; it was not written by s3prl")
        return parts_of(value)

    for name in ("Args", "Config"):
        reason = excess(content.get(name), plain)
        if reason is not None:
            raise CheckpointError(f"{path}: its {name} {reason}; it was not written by s3prl or s3prl-emotion")
    reason = excess(content, parts, largest=LARGEST_CONTENT)
    if reason is not None:
        raise CheckpointError(f"{path}: its content {reason}; it was not written by s3prl or s3prl-emotion")


def check_entries(path: Path, content: dict[str, Any], entries: dict[str, tuple[Check, str]] = ENTRIES) -> None:
    """Check the types and ranges of a checkpoint's entries, as far as it has them.

    Args:
        path: of the checkpoint, for messages
        content: of the checkpoint
        entries: what each entry must be, and how to say so

    Raises:
        CheckpointError: names the entry and what it must be
    """
    for name, (check, expected) in entries.items():
        if name in content and not check(content[name]):
            raise CheckpointError(f"{path}: its {name} must be {expected}, got {shown(content[name])}")


def check_experiment(path: Path, content: dict[str, Any]) -> None:
    """Check the arguments and weights of a downstream experiment, whose entries were checked.

    Raises:
        CheckpointError: names the argument or weight and what it must be
    """
    args = content["Args"]
    if not all(isinstance(name, str) for name in vars(args)):
        raise CheckpointError(f"{path}: its Args must have names; it is not a checkpoint of run_downstream.py")
    check_arguments(path, args, ("downstream", "upstream"))
    for name, (check, expected) in ARGUMENTS.items():
        if hasattr(args, name) and not check(getattr(args, name)):
            raise CheckpointError(f"{path}: its Args.{name} must be {expected}, got {shown(getattr(args, name))}")
    for name in MODELS:
        for key, weight in content.get(name, {}).items():
            if not isinstance(weight, Tensor) and not key.endswith(EXTRA_STATE):
                raise CheckpointError(f"{path}: its {name}: {key} must be a tensor, got {shown(weight)}")


def check_arguments(path: Path, args: Namespace, names: Iterable[str] = REBUILDING) -> None:
    """Check that nothing is missing of the arguments from which a model is rebuilt.

    Raises:
        CheckpointError: names the first that is missing
    """
    for name in names:
        if not hasattr(args, name):
            raise CheckpointError(f"{path}: its Args lack {name}; it is not a checkpoint of run_downstream.py")


def _check_tensor(path: Path, value: Tensor) -> None:
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise CheckpointError(f"{path}: holds a tensor that is sparse, quantized or without values")
    memory = value.untyped_storage().nbytes()
    if value.numel() > LARGEST_VIEW and value.numel() * value.element_size() > memory:
        raise CheckpointError(f"{path}: holds a tensor of {value.numel():,} elements in {memory:,} bytes")
