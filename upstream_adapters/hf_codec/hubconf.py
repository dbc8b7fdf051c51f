"""Names for ``-u``: ``hf_codec_custom`` for any EnCodec or DAC, shortcuts for the published ones."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.upstreams.shortcuts import shortcuts as _shortcuts

from .expert import UpstreamExpert as _UpstreamExpert

_SHORTCUTS = {
    "hf_encodec_24khz": "facebook/encodec_24khz",
    "hf_dac_16khz": "descript/dac_16khz",
    "hf_dac_24khz": "descript/dac_24khz",
    "hf_dac_44khz": "descript/dac_44khz",
}
__all__ = ["hf_codec_custom", *_SHORTCUTS]  # shortcuts are made below


def hf_codec_custom(
    ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
) -> _UpstreamExpert:
    """Build the encoder of a codec.

    Args:
        ckpt: ``-k``: a local directory, or the id of a model on the hub
        model_config: ``-g``: a YAML file or mapping of options, see
            :class:`s3prl_emotion.upstreams.hub_options.HubOptions`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: no ``ckpt``, or it cannot be loaded
        ConfigError: an option is unknown or out of range
    """
    if ckpt is None:
        raise UsageError("-u hf_codec_custom: -k is required: a local directory, or a hub id as in -k org/name")
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)


def _build(*args: Any, **kwargs: Any) -> _UpstreamExpert:
    return _UpstreamExpert(*args, **kwargs)


globals().update(_shortcuts(_SHORTCUTS, _build, "hf_codec_custom", __name__))
