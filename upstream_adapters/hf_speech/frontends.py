"""Compute hidden states from waveforms, with one class per kind of model input, independently of the batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from s3prl_emotion.errors import AudioError
from s3prl_emotion.masking import frame_mask

from .batching import LengthwiseConvolutions, Padding, keep_padding_out
from .loading import RATE, Loaded

Layers = tuple[Tensor, ...]  # of one utterance, [T, D] each: its hidden states, and the model's output


class Frontend(Protocol):
    """Prepare the input of one kind of model, and run the model."""

    rate: int
    """Samples per frame."""
    pads: bool
    """Whether a batch is padded to its longest utterance, so that similar lengths should be batched."""

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples, at least 1."""

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Compute the hidden states of each utterance (``[N_b]``, 16 kHz)."""

    def settings(self) -> dict[str, Any]:
        """Return the preprocessor's settings that can change the output."""


class WaveformFrontend:
    """Frontend of models with convolutions over the waveform (HuBERT, WavLM, wav2vec 2.0 and relatives).

    A waveform shorter than the receptive field (400 samples) is padded with zeros, after normalisation.
    """

    pads = True

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.model.config
        self._steps = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._extractor = loaded.extractor
        self._padding = Padding()
        self.rate, self._field = spans(self._steps)
        keep_padding_out(loaded.model.encoder, self._padding)
        if getattr(config, "feat_extract_norm", "layer") == "group":
            loaded.model.feature_extractor = LengthwiseConvolutions(loaded.model.feature_extractor, self._padding)

    def frames(self, samples: int) -> int:
        """Return the number of frames after the convolutions."""
        return convolved(max(samples, self._field), self._steps)

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Pad and mask the inputs, and run the model."""
        prepared = [waveform_input(self._extractor, waveform, self._field) for waveform in waveforms]
        samples = [len(waveform) for waveform in prepared]
        frames = [self.frames(length) for length in samples]
        inputs = pad_sequence(prepared, batch_first=True).to(**kind_of(model))
        mask = None
        if len(set(samples)) > 1:
            mask = _mask(samples, inputs.device).long()
            self._padding.samples, self._padding.mask = samples, _mask(frames, inputs.device)
        try:
            layers = layers_of(model(inputs, attention_mask=mask, output_hidden_states=True))
        finally:
            self._padding.samples = self._padding.mask = None
        return [tuple(layer[row, :length] for layer in layers) for row, length in enumerate(frames)]

    def settings(self) -> dict[str, Any]:
        """Return whether waveforms are normalised."""
        return {"do_normalize": self._extractor.do_normalize}


class FilterbankFrontend:
    """Frontend of w2v-BERT 2.0: pairs of log-Mel frames (25 ms / 10 ms), normalised by the model's preprocessor.

    If the number of log-Mel frames is odd, the model masks the last one, which gives no frame here. Waveforms shorter
    than two log-Mel frames (560 samples) are padded with zeros.
    """

    pads = True
    window, hop = 400, 160  # samples, fixed in SeamlessM4TFeatureExtractor

    def __init__(self, loaded: Loaded) -> None:
        self._extractor = loaded.extractor
        self.stride = loaded.extractor.stride
        self.rate = self.hop * self.stride
        self._shortest = self.window + self.hop * (self.stride - 1)

    def frames(self, samples: int) -> int:
        """Return the number of complete groups of ``stride`` log-Mel frames."""
        return (1 + (max(samples, self._shortest) - self.window) // self.hop) // self.stride

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Pad and mask the inputs, and run the model."""
        features = [self._features(waveform) for waveform in waveforms]
        frames = [len(rows) for rows in features]
        inputs = pad_sequence(features, batch_first=True).to(**kind_of(model))
        mask = _mask(frames, inputs.device).long() if len(set(frames)) > 1 else None
        layers = layers_of(model(inputs, attention_mask=mask, output_hidden_states=True))
        return [tuple(layer[row, :length] for layer in layers) for row, length in enumerate(frames)]

    def settings(self) -> dict[str, Any]:
        """Return the number of filters and the stride."""
        return {name: getattr(self._extractor, name) for name in ("num_mel_bins", "stride")}

    def _features(self, waveform: Tensor) -> Tensor:
        """Compute the input ``[T, stride * bands]`` of a waveform ``[N]``."""
        padded = functional.pad(waveform, (0, max(0, self._shortest - len(waveform))))
        rows = self._extractor(padded.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")["input_features"]
        return rows[0, : self.frames(len(waveform))]


class UnpaddedFrontend(ABC):
    """Frontend of models that padding would change: only utterances whose input has one length share a pass."""

    pads = False
    rate: int

    def __init__(self, loaded: Loaded) -> None:
        self._extractor = loaded.extractor

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples, at least 1."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the preprocessor's settings that can change the output."""

    @abstractmethod
    def prepare(self, waveform: Tensor) -> Tensor:
        """Compute the model's input, whose first dimension is time, from a waveform ``[N]``."""

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Run the model once for each length."""
        alike: dict[int, list[int]] = {}
        inputs = [self.prepare(waveform) for waveform in waveforms]
        for row, prepared in enumerate(inputs):
            alike.setdefault(len(prepared), []).append(row)
        done: dict[int, Layers] = {}
        for rows in alike.values():
            batch = torch.stack([inputs[row] for row in rows]).to(**kind_of(model))
            done |= dict(zip(rows, zip(*layers_of(model(batch, output_hidden_states=True)), strict=True), strict=True))
        return [done[row] for row in range(len(waveforms))]


class MoonshineFrontend(UnpaddedFrontend):
    """Frontend of Moonshine: three convolutions over the waveform, with a norm over all of its frames after the first.

    A waveform shorter than the receptive field (895 samples) is padded with zeros.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        convolutions = (loaded.model.conv1, loaded.model.conv2, loaded.model.conv3)
        self._steps = [(convolution.kernel_size[0], convolution.stride[0]) for convolution in convolutions]
        self.rate, self._field = spans(self._steps)

    def frames(self, samples: int) -> int:
        """Return the number of frames after the convolutions."""
        return convolved(max(samples, self._field), self._steps)

    def settings(self) -> dict[str, Any]:
        """Return whether waveforms are normalised."""
        return {"do_normalize": self._extractor.do_normalize}

    def prepare(self, waveform: Tensor) -> Tensor:
        """Normalise the waveform, if the model's preprocessor does, and pad it."""
        return waveform_input(self._extractor, waveform, self._field)


class ParakeetFrontend(UnpaddedFrontend):
    """Frontend of Parakeet: log-Mel frames, normalised over the utterance by the model's preprocessor.

    Waveforms shorter than two log-Mel frames (320 samples), which have no variance, are padded with zeros.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._config, self._hop = loaded.model.config, loaded.extractor.hop_length
        self.rate = self._hop * self._config.subsampling_factor

    def frames(self, samples: int) -> int:
        """Return the number of frames after the strided convolutions."""
        length, kernel = max(samples // self._hop, 2), self._config.subsampling_conv_kernel_size
        for _ in range(int(math.log2(self._config.subsampling_factor))):
            length = (length + (kernel - 1) // 2 * 2 - kernel) // self._config.subsampling_conv_stride + 1
        return length

    def settings(self) -> dict[str, Any]:
        """Return the settings of the filters."""
        names = ("feature_size", "hop_length", "n_fft", "win_length", "preemphasis")
        return {name: getattr(self._extractor, name) for name in names}

    def prepare(self, waveform: Tensor) -> Tensor:
        """Compute log-Mel frames ``[T, bands]``, without the last one that the preprocessor masks."""
        frames, most = self.frames(len(waveform)), self._config.max_position_embeddings
        if frames > most and transformers.__version__.startswith("4."):
            raise AudioError(
                f"{len(waveform) / RATE:.0f} s of audio are {frames} frames, but Parakeet takes {most} at most "
                f"({most * self.rate / RATE:.0f} s) in transformers 4; cut it, or install transformers 5"
            )
        padded = functional.pad(waveform, (0, max(0, 2 * self._hop - len(waveform))))
        inputs = self._extractor(padded.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")
        return inputs["input_features"][0, : len(padded) // self._hop]


def spans(steps: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the samples per frame and the receptive field of convolutions ``(kernel, stride)``, in their order."""
    rate = field = 1
    for kernel, stride in reversed(steps):
        field = (field - 1) * stride + kernel
        rate *= stride
    return rate, field


def convolved(length: int, steps: Sequence[tuple[int, int]]) -> int:
    """Return the length after convolutions ``(kernel, stride)`` without padding."""
    for kernel, stride in steps:
        length = (length - kernel) // stride + 1
    return length


def waveform_input(extractor: Any, waveform: Tensor, shortest: int) -> Tensor:
    """Normalise over the waveform's own samples, if the preprocessor does, and pad with zeros to ``shortest``."""
    values = extractor(waveform.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")["input_values"][0]
    return functional.pad(values, (0, max(0, shortest - len(values))))


def layers_of(output: Any) -> Layers:
    """Return all layers ``[B, T, D]`` as ``transformers`` numbers them, followed by the model's output.

    transformers 5 returns the last of a pre-norm model's ``hidden_states`` before the final norm; version 4, like
    s3prl's own models, returns it after the norm, where it equals the model's output.
    """
    return (*output.hidden_states, output.last_hidden_state)


def kind_of(model: nn.Module) -> dict[str, Any]:
    """Return the device and precision of the model's input."""
    parameter = next(model.parameters())
    return {"device": parameter.device, "dtype": parameter.dtype}


def _mask(lengths: list[int], device: torch.device) -> Tensor:
    return frame_mask(torch.tensor(lengths, device=device), max(lengths))
