"""emotion2vec as an upstream: the input of its first block and the output of every block, or their means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, padded_to, read_options

from .loading import find_checkpoint, load
from .model import HOP, KERNELS, SHORTEST, STRIDES

ADAPTER_VERSION = 1  # increment when features change


class Options(StrictSection):
    """Options of all names, ``-g``."""

    output: Literal["frames", "embedding"] = "frames"
    """``embedding``: the mean of each layer over the frames; that of the last is FunASR's utterance vector."""
    revision: str = Field(default="main", min_length=1)
    """Branch, tag or commit of a model from the hub."""


class UpstreamExpert(UtteranceUpstream):
    """emotion2vec, each utterance computed by itself.

    With ``-f`` all of it is trained, without dropout and masks, which belong to its pretraining.

    Args:
        ckpt: file of weights, folder that holds one, or id of a model on the hub
        model_config: YAML file or mapping of :class:`Options`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: there is no such checkpoint
        CheckpointError: it is damaged, or not of emotion2vec
        ConfigError: an option is unknown or out of range
    """

    def __init__(self, ckpt: str | Path, model_config: Any = None, refresh: bool = False) -> None:
        super().__init__()
        options = read_options(Options, model_config, "emotion2vec")
        path, self.hub_commit = find_checkpoint(ckpt, options.revision, refresh)
        self.one_frame = options.output == "embedding"
        self.model = load(path)
        self.eval()  # the host calls train() if it trains the upstream too

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the layers ``[T, D]``, or their means ``[1, D]``, of a waveform ``[N]``; at least one frame."""
        layers = self.model(padded_to(wav.float(), SHORTEST))
        return [layer.mean(dim=0, keepdim=True) for layer in layers] if self.one_frame else layers

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame: 320 (20 ms), nominally 16,000 for the single frame of embeddings."""
        return SAMPLE_RATE if self.one_frame else HOP

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        if self.one_frame:
            return 1
        count = max(samples, SHORTEST)
        for kernel, stride in zip(KERNELS, STRIDES, strict=True):
            count = (count - kernel) // stride + 1
        return count

    def cut_after(self, layer: int) -> None:
        """Drop the blocks above ``layer``; the hidden states up to it stay the same."""
        prenet, blocks = self.model.prenet, self.model.blocks
        self.model.prenet, self.model.blocks = prenet[:layer], blocks[: max(0, layer - len(prenet))]

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on, besides weights and code."""
        return {
            "adapter": "emotion2vec",
            "adapter_version": ADAPTER_VERSION,
            "output": "embedding" if self.one_frame else "frames",
            "commit": self.hub_commit[1] if self.hub_commit else None,
        }
