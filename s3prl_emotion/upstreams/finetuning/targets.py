"""Find an upstream's transformer layers, and the linear layers in them that get adapters."""

from __future__ import annotations

from typing import Any

from torch import nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.recipe import FinetuningSection

KINDS = ("attention", "feed_forward")
USUAL = {  # of upstreams that do not name them, such as s3prl's own
    "attention": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "feed_forward": ("fc1", "fc2"),
}
MOST_NAMED = 30  # linear layers in a message


def trained_layers(upstream: Any, section: FinetuningSection, name: str) -> list[nn.Module] | None:
    """Return the transformer layers that are trained or get adapters; ``None``: the upstream does not name its own.

    Args:
        upstream: the model, after unused layers were cut off
        section: the recipe's ``upstream:``
        name: ``-u``, for messages

    Raises:
        ConfigError: it names none and the section needs them, or has fewer than ``layers``
    """
    find = getattr(upstream, "transformer_layers", None)
    if find is None:
        needs = next((key for key in ("layers", "dropout") if getattr(section, key) is not None), None)
        if needs is not None:
            raise ConfigError(
                f"upstream.{needs}: -u {name} does not say which its transformer layers are; use "
                "hf_speech_custom or another adapter that does, or trainable lora with targets by name"
            )
        return None
    layers = list(find())
    if section.layers is None:
        return layers
    if section.layers > len(layers):
        raise ConfigError(
            f"upstream.layers: {section.layers}, but {len(layers)} transformer layers of -u {name} are computed; give "
            f"1 to {len(layers)}"
        )
    return layers[-section.layers :]


def adapter_targets(
    upstream: nn.Module, layers: list[nn.Module] | None, section: FinetuningSection, name: str
) -> list[str]:
    """Return the full names of the linear layers that get adapters.

    Args:
        upstream: the model
        layers: of which linear layers are taken; ``None``: from the whole upstream
        section: the recipe's ``upstream:``
        name: ``-u``, for messages

    Raises:
        ConfigError: a name that no linear layer has; the message lists those that there are
    """
    inside = None if layers is None else {id(part) for layer in layers for part in layer.modules()}
    linear = [
        path
        for path, part in upstream.named_modules()
        if isinstance(part, nn.Linear) and (inside is None or id(part) in inside)
    ]
    wanted = _names(upstream, section)
    for target in wanted:
        if not any(_fits(path, target) for path in linear):
            raise ConfigError(
                f"upstream.targets: -u {name} has no linear layer named {target!r}; it has {_listed(linear)}"
            )
    return [path for path in linear if any(_fits(path, target) for target in wanted)]


def _names(upstream: Any, section: FinetuningSection) -> list[str]:
    if isinstance(section.targets, list):
        return section.targets
    kinds = KINDS if section.targets == "both" else (section.targets,)
    of_kind = getattr(upstream, "adapter_targets", USUAL.__getitem__)
    return [target for kind in kinds for target in of_kind(kind)]


def _fits(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _listed(linear: list[str]) -> str:
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in linear))
    if not names:
        return "none at all, so LoRA cannot be used with it"
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
