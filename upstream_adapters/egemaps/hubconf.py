"""eGeMAPS by openSMILE: paper 004's input. Needs ``pip install s3prl-emotion[egemaps]`` once it is built."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def egemaps(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """88 eGeMAPS functionals, one frame an utterance (paper 004, "Evaluation": input features)."""
    return _UpstreamExpert(ckpt, model_config, level="functionals")


def egemaps_lld(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """25 eGeMAPS low-level descriptors every 10 ms."""
    return _UpstreamExpert(ckpt, model_config, level="lld")
