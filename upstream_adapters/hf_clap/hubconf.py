"""Names for ``-u``: ``hf_clap_custom`` for any CLAP, shortcuts for the published ones."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.upstreams.shortcuts import shortcuts as _shortcuts

from .expert import UpstreamExpert as _UpstreamExpert

_SHORTCUTS = {
    "hf_clap_htsat_unfused": "laion/clap-htsat-unfused",
    "hf_clap_htsat_fused": "laion/clap-htsat-fused",
    "hf_clap_larger_general": "laion/larger_clap_general",
}
__all__ = ["hf_clap_custom", *_SHORTCUTS]  # shortcuts are made below


def hf_clap_custom(
    ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
) -> _UpstreamExpert:
    """Build the audio encoder of a CLAP.

    Args:
        ckpt: ``-k``: a local directory, or the id of a model on the hub
        model_config: ``-g``: a YAML file or mapping of options, see :class:`.expert.Options`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: no ``ckpt``, or it cannot be loaded
        ConfigError: an option is unknown or out of range
    """
    if ckpt is None:
        raise UsageError("-u hf_clap_custom: -k is required: a local directory, or a hub id as in -k org/name")
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)


def _build(*args: Any, **kwargs: Any) -> _UpstreamExpert:
    return _UpstreamExpert(*args, **kwargs)


globals().update(_shortcuts(_SHORTCUTS, _build, "hf_clap_custom", __name__))
