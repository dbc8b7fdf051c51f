"""Compute the autoencoder's input: a Mel spectrogram in dB, scaled to [-1, 1] in each utterance.

Paper 003 (Neumann & Vu 2019, section 2) specifies 128 Mel bands, frames of 80 ms that overlap by 40 ms, and auDeep as
the program. From auDeep (Freitag et al. 2017) and its defaults come a Hann window, powers, dB relative to the loudest
value of the utterance, optional clipping below a threshold, and scaling by utterance. Three things differ: audio is at
16 kHz, as for every upstream here (auDeep keeps a file's own rate); the FFT is zero-padded to a power of two, with
triangles that are not rounded to its bins (:class:`~s3prl_emotion.upstreams.filterbank.LogMel`); and silence is
``LEAST_POWER``, whereas auDeep uses the lowest non-zero power of the utterance.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.limits import MOST_BANDS
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.filterbank import FilterbankSection, LogMel

LEAST_POWER = 1e-8  # of a filter; below the resolution of 16 bits
LEAST_RANGE = 1e-4  # dB; an utterance with a smaller range is constant, as in auDeep
DECIBEL = 10 / math.log(10)  # factor from natural logarithms of powers to dB


class SpectrogramSection(StrictSection):
    """``spectrogram:`` of the configuration; the defaults are those of paper 003, section 2."""

    num_mels: int = Field(default=128, ge=1, le=MOST_BANDS)
    window_ms: float = Field(default=80.0, ge=1, le=1000)
    hop_ms: float = Field(default=40.0, ge=1, le=1000)
    clip_db: float | None = Field(default=None, lt=0)
    """Lowest value relative to the loudest of the utterance (dB, e.g. -60); lower ones are raised to it. ``None``: no
    clipping. Paper 003 does not say whether it clips."""


class MelSpectrogramDb(torch.nn.Module):
    """Mel spectrogram of one waveform, in dB, scaled to a minimum of -1 and a maximum of 1.

    Args:
        options: of the spectrogram
        where: origin of the options, for messages

    Raises:
        ConfigError: a Mel filter is too narrow to contain an FFT bin
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
        """Return the number of frames of an utterance (16 kHz); one shorter than a window is padded to one."""
        return self.log_mel.frames(samples)

    def forward(self, wav: Tensor) -> Tensor:
        """Compute ``[T, num_mels]`` in [-1, 1], float32, of a waveform ``[N]``; zeros if all values are equal."""
        decibels = DECIBEL * self.log_mel(wav)
        decibels = decibels - decibels.max()
        if self.clip_db is not None:
            decibels = decibels.clamp(min=self.clip_db)
        least = decibels.min()
        if -least <= LEAST_RANGE:
            return torch.zeros_like(decibels)
        return 1 - 2 * decibels / least
