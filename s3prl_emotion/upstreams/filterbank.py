"""Compute log-Mel filterbanks, for the upstreams ``logmel26``, ``mel_f0`` and ``rae``."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_BANDS
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.utterance import padded_to

LEAST_SPREAD = 1e-2  # of log energies over time, for `normalize`; that of speech is above 1
WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}


class FilterbankSection(StrictSection):
    """Options of a log-Mel filterbank; the defaults are those of paper 003, section 2, or ours where it gives none."""

    num_mels: int = Field(default=26, ge=1, le=MOST_BANDS)
    f_min: float = Field(default=0.0, ge=0)
    """Hz"""
    f_max: float = Field(default=6500.0, gt=0, le=SAMPLE_RATE / 2)
    """Hz"""
    window_ms: float = Field(default=25.0, ge=1, le=1000)
    hop_ms: float = Field(default=10.0, ge=1, le=1000)
    window: Literal["hamming", "hann"] = "hamming"
    """Not in the paper; openSMILE, which the paper uses, has a Hamming window for Mel spectra in its emobase set."""
    floor: float = Field(default=1e-8, gt=0)
    """Lowest energy of a filter, so that silence has a logarithm. Not in the paper; below the resolution of 16 bits."""
    normalize: Literal["none", "utterance"] = "none"
    """``utterance``: zero mean and unit variance over time, per filter. The paper mentions no normalisation."""


class LogMel(torch.nn.Module):
    """Log energies of triangular Mel filters.

    Frame ``t`` covers the samples ``[t hop, t hop + window)``. There is no padding: trailing samples that do not fill a
    window are dropped. Frames are zero-padded to the next power of two for the FFT, as in openSMILE. The Mel scale is
    HTK's, ``2595 log10(1 + f / 700)``; triangles have height 1 and are linear in Hz (openSMILE's are linear in Mel).
    ``log(max(energy, floor))``, natural.

    Args:
        options: of the filterbank
        upstream: name, for messages

    Raises:
        ConfigError: a filter is too narrow to contain an FFT bin, or ``f_min`` is not below ``f_max``
    """

    def __init__(self, options: FilterbankSection, upstream: str) -> None:
        super().__init__()
        if options.f_min >= options.f_max:
            raise ConfigError(f"{upstream}.f_min: must be below f_max ({options.f_max:g} Hz), got {options.f_min:g}")
        self.window = round(options.window_ms * SAMPLE_RATE / 1000)
        self.hop = round(options.hop_ms * SAMPLE_RATE / 1000)
        fft = 1 << (self.window - 1).bit_length()
        left = (fft - self.window) // 2  # torch.stft centres a window that is shorter than the FFT
        self.margins = (left, fft - self.window - left)
        self.floor, self.normalize = options.floor, options.normalize
        with warnings.catch_warnings():  # about the empty filters, which are an error below
            warnings.simplefilter("ignore")
            self.spectrogram = MelSpectrogram(
                SAMPLE_RATE,
                n_fft=fft,
                win_length=self.window,
                hop_length=self.hop,
                f_min=options.f_min,
                f_max=options.f_max,
                n_mels=options.num_mels,
                window_fn=WINDOWS[options.window],
                power=2.0,
                center=False,
                norm=None,
                mel_scale="htk",
            )
        empty = int((self.spectrogram.mel_scale.fb.amax(dim=0) == 0).sum())
        if empty:
            raise ConfigError(
                f"{upstream}.num_mels: {empty} of {options.num_mels} filters contain no FFT bin; give fewer, or a "
                "longer window_ms"
            )

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance; one shorter than a window is padded with zeros to one."""
        return 1 + max(0, samples - self.window) // self.hop

    def forward(self, wav: Tensor) -> Tensor:
        """Compute the log energies ``[T, num_mels]``, float32, of a waveform ``[N]``."""
        with torch.autocast(wav.device.type, enabled=False):  # energies exceed the range of half precision
            padded = torch.nn.functional.pad(padded_to(wav.float(), self.window), self.margins)
            energies = self.spectrogram(padded).t().clamp(min=self.floor).log()
            if self.normalize == "utterance":
                exact = energies.double()  # a steady tone varies only by rounding, which must stay small
                spread = exact.std(dim=0, correction=0).clamp(min=LEAST_SPREAD)
                energies = ((exact - exact.mean(dim=0)) / spread).float()
        return energies.contiguous()
