"""The autoencoder's input: a Mel spectrogram in dB, scaled to [-1, 1] utterance by utterance.

Paper 003 (Neumann & Vu 2019, section 2) gives 128 Mel bands, frames of 80 ms that overlap by 40 ms, and auDeep as the
program. What follows from auDeep (Freitag et al. 2017) and its defaults: a Hann window, powers, dB relative to the
utterance's loudest value, clipping below a threshold as an option, and the scale of each utterance. What is ours:
16 kHz throughout, as of every upstream here (auDeep keeps a file's own rate); an FFT that is zero-padded to a power of
two and triangles that are not rounded to its bins (:class:`~s3prl_emotion.upstreams.filterbank.LogMel`); silence is
``LEAST_POWER``, where auDeep takes the least power of the utterance that is not 0.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.filterbank import FilterbankSection, LogMel

LEAST_POWER = 1e-8  # of a filter; below what 16 bits can hold
LEAST_RANGE = 1e-4  # dB; an utterance that varies by less is constant, as in auDeep
DECIBEL = 10 / math.log(10)  # from natural logarithms of powers


class SpectrogramSection(StrictSection):
    """``spectrogram:`` of the pretraining's configuration; the defaults are paper 003's (section 2)."""

    num_mels: int = Field(default=128, ge=1)
    window_ms: float = Field(default=80.0, ge=1, le=1000)
    hop_ms: float = Field(default=40.0, ge=1, le=1000)
    clip_db: float | None = Field(default=None, lt=0)
    """Values further below the utterance's loudest than this (dB, e.g. -60) are raised to it; ``None``: no clipping.
    Paper 003 does not say whether it clips."""


class MelSpectrogramDb(torch.nn.Module):
    """Mel spectrogram of one waveform, in dB, scaled so that its least value is -1 and its greatest 1.

    Args:
        options: of the spectrogram
        where: what the options are of, for messages

    Raises:
        ConfigError: a Mel filter is so narrow that no FFT bin falls into it
    """

    def __init__(self, options: SpectrogramSection, where: str = "spectrogram") -> None:
        super().__init__()
        self.clip_db = options.clip_db
        self.log_mel = LogMel(
            FilterbankSection(
                num_mels=options.num_mels,
                f_max=SAMPLE_RATE / 2,
                window_ms=options.window_ms,
                hop_ms=options.hop_ms,
                window="hann",
                floor=LEAST_POWER,
            ),
            where,
        )

    @property
    def window(self) -> int:
        """Samples of a window, 1,280 by default."""
        return self.log_mel.window

    @property
    def hop(self) -> int:
        """Samples between frames, 640 by default."""
        return self.log_mel.hop

    def frames(self, samples: int) -> int:
        """Frames of an utterance of so many samples (16 kHz); a shorter one than a window is padded to one."""
        return self.log_mel.frames(samples)

    def forward(self, wav: Tensor) -> Tensor:
        """Waveform ``[N]`` (16 kHz) to ``[T, num_mels]`` in [-1, 1], float32; zeros where all values are alike."""
        decibels = DECIBEL * self.log_mel(wav)
        decibels = decibels - decibels.max()
        if self.clip_db is not None:
            decibels = decibels.clamp(min=self.clip_db)
        least = decibels.min()
        if -least <= LEAST_RANGE:
            return torch.zeros_like(decibels)
        return 1 - 2 * decibels / least
