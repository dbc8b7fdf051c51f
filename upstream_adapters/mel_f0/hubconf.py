"""Name for ``-u``: Mel filterbank and pitch, paper 002's MFBF0."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def mel_f0(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build log-Mel filterbank and F0, frame by frame (paper 002, section 4, MFBF0)."""
    return _UpstreamExpert(ckpt, model_config)
