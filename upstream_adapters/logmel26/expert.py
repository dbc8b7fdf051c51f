"""Compute ``logmel26``, the input of the network of paper 003 (Neumann & Vu 2019)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s3prl_emotion.upstreams.filterbank import FilterbankSection, LogMel
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, read_options, refuse_checkpoint

ADAPTER_VERSION = 1


class UpstreamExpert(UtteranceUpstream):
    """``-u logmel26``: 26 log-Mel filterbanks, 0-6.5 kHz, windows of 25 ms every 10 ms (paper 003, section 2).

    Args:
        ckpt: must be None
        model_config: ``-g``, options (:class:`FilterbankSection`)

    Raises:
        UsageError: ``-k`` was given
        ConfigError: an unknown option or a value out of range
    """

    def __init__(self, ckpt: Any = None, model_config: Any = None) -> None:
        super().__init__()
        refuse_checkpoint(ckpt, "logmel26")
        self.options = read_options(FilterbankSection, model_config, "logmel26")
        self.log_mel = LogMel(self.options, "logmel26")

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute one layer ``[T, num_mels]`` of a waveform ``[N]``."""
        return [self.log_mel(wav)]

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples between frames, 160 by default."""
        return self.log_mel.hop

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        return self.log_mel.frames(samples)

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"adapter": "logmel26", "version": ADAPTER_VERSION, **self.options.model_dump()}
