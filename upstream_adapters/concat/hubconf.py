"""Name for ``-u``: concatenated features of several upstreams."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def concat(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build the upstreams that a YAML file (``-g``) lists, whose features are concatenated frame by frame."""
    return _UpstreamExpert(ckpt, model_config, refresh=refresh)
