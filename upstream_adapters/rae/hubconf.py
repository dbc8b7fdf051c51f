"""The recurrent autoencoder of paper 003; ``s3prl-emotion pretrain-rae`` makes its checkpoint."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def rae(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """The encoder's states, a frame every 40 ms (Neumann & Vu 2019, section 2)."""
    return _UpstreamExpert(ckpt, model_config, "rae")


def rae_embedding(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """The utterance's embedding, one frame an utterance (Neumann & Vu 2019, Fig. 1)."""
    return _UpstreamExpert(ckpt, model_config, "rae_embedding")
