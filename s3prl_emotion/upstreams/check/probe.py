"""Call an upstream on synthetic signals, and check and measure the features that it returns."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import EmotionError, nearest

SECONDS = (1.0, 2.3, 3.7)  # s; lengths in one batch


class CheckError(Exception):
    """A check failed; the message is the reason."""


def foreign(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call an upstream's code.

    Raises:
        CheckError: it raises anything, which is the reason
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise CheckError(reason(error)) from error


def reason(error: BaseException) -> str:
    """Describe an exception in one line: its type and message, or the line that raised it if it has none."""
    message = " ".join(str(error).split())[:300]
    if isinstance(error, EmotionError):  # a complete message
        return message
    if not message:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        message = "".join(f"{Path(frame.filename).name} line {frame.lineno}: {frame.line}" for frame in last)
    return f"{type(error).__name__}: {message}"


@lru_cache(maxsize=16)
def speech_like(seconds: float) -> Tensor:
    """Return a signal that resembles speech: gliding harmonics in syllables, and bursts of noise.

    Args:
        seconds: length, which also seeds the voice: the same length gives the same signal

    Returns:
        waveform ``[N]`` at 16 kHz, float32, in [-1, 1]
    """
    draw = np.random.default_rng(round(1000 * seconds))
    clock = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = draw.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * clock + draw.uniform(0, 6)))  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    voice = sum(np.sin(number * phase) / number for number in range(1, 16))
    syllables = np.sin(2 * np.pi * 2 * clock + draw.uniform(0, 3))  # 4 a second
    bursts = draw.normal(size=len(clock)) * (np.sin(2 * np.pi * 1.3 * clock) > 0.8)
    samples = 0.2 * voice * syllables**2 + 0.1 * bursts + 0.002 * draw.normal(size=len(clock))
    return torch.from_numpy(np.clip(samples, -1, 1).astype(np.float32))


class Probe:
    """Call the upstream, check the shape of its features, and keep results that several checks need."""

    def __init__(self, model: nn.Module, selection: str, device: torch.device) -> None:
        self.model, self.selection, self.device = model, selection, device
        self.layers = self.dim = 0
        self.rate = Fraction(0)  # samples per frame
        self.frames: dict[int, int] = {}  # samples -> frames, of utterances computed alone
        self.kept: dict[float, Tensor] = {}
        self.held = resident_bytes()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def __call__(self, waveforms: list[Tensor]) -> Tensor:
        """Compute the features ``[L, B, T, D]`` of waveforms ``[N_b]``: finite, on the CPU."""
        inputs = [wav.to(self.device, copy=True) for wav in waveforms]
        output = foreign(self.model, inputs)
        if not all(torch.equal(wav.cpu(), original) for wav, original in zip(inputs, waveforms, strict=True)):
            raise CheckError("it changes its input waveforms; work on a copy")
        layers = self._layers_of(output)
        shapes = sorted({tuple(layer.shape) for layer in layers})
        if len(shapes) > 1:
            raise CheckError(f"layers differ in shape ({', '.join(map(str, shapes))}); a weighted sum needs one shape")
        shape = shapes[0]
        if len(shape) != 3 or shape[0] != len(waveforms):
            raise CheckError(f"features must be [B, T, D] with B = {len(waveforms)}, not {list(shape)}")
        if shape[1] == 0:
            raise CheckError(f"no frame for {max(map(len, waveforms)) / SAMPLE_RATE:g} s")
        before = self.layers, self.dim
        self.layers, self.dim = len(layers), shape[2]
        if before not in ((0, 0), (self.layers, self.dim)):
            raise CheckError(f"{before[0]} layers of {before[1]} before, now {self.layers} of {self.dim}")
        features = torch.stack([layer.float().cpu() for layer in layers])
        if not torch.isfinite(features).all():
            bad = int((~torch.isfinite(features)).sum())
            raise CheckError(f"{bad} of {features.numel()} values are NaN or infinite")
        return features

    def alone(self, seconds: float) -> Tensor:
        """Compute the features ``[L, T, D]`` of an utterance alone; short ones only once."""
        if seconds in self.kept:
            return self.kept[seconds]
        samples = speech_like(seconds)
        features = self([samples])[:, 0]
        self.frames[len(samples)] = features.shape[1]
        if seconds in SECONDS:
            self.kept[seconds] = features
        return features

    def _layers_of(self, output: Any) -> list[Tensor]:
        if not isinstance(output, dict):
            raise CheckError(f"it must return a dict, not {type(output).__name__}")
        if self.selection not in output:
            raise CheckError(f"gives no {self.selection!r}{nearest(self.selection, output)}")
        features = output[self.selection]
        layers = list(features.values()) if isinstance(features, dict) else features
        layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        if not layers or not all(isinstance(layer, Tensor) and layer.is_floating_point() for layer in layers):
            raise CheckError(f"{self.selection!r} must be float tensors [B, T, D], one or a list of them")
        return layers

    @property
    def one_frame(self) -> bool:
        """Whether every utterance has one frame, as with functionals."""
        return set(self.frames.values()) == {1}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest norm of a frame's difference over the RMS norm of its layer's frames; both ``[L, T, D]``."""
    if ours.shape != theirs.shape:
        return float("inf")
    distance = (ours.double() - theirs.double()).norm(dim=2).amax(dim=1)
    norm = theirs.double().square().sum(dim=2).mean(dim=1).sqrt()
    return float((distance / norm.clamp_min(1e-12)).max())


def resident_bytes() -> int:
    """Return the bytes of the process in memory, on Linux, else 0."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.is_file() else 0
