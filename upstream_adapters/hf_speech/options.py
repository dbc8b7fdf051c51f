"""Options of the upstream, from the YAML file of ``-g``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.yaml_files import read_yaml


class Options(StrictSection):
    """What ``-g`` may hold; the defaults hold without it."""

    num_layers: int | None = Field(default=None, ge=1)
    """Stop after this transformer layer: ``hidden_states`` are the first ``num_layers + 1`` of the whole model's, and
    the layers above are neither loaded nor computed."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and computation; features are float32 in any case."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """``sdpa`` is PyTorch's fused attention; families without it use ``eager``, and the log says so."""
    final_norm: bool = False
    """The last of ``hidden_states`` is the model's output, behind its final norm, whatever the version of
    ``transformers``; so it is in s3prl's own models, and SUPERB's. Without it, it is what the installed version gives:
    ahead of that norm for pre-norm models (the large ones) in version 5."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    allow_pickle: bool = False
    """Also take weights from ``.bin`` files, which are pickles (read with ``weights_only``), not safetensors alone."""
    local_files_only: bool = False
    """Never ask the hub: its cache must hold the model."""


def read_options(source: str | Path | Mapping[str, Any] | None) -> Options:
    """Read options from a YAML file, or check those of a mapping.

    Raises:
        UsageError: no such file
        ConfigError: not YAML, an unknown key or a value out of range
    """
    return Options.read(*mapping_of(source))


def mapping_of(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Options as they stand in a YAML file or a mapping, and what to call them in messages.

    Raises:
        UsageError: no such file
        ConfigError: not YAML
    """
    if source is None or isinstance(source, Mapping):
        return dict(source or {}), "model_config"
    path = Path(source)
    values = read_yaml(path, "no such file; give a YAML file with options of hf_speech", f"-g {path}")
    return {} if values is None else values, str(path)
