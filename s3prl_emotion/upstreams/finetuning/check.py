"""Check a recipe's ``upstream:`` section against the command line, before anything is built."""

from __future__ import annotations

from argparse import Namespace
from importlib.util import find_spec
from typing import Any

from s3prl_emotion.errors import CheckpointError, UsageError
from s3prl_emotion.recipe import ALL, LORA, TOP_LAYERS, FinetuningSection

WORDS = {LORA: "LoRA adapters", TOP_LAYERS: "the trained layers", ALL: "all weights"}
PEFT = 'pip install "s3prl-emotion[peft]"'


def check_finetuning(args: Namespace, config: dict[str, Any]) -> FinetuningSection | None:
    """Return what ``-f`` trains of the upstream; ``None``: every weight, or nothing without ``-f``.

    Args:
        args: command line of the experiment
        config: its recipe

    Raises:
        ConfigError: a key of the section is unknown or out of range
        UsageError: the section without ``-f``, or LoRA without peft
    """
    values = config.get("upstream")
    if values is None:
        return None
    section = FinetuningSection.read(values, "upstream")
    if not args.upstream_trainable:
        raise UsageError(
            f"upstream.trainable: {section.trainable} needs -f, which trains the upstream; give it, or leave the "
            "section upstream out of the recipe"
        )
    if section.trainable == LORA and find_spec("peft") is None:
        raise UsageError(f"upstream.trainable: lora needs the package peft: {PEFT}")
    return section


def trains_part(section: FinetuningSection | None) -> bool:
    """Return whether a part of the upstream is trained, and the rest of its weights stay as they were."""
    return section is not None and section.trainable != ALL


def check_part(state: dict[str, Any], section: FinetuningSection | None, path: str | None) -> None:
    """Check that a run trains the part of its upstream that its checkpoint holds.

    Args:
        state: the checkpoint; empty where the run has none
        section: of the run
        path: of the checkpoint, for messages

    Raises:
        CheckpointError: it holds LoRA adapters, layers or all of the upstream, and the run has something else
    """
    if "Upstream" not in state:
        return
    theirs = _trainable(state)
    ours = section.trainable if section is not None else ALL
    if theirs != ours:
        raise CheckpointError(
            f"{path}: holds {trained_part(state)} of its upstream, this run has {WORDS[ours]}; give -f "
            "and the section upstream of its recipe (-e takes both from the checkpoint)"
        )


def trained_part(state: dict[str, Any]) -> str | None:
    """Return in words what a checkpoint holds of its upstream; ``None``: nothing."""
    return WORDS.get(_trainable(state), WORDS[ALL]) if "Upstream" in state else None


def _trainable(state: dict[str, Any]) -> str:
    section = state["Config"].get("upstream")
    return str(section.get("trainable")) if isinstance(section, dict) else ALL
