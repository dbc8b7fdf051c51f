"""Run Whisper's encoder on windows of 30 s, and cut off the frames after the end of the audio."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s3prl_emotion.errors import UsageError

from .frontends import Layers, kind_of, layers_of
from .loading import RATE, Loaded

MAX_WINDOWS = 16  # windows to compute at once; each costs as much as 30 s of audio, however short the utterance


class WhisperFrontend:
    """Frontend of Whisper: log-Mel windows by its own preprocessor; longer audio is split into adjacent windows."""

    pads = False  # every window has the same length

    def __init__(self, loaded: Loaded) -> None:
        self._extractor = loaded.extractor
        self.window, self.windows_at_once = loaded.extractor.n_samples, MAX_WINDOWS
        self.rate = 2 * loaded.extractor.hop_length  # the second convolution has stride 2
        positions = loaded.model.config.max_source_positions
        if self.window != positions * self.rate:
            raise UsageError(
                f"{loaded.where}: preprocessor_config.json has windows of {self.window} samples, but config.json has"
                f" {positions} positions of {self.rate} samples each; the two files do not belong together"
            )

    def frames(self, samples: int) -> int:
        """Return the number of frames that contain audio."""
        return max(1, -(-samples // self.rate))

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Split utterances into windows, run the encoder, and join the windows of each utterance."""
        pieces = [waveform.split(self.window) for waveform in waveforms]
        flat = [piece for each in pieces for piece in each]
        done: list[Layers] = []
        for start in range(0, len(flat), MAX_WINDOWS):
            done += self._windows(model, flat[start : start + MAX_WINDOWS])
        joined, start = [], 0
        for each in pieces:
            windows = done[start : start + len(each)]
            joined.append(
                tuple(torch.cat(parts) if len(each) > 1 else parts[0] for parts in zip(*windows, strict=True))
            )
            start += len(each)
        return joined

    def settings(self) -> dict[str, Any]:
        """Return the settings of filters and window."""
        names = ("feature_size", "hop_length", "n_fft", "chunk_length", "padding_value")
        return {name: getattr(self._extractor, name) for name in names}

    def _windows(self, model: nn.Module, pieces: list[Tensor]) -> list[Layers]:
        inputs = self._extractor([piece.cpu().numpy() for piece in pieces], sampling_rate=RATE, return_tensors="pt")
        layers = layers_of(model(inputs["input_features"].to(**kind_of(model)), output_hidden_states=True))
        return [tuple(layer[row, : self.frames(len(piece))] for layer in layers) for row, piece in enumerate(pieces)]
