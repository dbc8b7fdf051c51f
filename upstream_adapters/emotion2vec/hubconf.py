"""Names for ``-u``: ``emotion2vec_custom`` for any checkpoint of emotion2vec, shortcuts for the published ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s3prl_emotion.errors import UsageError

from .expert import UpstreamExpert as _UpstreamExpert

_SHORTCUTS = {
    "emotion2vec_base": "emotion2vec/emotion2vec_base",
    "emotion2vec_plus_seed": "emotion2vec/emotion2vec_plus_seed",
    "emotion2vec_plus_base": "emotion2vec/emotion2vec_plus_base",
    "emotion2vec_plus_large": "emotion2vec/emotion2vec_plus_large",
}
__all__ = ["emotion2vec_custom", *_SHORTCUTS]  # shortcuts are made in a loop, below


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


def _shortcut(name: str, hub_id: str) -> Callable[..., _UpstreamExpert]:
    def entry(
        ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
    ) -> _UpstreamExpert:
        if ckpt is not None:
            raise UsageError(
                f"-u {name} stands for {hub_id}; for another checkpoint use -u emotion2vec_custom -k {ckpt}"
            )
        return _UpstreamExpert(hub_id, model_config, refresh=refresh)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"Build {hub_id} from the hub; options as in :func:`emotion2vec_custom`."
    return entry


globals().update({name: _shortcut(name, hub_id) for name, hub_id in _SHORTCUTS.items()})
