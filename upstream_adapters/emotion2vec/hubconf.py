"""Names for ``-u``: ``emotion2vec_custom`` for any checkpoint of emotion2vec, shortcuts for the published ones."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.upstreams.shortcuts import shortcuts as _shortcuts

from .expert import UpstreamExpert as _UpstreamExpert

_SHORTCUTS = {
    "emotion2vec_base": "emotion2vec/emotion2vec_base",
    "emotion2vec_plus_seed": "emotion2vec/emotion2vec_plus_seed",
    "emotion2vec_plus_base": "emotion2vec/emotion2vec_plus_base",
    "emotion2vec_plus_large": "emotion2vec/emotion2vec_plus_large",
}
__all__ = ["emotion2vec_custom", *_SHORTCUTS]  # shortcuts are made below


def emotion2vec_custom(
    ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
) -> _UpstreamExpert:
    """Build emotion2vec of any size.

    Args:
        ckpt: ``-k``: the file ``model.pt``, a folder that holds it, or the id of a model on the hub
        model_config: ``-g``: a YAML file of options, see :class:`.expert.Options`, or a mapping
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: no ``ckpt``, or there is none
        CheckpointError: it is damaged, or not of emotion2vec
        ConfigError: an option is unknown or out of range
    """
    if ckpt is None:
        raise UsageError("-u emotion2vec_custom: -k is required: model.pt, its folder, or a hub id as in -k org/name")
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)


def _build(*args: Any, **kwargs: Any) -> _UpstreamExpert:
    return _UpstreamExpert(*args, **kwargs)


globals().update(_shortcuts(_SHORTCUTS, _build, "emotion2vec_custom", __name__))
