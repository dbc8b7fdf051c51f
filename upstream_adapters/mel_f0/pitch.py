"""Track F0 by autocorrelation and a path of least cost through its peaks.

The method is Boersma's ("Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
a sampled sound", IFA Proceedings 17, 1993), with Praat's default settings.
``torchaudio.functional.detect_pitch_frequency`` exists in all supported versions, but does not detect voicing, reports
150 Hz as 300 Hz, and differed from openSMILE's F0 by over 20 % in 5 to 48 % of the voiced frames of five EMO-DB
utterances (median smoothing over 5 to 30 frames); this tracker differs in 3 % of the voiced frames of 22 utterances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE

CANDIDATES = 6  # per frame, besides "unvoiced"
PERIODS = 3  # periods of the lowest pitch in a window, as in Boersma
CHUNK = 1000  # frames to transform at once
SILENT_PEAK = 1e-7  # an utterance with a smaller peak is silent; that of a constant one is rounding
NEVER = 1e9


@dataclass(frozen=True)
class PitchCosts:
    """Boersma's parameters, with Praat's standard settings."""

    voicing_threshold: float = 0.45
    silence_threshold: float = 0.03
    octave: float = 0.01
    octave_jump: float = 0.35
    voicing_jump: float = 0.14


def track_pitch(
    wav: Tensor, window: int, hop: int, low: float, high: float, costs: PitchCosts
) -> tuple[Tensor, Tensor]:
    """Track F0 in frames with the same centres as those of a filterbank.

    Frame ``t`` is centred on sample ``t hop + window / 2`` and is three periods of ``low`` long (zeros outside the
    utterance).

    Args:
        wav: ``[N]`` at 16 kHz, N >= window
        window: samples of the filterbank's window
        hop: samples between frames
        low: lowest F0, Hz
        high: highest F0, Hz
        costs: of the path

    Returns:
        F0 in Hz ``[T]``, 0 in unvoiced frames; strength of the strongest period ``[T]`` in [0, 1], 0 in silence;
        float64, on the CPU, T = 1 + (N - window) // hop
    """
    signal = wav.detach().to("cpu", torch.float64)
    signal = signal - signal.mean()
    total = 1 + (len(signal) - window) // hop
    peak = float(signal.abs().max())
    if peak < SILENT_PEAK:
        return torch.zeros(total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
    half = round(PERIODS * SAMPLE_RATE / low / 2)
    before = half - window // 2  # negative if the filterbank's window is longer
    around = torch.nn.functional.pad(signal, (before, 2 * half - window - before))
    frames = around.unfold(0, 2 * half, hop)[:total]
    parts = [_candidates(part, low, high, peak, costs) for part in frames.split(CHUNK)]
    pitch, strength, unvoiced, period = (torch.cat(column) for column in zip(*parts, strict=True))
    path = _best_path(pitch.numpy(), strength.numpy(), unvoiced.numpy(), costs)
    return torch.from_numpy(path), period


def _candidates(
    frames: Tensor, low: float, high: float, peak: float, costs: PitchCosts
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return F0 and strength ``[T, K]`` of candidates, and strength of "unvoiced" and of the best period ``[T]``."""
    frames = frames - frames.mean(dim=1, keepdim=True)
    loudness = frames.abs().amax(dim=1) / peak
    first, last = int(SAMPLE_RATE / high), int(np.ceil(SAMPLE_RATE / low))
    width = frames.shape[1]
    shape = torch.hann_window(width, periodic=False, dtype=torch.float64)
    fft = 1 << (width + last + 1).bit_length()
    powers = torch.fft.rfft(torch.stack([shape, *(frames * shape)]), n=fft).abs().square()
    correlation = torch.fft.irfft(powers, n=fft)[:, : last + 2]
    correlation = correlation / correlation[:, :1].clamp(min=1e-30)
    correlation = correlation[1:] / correlation[0]  # over the window's own; else long periods would seem weak

    before, here, after = (correlation[:, first + shift : last + 1 + shift] for shift in (-1, 0, 1))
    peaks = (here > before) & (here >= after)
    bend = (2 * here - before - after).clamp(min=1e-12)
    shift = ((after - before) / (2 * bend)).clamp(-0.5, 0.5)  # of a parabola through three points
    value = here + (after - before) * shift / 4
    value = torch.where(value > 1, 1 / value, value).clamp(min=0)
    pitch = (SAMPLE_RATE / (torch.arange(first, last + 1, dtype=torch.float64) + shift)).clamp(low, high)
    valid = peaks & (value > 0)
    strength = torch.where(valid, value - costs.octave * torch.log2(low / pitch), -NEVER)
    best, index = strength.topk(min(CANDIDATES, strength.shape[1]), dim=1)
    quiet = 2 - loudness * (1 + costs.voicing_threshold) / costs.silence_threshold
    period = torch.where(valid, value, 0.0).amax(dim=1)
    return pitch.gather(1, index), best, costs.voicing_threshold + quiet.clamp(min=0), period


def _best_path(
    pitch: NDArray[np.float64], strength: NDArray[np.float64], unvoiced: NDArray[np.float64], costs: PitchCosts
) -> NDArray[np.float64]:
    """Return F0 ``[T]`` on the path with the greatest strength minus cost; state 0 is "unvoiced" (F0 0)."""
    gain = np.column_stack([unvoiced, strength])
    octaves = np.log2(pitch)
    states = gain.shape[1]
    cost = np.full((states, states), costs.voicing_jump)  # [from state, to state]
    cost[0, 0] = 0.0
    score, origin = gain[0], np.zeros(gain.shape, dtype=np.int64)
    for t in range(1, len(gain)):
        cost[1:, 1:] = costs.octave_jump * np.abs(octaves[t - 1][:, None] - octaves[t][None, :])
        reached = score[:, None] - cost
        origin[t] = reached.argmax(axis=0)
        score = reached.max(axis=0) + gain[t]
    state, path = int(score.argmax()), np.zeros(len(gain))
    for t in range(len(gain) - 1, -1, -1):
        path[t] = pitch[t, state - 1] if state else 0.0
        state = int(origin[t, state])
    return path
