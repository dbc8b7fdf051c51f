"""Count a model's layers from its config, for benchmarks, which check layers before they load weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_emotion.upstreams.pretrained import quiet

from .families import FAMILIES
from .hubconf import _SHORTCUTS
from .loading import find_model, read_config
from .options import mapping_of, read_options
from .untrained import Untrained


def count_layers(name: str, ckpt: str | None, model_config: str | Path | dict[str, Any] | None) -> int | None:
    """Return the number of ``hidden_states``.

    Args:
        name: ``-u``
        ckpt: ``-k``
        model_config: ``-g``: a YAML file or mapping of options

    Returns:
        one more than the number of computed transformer layers; ``None`` if the config does not say

    Raises:
        UsageError: the model's config cannot be loaded
        ConfigError: an unknown option
    """
    import transformers

    if name == "hf_speech_random":
        options = Untrained.read(*mapping_of(model_config))
        if options.family not in FAMILIES:
            return None
        family = FAMILIES[options.family]
        kind = getattr(transformers, family.model).config_class
        depth = options.config.get(family.depth, getattr(kind(), family.depth))
        return depth + 1 if isinstance(depth, int) else None
    model = _SHORTCUTS.get(name, ckpt)
    if model is None:
        return None
    chosen = read_options(model_config)
    with quiet():
        family, config, _ = read_config(find_model(model, chosen, refresh=False))
    depth = getattr(config, family.depth)
    return min(chosen.num_layers or depth, depth) + 1
