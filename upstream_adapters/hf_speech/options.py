"""Read the upstream's options from the YAML file of ``-g``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.yaml_files import read_yaml


class Options(StrictSection):
    """Options in ``-g``."""

    num_layers: int | None = Field(default=None, ge=1)
    """Last transformer layer: ``hidden_states`` are the first ``num_layers + 1`` of the whole model's, and the layers
    above are neither loaded nor computed."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of weights and computation; features are always float32."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """``sdpa`` is PyTorch's fused attention; families without it use ``eager``, with a note in the log."""
    final_norm: bool = False
    """Make the last of ``hidden_states`` the model's output after its final norm, as in s3prl's own models and SUPERB,
    with any version of ``transformers``. Without this option it depends on the version: transformers 5 returns the last
    hidden state of pre-norm models (the large ones) before that norm."""
    window: float | Literal["audio"] | None = None
    """Window of the encoders of Whisper, Qwen2-Audio and Voxtral in seconds, or ``audio``: the utterance's duration,
    rounded up to a whole second. Audio is padded to it, and what lies beyond is not computed. The default is the window
    that the model was trained with, 30 s in the published ones; any other gives other features."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    allow_pickle: bool = False
    """Without effect, with a warning: ``.bin`` files are always read, with ``weights_only``, which runs no code."""
    local_files_only: bool = False
    """Do not contact the hub: the model must be in its cache."""

    @field_validator("window", mode="before")
    @classmethod
    def _known_word(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, str) and value != "audio"):
            raise ValueError("must be a number of seconds, or audio")
        return value


def read_options(source: str | Path | Mapping[str, Any] | None) -> Options:
    """Read options from a YAML file or a mapping.

    Raises:
        UsageError: no such file
        ConfigError: not YAML, an unknown key or a value out of range
    """
    return Options.read(*mapping_of(source))


def mapping_of(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Return the options of a YAML file or a mapping unchecked, and their name in messages.

    Raises:
        UsageError: no such file
        ConfigError: not YAML
    """
    if source is None or isinstance(source, Mapping):
        return dict(source or {}), "model_config"
    path = Path(source)
    values = read_yaml(path, "no such file; give a YAML file with options of hf_speech", f"-g {path}")
    return {} if values is None else values, str(path)
