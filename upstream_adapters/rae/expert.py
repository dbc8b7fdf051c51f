"""Compute ``rae`` and ``rae_embedding`` with the encoder of a recurrent autoencoder (paper 003, Neumann & Vu 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.store.identity import weights_hash
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, read_options

from .configuration import load_autoencoder
from .spectrogram import MelSpectrogramDb

ADAPTER_VERSION = 1
EMBEDDING_RATE = SAMPLE_RATE  # nominal samples per embedding, as of eGeMAPS functionals


class RaeSection(StrictSection):
    """Options of ``rae``, ``-g``; the checkpoint decides the spectrogram and the sizes."""

    output: Literal["frames", "embedding"] = "frames"
    """``embedding``: the same features as ``rae_embedding``."""


class EmbeddingSection(StrictSection):
    """Options of ``rae_embedding``: none."""


class UpstreamExpert(UtteranceUpstream):
    """The encoder of a pretrained autoencoder, without the decoder.

    Args:
        ckpt: ``-k``: checkpoint of ``s3prl-emotion pretrain-rae``
        model_config: ``-g``, options (:class:`RaeSection`)
        name: ``rae``: states of each encoder layer ``[T, H]``; ``rae_embedding``: the embedding ``[1, E]``

    Raises:
        UsageError: no checkpoint was given
        CheckpointError: it is damaged, or not of a pretraining
        ConfigError: an unknown option or a value out of range
    """

    def __init__(self, ckpt: Any = None, model_config: Any = None, name: str = "rae") -> None:
        super().__init__()
        if ckpt is None:
            raise UsageError(f"-u {name}: -k is required: the rae.ckpt that s3prl-emotion pretrain-rae writes")
        options = read_options(RaeSection if name == "rae" else EmbeddingSection, model_config, name)
        self.one_frame = getattr(options, "output", "embedding") == "embedding"
        model, config, self.step = load_autoencoder(Path(ckpt).expanduser())
        self.settings = {"spectrogram": config.spectrogram.model_dump(), "model": config.model.model_dump()}
        self.spectrogram = MelSpectrogramDb(config.spectrogram, name)
        self.encoder = model.encoder
        self.eval()  # the host calls train() if it trains the upstream too

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the states of each layer ``[T, H]``, or the embedding ``[1, E]``, of a waveform ``[N]``."""
        features = self.spectrogram(wav)
        states, embedding = self.encoder(features.unsqueeze(0), torch.tensor([len(features)], device=wav.device))
        return [embedding.float()] if self.one_frame else [layer[0].float() for layer in states]

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame: 640 for states, nominally 16,000 for the single frame of embeddings."""
        return EMBEDDING_RATE if self.one_frame else self.spectrogram.hop

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        return 1 if self.one_frame else self.spectrogram.frames(samples)

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {
            "adapter": "rae",
            "version": ADAPTER_VERSION,
            "output": "embedding" if self.one_frame else "frames",
            "trained": {"steps": self.step, "weights": weights_hash(self.encoder)},
            **self.settings,
        }
