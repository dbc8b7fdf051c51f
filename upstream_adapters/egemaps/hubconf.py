"""Names for ``-u``: eGeMAPS by openSMILE, paper 004's input; needs ``pip install s3prl-emotion[egemaps]``."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def egemaps(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build the 88 eGeMAPS functionals, one frame per utterance (paper 004, "Evaluation": input features)."""
    return _UpstreamExpert(ckpt, model_config, level="functionals")


def egemaps_lld(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build the 25 eGeMAPS low-level descriptors every 10 ms."""
    return _UpstreamExpert(ckpt, model_config, level="lld")
