"""Compute ``mel_f0``, the baseline features MFBF0 of paper 002 (Mitra et al. 2025)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_BANDS
from s3prl_emotion.upstreams.filterbank import FilterbankSection, LogMel
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, padded_to, read_options, refuse_checkpoint

from .pitch import PitchCosts, track_pitch

ADAPTER_VERSION = 1


class MelF0Section(FilterbankSection):
    """Options. Paper 002 describes MFBF0 only as "mel-filterbank and pitch" (section 4): all values are ours.

    ``normalize`` applies to the filterbank only, since an F0 of 0 means unvoiced.
    """

    num_mels: int = Field(default=40, ge=1, le=MOST_BANDS)
    f_max: float = Field(default=8000.0, gt=0, le=SAMPLE_RATE / 2)
    """Hz"""
    pitch_min: float = Field(default=60.0, ge=20)
    """Hz"""
    pitch_max: float = Field(default=500.0, le=2000)
    """Hz"""
    f0: Literal["log", "hz"] = "log"
    """Natural logarithm of F0 in Hz, in the range of the log energies, or Hz; 0 in unvoiced frames either way."""
    voicing: bool = False
    """Append a column with the strength of the strongest period, in [0, 1]. The paper mentions only pitch."""
    voicing_threshold: float = Field(default=0.45, gt=0, lt=1)
    silence_threshold: float = Field(default=0.03, gt=0, lt=1)


class UpstreamExpert(UtteranceUpstream):
    """``-u mel_f0``: ``num_mels`` log-Mel energies, then F0, then with ``voicing`` its strength; 25 ms / 10 ms.

    The filterbank is :class:`s3prl_emotion.upstreams.filterbank.LogMel`; F0 (:mod:`.pitch`, no gradient) has the same
    frame centres.

    Args:
        ckpt: must be None
        model_config: ``-g``, options (:class:`MelF0Section`)

    Raises:
        UsageError: ``-k`` was given
        ConfigError: an unknown option or a value out of range
    """

    def __init__(self, ckpt: Any = None, model_config: Any = None) -> None:
        super().__init__()
        refuse_checkpoint(ckpt, "mel_f0")
        self.options = read_options(MelF0Section, model_config, "mel_f0")
        if self.options.pitch_min >= self.options.pitch_max:
            raise ConfigError(
                f"mel_f0.pitch_min: must be below pitch_max ({self.options.pitch_max:g} Hz), "
                f"got {self.options.pitch_min:g}"
            )
        self.log_mel = LogMel(self.options, "mel_f0")
        self.costs = PitchCosts(self.options.voicing_threshold, self.options.silence_threshold)

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute one layer ``[T, num_mels + 1]``, or ``+ 2``, of a waveform ``[N]``."""
        options, bank = self.options, self.log_mel
        f0, period = track_pitch(
            padded_to(wav, bank.window), bank.window, bank.hop, options.pitch_min, options.pitch_max, self.costs
        )
        if options.f0 == "log":
            f0 = torch.where(f0 > 0, f0.clamp(min=1.0).log(), 0.0)
        columns = [f0, period] if options.voicing else [f0]
        return [torch.cat([bank(wav), torch.stack(columns, dim=1).to(wav.device, torch.float32)], dim=1)]

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples between frames, 160 by default."""
        return self.log_mel.hop

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        return self.log_mel.frames(samples)

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"adapter": "mel_f0", "version": ADAPTER_VERSION, **self.options.model_dump()}
