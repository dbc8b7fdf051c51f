"""From waveforms to hidden states, one class per kind of model input; all sizes are those of an utterance alone."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from .batching import LengthwiseConvolutions, Padding, frame_mask, keep_padding_out
from .loading import RATE, Loaded

Layers = tuple[Tensor, ...]  # of one utterance, [T, D] each: its hidden states, and the model's output


class Frontend(Protocol):
    """Feeds one kind of model."""

    rate: int
    """Samples a frame."""
    pads: bool
    """Whether a batch is padded to its longest utterance, so that similar lengths belong together."""

    def frames(self, samples: int) -> int:
        """Frames of an utterance of so many samples; at least 1."""

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Hidden states of each utterance (``[N_b]``, 16 kHz)."""

    def settings(self) -> dict[str, Any]:
        """What of the preprocessor's settings can change the output."""


class WaveformFrontend:
    """Models with convolutions over the waveform (HuBERT, WavLM, wav2vec 2.0 and kin).

    A waveform shorter than the convolutions' field (400 samples) is padded with zeros up to it, after normalisation.
    """

    pads = True

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.model.config
        self._steps = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._extractor = loaded.extractor
        self._padding = Padding()
        self.rate, self._field = 1, 1
        for kernel, stride in reversed(self._steps):
            self._field = (self._field - 1) * stride + kernel
            self.rate *= stride
        keep_padding_out(loaded.model.encoder, self._padding)
        if getattr(config, "feat_extract_norm", "layer") == "group":
            loaded.model.feature_extractor = LengthwiseConvolutions(loaded.model.feature_extractor, self._padding)

    def frames(self, samples: int) -> int:
        """Frames that the convolutions make of so many samples."""
        length = max(samples, self._field)
        for kernel, stride in self._steps:
            length = (length - kernel) // stride + 1
        return length

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Pad, mask, run the model."""
        prepared = [self._prepare(waveform) for waveform in waveforms]
        samples = [len(waveform) for waveform in prepared]
        frames = [self.frames(length) for length in samples]
        inputs = pad_sequence(prepared, batch_first=True).to(**kind_of(model))
        mask = None
        if len(set(samples)) > 1:
            mask = frame_mask(samples, inputs.device).long()
            self._padding.samples, self._padding.mask = samples, frame_mask(frames, inputs.device)
        try:
            layers = layers_of(model(inputs, attention_mask=mask, output_hidden_states=True))
        finally:
            self._padding.samples = self._padding.mask = None
        return [tuple(layer[row, :length] for layer in layers) for row, length in enumerate(frames)]

    def settings(self) -> dict[str, Any]:
        """Normalisation."""
        return {"do_normalize": self._extractor.do_normalize}

    def _prepare(self, waveform: Tensor) -> Tensor:
        """Normalise over the waveform's own samples, where the model's preprocessor does."""
        made = self._extractor(waveform.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")["input_values"][0]
        return functional.pad(made, (0, max(0, self._field - len(made))))


class FilterbankFrontend:
    """w2v-BERT 2.0: pairs of log-Mel frames (25 ms every 10 ms), normalised over the utterance by its own preprocessor.

    Of an odd number of log-Mel frames the last has no partner; the model masks it, so it makes no frame here. Shorter
    waveforms than two log-Mel frames (560 samples) are padded with zeros up to them.
    """

    pads = True
    window, hop = 400, 160  # samples, fixed in SeamlessM4TFeatureExtractor

    def __init__(self, loaded: Loaded) -> None:
        self._extractor = loaded.extractor
        self.stride = loaded.extractor.stride
        self.rate = self.hop * self.stride
        self._shortest = self.window + self.hop * (self.stride - 1)

    def frames(self, samples: int) -> int:
        """Whole groups of ``stride`` log-Mel frames."""
        return (1 + (max(samples, self._shortest) - self.window) // self.hop) // self.stride

    def compute(self, model: nn.Module, waveforms: list[Tensor]) -> list[Layers]:
        """Pad, mask, run the model."""
        features = [self._features(waveform) for waveform in waveforms]
        frames = [len(rows) for rows in features]
        inputs = pad_sequence(features, batch_first=True).to(**kind_of(model))
        mask = frame_mask(frames, inputs.device).long() if len(set(frames)) > 1 else None
        layers = layers_of(model(inputs, attention_mask=mask, output_hidden_states=True))
        return [tuple(layer[row, :length] for layer in layers) for row, length in enumerate(frames)]

    def settings(self) -> dict[str, Any]:
        """Filters and stride."""
        return {name: getattr(self._extractor, name) for name in ("num_mel_bins", "stride")}

    def _features(self, waveform: Tensor) -> Tensor:
        """``[N]`` to ``[T, stride * bands]``."""
        padded = functional.pad(waveform, (0, max(0, self._shortest - len(waveform))))
        made = self._extractor(padded.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")["input_features"]
        return made[0, : self.frames(len(waveform))]


def layers_of(output: Any) -> Layers:
    """All layers ``[B, T, D]`` as ``transformers`` numbers them, and behind them the model's output.

    Versions of ``transformers`` differ in whether the last of ``hidden_states`` is taken ahead of the norm that follows
    the layers of a pre-norm model (5) or behind it, which makes it the model's output (4, and s3prl's own models).
    """
    return (*output.hidden_states, output.last_hidden_state)


def kind_of(model: nn.Module) -> dict[str, Any]:
    """Device and precision that the model takes."""
    parameter = next(model.parameters())
    return {"device": parameter.device, "dtype": parameter.dtype}
