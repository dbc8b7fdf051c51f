"""Make models with random weights, for baselines, demonstrations and tests, which are then loaded as any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.files.folders import CACHE_VARIABLE, cache_folder
from s3prl_emotion.files.writing import writing_folder
from s3prl_emotion.limits import wrong_size
from s3prl_emotion.recipe import StrictSection

from .families import FAMILIES
from .loading import default_extractor
from .options import mapping_of


class Untrained(StrictSection):
    """Options of ``hf_speech_random`` in ``-g``."""

    family: str = "hubert"
    """``model_type`` of a model's ``config.json``: hubert, wavlm, whisper, moonshine, …, or that of an encoder inside a
    larger model: parakeet_encoder, qwen2_audio_encoder, voxtral_encoder."""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """Values of its configuration in ``transformers``, e.g. ``{num_hidden_layers: 24, hidden_size: 1024}``."""


def save_untrained(source: str | Path | Mapping[str, Any] | None) -> Path:
    """Make a model in the cache, unless it is there; the same options give the same weights.

    Returns:
        the model's folder, in the format of ``save_pretrained``

    Raises:
        ConfigError: an unknown family, key or size
        UsageError: the cache cannot be written
    """
    values, where = mapping_of(source)
    options = Untrained.read(values, where)
    if options.family not in FAMILIES:
        raise ConfigError(f"{where}.family: unknown family {options.family!r}{nearest(options.family, FAMILIES)}")
    key = hashlib.sha256(json.dumps(options.model_dump(), sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "random_models" / f"{options.family}-{key}"
    if not (folder / "model.safetensors").is_file():
        try:
            _save(options, folder, where)
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be written ({error.strerror or error}); name a folder in {CACHE_VARIABLE}"
            ) from error
    return folder


def _save(options: Untrained, folder: Path, where: str) -> None:
    """Write the model's folder, unless another process writes it first: the weights are the same."""
    import transformers

    family = FAMILIES[options.family]
    kind = getattr(transformers, family.model)
    unknown = [name for name in options.config if name not in kind.config_class().to_dict()]
    if unknown:
        raise ConfigError(
            f"{where}.config.{unknown[0]}: unknown key{nearest(unknown[0], kind.config_class().to_dict())}"
        )
    reason = wrong_size(options.config)
    if reason is not None:
        raise ConfigError(f"{where}.config: {reason}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model = kind(kind.config_class(**options.config))
        with writing_folder(folder) as scratch:
            model.save_pretrained(scratch)
            default_extractor(family, model.config).save_pretrained(scratch)
    except (ValueError, RuntimeError, TypeError, AssertionError, ImportError) as error:
        raise ConfigError(f"{where}.config: no such model: {' '.join(str(error).split())[:200]}") from error
