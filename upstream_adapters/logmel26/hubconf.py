"""Name for ``-u``: log-Mel filterbanks of paper 003."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def logmel26(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build 26 log-Mel filterbanks, 0-6.5 kHz, 25 ms / 10 ms (Neumann & Vu 2019, section 2)."""
    return _UpstreamExpert(ckpt, model_config)
