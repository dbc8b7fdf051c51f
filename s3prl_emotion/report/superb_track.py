"""Find which of SUPERB's tracks a system belongs to.

SUPERB's rules: *constrained* compares frozen representations under the same downstream, of which only a few
hyper-parameters of training may be tuned (Yang et al. 2021 search only the learning rate); *less constrained* allows
other downstreams on a frozen upstream; *unconstrained* allows anything, including a fine-tuned upstream. The downstream
of its emotion task is mean pooling; ``recipes/superb`` has the recipe of each head that can be it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.corpora.protocol import is_random
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.files.folders import heads as suite_heads
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.host.heads import add_suite_heads
from s3prl_emotion.recipe import CROSS_ENTROPY, LORA, TOP_LAYERS, DataSection, RunnerSection, read_recipe

CONSTRAINED, LESS_CONSTRAINED, UNCONSTRAINED, UNKNOWN = "constrained", "less constrained", "unconstrained", "unknown"
STOCK_TASK = "emotion"  # s3prl's own, which is no head of this suite
RUNNER = (
    "total_steps",
    "epochs",
    "gradient_clipping",
    "eval_step",
    "train_dataloader",
    "fp16",
    "bf16",
    "early_stopping",
    "ema_decay",
)
DATA = ("valid_ratio", "max_duration", "cut_eval", "class_weights", "balanced_sampling")
UPSTREAM = {  # SUPERB: the weighted sum of all hidden states
    "upstream_feature_selection": "hidden_states",
    "upstream_layer_selection": None,
    "upstream_feature_normalize": False,
}


@dataclass(frozen=True)
class Track:
    """A track of SUPERB with the reason why a system belongs to it; without a name if SUPERB has no such task."""

    name: str = ""
    reason: str = ""


def superb_track(head: str | None, config: Mapping[str, Any], upstream: Mapping[str, Any] | None = None) -> Track:
    """Return the track of a system.

    Args:
        head: name of the head, or ``None`` if it is not known
        config: recipe, as a metrics file has it (``config``); empty if it is not known
        upstream: options of the upstream, as a metrics file has them (``upstream``)

    Returns:
        the track; ``unknown`` if the recipe is not known or not one of this suite's
    """
    options = upstream or {}
    if is_random(config):
        return Track()
    if head is None or (_expert(head) is not None and not fits_superb_task(head)):
        return Track()
    if options.get("upstream_trainable"):
        return Track(UNCONSTRAINED, f"the upstream was trained too{_trained_part(config)}")
    if head == STOCK_TASK:
        return Track(UNKNOWN, "s3prl's own emotion task leaves no record of its recipe")
    if not _superb_recipe(head).is_file():
        return Track(LESS_CONSTRAINED, f"{head} is not SUPERB's downstream, which is mean pooling")
    if not config:
        return Track(UNKNOWN, "its recipe is not known")
    try:
        ours, stock = _settings(head, config), _superb_settings(head)
    except ConfigError as error:
        return Track(UNKNOWN, f"its recipe cannot be read: {error}")
    ours |= {key: options[key] for key in UPSTREAM if options.get(key, UPSTREAM[key]) != UPSTREAM[key]}
    stock = {**UPSTREAM, **stock}
    if ours["pooling"] != stock["pooling"]:
        return Track(LESS_CONSTRAINED, f"pooling {ours['pooling']}; SUPERB's downstream is mean pooling")
    other = [f"{key} {_shown(value)} (SUPERB: {_shown(stock.get(key))})" for key, value in ours.items()
             if value != stock.get(key)]  # fmt: skip
    other += [f"no {key} (SUPERB: {value})" for key, value in stock.items() if key not in ours and key not in UPSTREAM]
    if other:
        return Track(LESS_CONSTRAINED, f"mean pooling, but {', '.join(other)}")
    return Track(CONSTRAINED, "mean pooling and training as SUPERB's, of which only the learning rate is free")


def fits_superb_task(head: str) -> bool:
    """Return whether ``head`` is a head that classifies utterances, as SUPERB's emotion recognition task does."""
    expert = _expert(head)
    return expert is not None and expert.learns_classes


@functools.cache
def _expert(head: str) -> Any:
    """Return the class of a head, or ``None`` where no such head is known here."""
    if head not in suite_heads():
        host.register()
        return host.expert_class(head) if is_emotion_head(head) else None
    host.patch()
    add_suite_heads()  # register() would import every upstream of s3prl too, which takes seconds
    return host.expert_class(head)


def _superb_recipe(head: str) -> Path:
    return recipes_folder() / "superb" / f"{head}.yaml"


@functools.cache
def _superb_settings(head: str) -> dict[str, Any]:
    return _settings(head, read_recipe(_superb_recipe(head)))


@functools.cache
def _superb_model(head: str) -> dict[str, Any]:
    """Return SUPERB's ``modelrc``; keys that it lacks have no effect under its pooling."""
    return dict(read_recipe(_superb_recipe(head))["downstream_expert"]["modelrc"])


def _settings(head: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the constrained track fixes, with defaults filled in.

    Paths, logging, seeds and the batches of evaluation are not among them.

    Raises:
        ConfigError: not a recipe of this suite
    """
    section = config.get("downstream_expert")
    if not isinstance(section, dict) or not isinstance(section.get("datarc"), dict):
        raise ConfigError("downstream_expert.datarc is missing")
    runner = RunnerSection.read(config.get("runner"), "runner")
    data = DataSection.read(section["datarc"], "downstream_expert.datarc")
    model = _expert(head).model_section.read(section.get("modelrc") or {}, "downstream_expert.modelrc").model_dump()
    settings = {key: value for key, value in model.items() if key in _superb_model(head)}
    settings |= {key: getattr(runner, key) for key in RUNNER} | {key: getattr(data, key) for key in DATA}
    # SUPERB's 4 x 8 utterances a step equal 32 x 1: the gradient is that of their mean
    settings["utterances a step"] = data.train_batch_size * runner.gradient_accumulate_steps
    settings |= {f"optimizer.{key}": value for key, value in (config.get("optimizer") or {}).items() if key != "lr"}
    settings |= {key: config[key] for key in ("scheduler", "specaug") if config.get(key)}
    if data.augment is not None:
        settings["augment"] = ", ".join(data.augment.names)
    settings["best_metric"] = section.get("best_metric") or "WA"
    loss = section.get("class_loss") or CROSS_ENTROPY
    settings["class_loss"] = loss.get("name", CROSS_ENTROPY) if isinstance(loss, Mapping) else loss
    settings |= {key: section[key] for key in ("layer",) if section.get(key) is not None}
    return settings


def _trained_part(config: Mapping[str, Any]) -> str:
    """Return in words which part of the upstream a recipe trains, where it says so."""
    section = config.get("upstream")
    trainable = section.get("trainable") if isinstance(section, dict) else None
    return {LORA: " (LoRA adapters)", TOP_LAYERS: " (its last layers)"}.get(str(trainable), "")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
