"""Names for ``-u``: the recurrent autoencoder of paper 003, trained by ``s3prl-emotion pretrain-rae``."""

from __future__ import annotations

from typing import Any

from .expert import UpstreamExpert as _UpstreamExpert


def rae(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build the upstream of the encoder's states, a frame every 40 ms (Neumann & Vu 2019, section 2)."""
    return _UpstreamExpert(ckpt, model_config, "rae")


def rae_embedding(ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> _UpstreamExpert:
    """Build the upstream of the utterance's embedding, one frame per utterance (Neumann & Vu 2019, Fig. 1)."""
    return _UpstreamExpert(ckpt, model_config, "rae_embedding")
