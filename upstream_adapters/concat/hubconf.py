"""Several upstreams side by side."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def concat(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Features of several upstreams beside each other, frame by frame; a YAML file (``-g``) says which."""
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)
