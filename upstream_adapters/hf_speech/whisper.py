"""Run an encoder like Whisper's on windows of audio, and cut off the frames after the end of the audio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .frontends import Layers, kind_of, layers_of
from .loading import RATE, Loaded
from .window import shortened

MAX_WINDOWS = 16  # windows to compute at once; each costs as much as a whole window, however short the utterance


class WhisperFrontend:
    """Frontend of Whisper, Qwen2-Audio and Voxtral: log-Mel windows by the model's own preprocessor.

    Longer audio is split into adjacent windows.
    """

    pads = False  # what is computed together has windows of the same length

    def __init__(self, loaded: Loaded) -> None:
        if loaded.window is None:
            raise TypeError("Loaded.window must be set for encoders like Whisper's")
        self._extractor, self._window = loaded.extractor, loaded.window
        self.window, self.window_step, self.windows_at_once = self._window.samples, self._window.step, MAX_WINDOWS
        self.rate = self._window.rate

    def frames(self, samples: int) -> int:
        """Return the number of frames that contain audio."""
        return max(1, -(-samples // self.rate))

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Split utterances into windows, run the encoder on windows of equal length, and join those of an utterance."""
        pieces = [waveform.split(self.window) for waveform in waveforms]
        flat = [piece for each in pieces for piece in each]
        done: dict[int, Layers] = {}
        for samples, rows in self._batches(flat):
            done |= dict(zip(rows, self._windows(model, [flat[row] for row in rows], samples), strict=True))
        joined, start = [], 0
        for each in pieces:
            windows = [done.pop(row) for row in range(start, start + len(each))]
            joined.append(
                tuple(torch.cat(parts) if len(each) > 1 else parts[0] for parts in zip(*windows, strict=True))
            )
            start += len(each)
        return joined

    def settings(self) -> dict[str, Any]:
        """Return the settings of filters and window."""
        names = ("feature_size", "hop_length", "n_fft", "chunk_length", "padding_value")
        settings = {name: getattr(self._extractor, name) for name in names}
        return settings if self._window.option is None else settings | {"window": self._window.option}

    def _batches(self, pieces: list[Tensor]) -> Iterator[tuple[int, list[int]]]:
        """Yield the pieces to compute at once: samples of the window, and positions in ``pieces``."""
        alike: dict[int, list[int]] = {}
        for row, piece in enumerate(pieces):
            alike.setdefault(self._window.padded(len(piece)), []).append(row)
        for samples, rows in alike.items():
            for start in range(0, len(rows), MAX_WINDOWS):
                yield samples, rows[start : start + MAX_WINDOWS]

    def _windows(self, model: nn.Module, pieces: list[Tensor], samples: int) -> list[Layers]:
        waveforms = [piece.cpu().numpy() for piece in pieces]
        inputs = self._extractor(waveforms, sampling_rate=RATE, return_tensors="pt", max_length=samples)
        features = inputs["input_features"].to(**kind_of(model))
        with shortened(model, self._window, samples) as weights:
            layers = layers_of(functional_call(model, weights, features, {"output_hidden_states": True}))
        return [tuple(layer[row, : self.frames(len(piece))] for layer in layers) for row, piece in enumerate(pieces)]
