"""CLAP's audio encoder as an upstream: one embedding an utterance, or its frames.

Y. Wu, K. Chen, T. Zhang, Y. Hui, T. Berg-Kirkpatrick, S. Dubnov, "Large-scale contrastive language-audio pretraining
with feature fusion and keyword-to-caption augmentation", ICASSP 2023. The encoder is HTS-AT (K. Chen, X. Du, B. Zhu,
Z. Ma, T. Berg-Kirkpatrick, S. Dubnov, ICASSP 2022).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE, resample
from s3prl_emotion.errors import UsageError
from s3prl_emotion.rng import own_seed
from s3prl_emotion.upstreams.hub_options import HubOptions
from s3prl_emotion.upstreams.pretrained import config_values, find_pretrained
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, read_options

ADAPTER_VERSION = 1  # increment when features change
KINDS = ("clap", "clap_audio_model")
SETTINGS = ("sampling_rate", "feature_size", "hop_length", "fft_window_size", "max_length_s", "frequency_min",
            "frequency_max", "top_db", "truncation", "padding")  # fmt: skip


class Options(HubOptions):
    """Options in ``-g``."""

    output: Literal["embedding", "frames"] = "embedding"
    """``embedding``: the utterance's vector in the space that audio shares with text, before its length is made 1.
    ``frames``: the encoder's last layer, averaged over frequency."""


def check_kind(values: dict[str, Any], where: str) -> None:
    """Refuse a model of another kind.

    Raises:
        UsageError: says what it is
    """
    if values.get("model_type") not in KINDS:
        raise UsageError(
            f"{where}: model_type {values.get('model_type')!r} in config.json is no CLAP; supported: {', '.join(KINDS)}"
        )


class UpstreamExpert(UtteranceUpstream):
    """CLAP's audio encoder, each utterance computed by itself, in windows of the model's length (10 s).

    An utterance below a window is repeated, as the model's preprocessor does. A longer one is split into adjacent
    windows: no part of it is drawn at random, and feature fusion, which draws, is off.

    Args:
        ckpt: local directory, or id of a model on the hub
        model_config: YAML file or mapping of :class:`Options`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: the model cannot be loaded, or is no CLAP
        ConfigError: an option is unknown or out of range
    """

    def __init__(self, ckpt: str | Path, model_config: Any = None, refresh: bool = False) -> None:
        import transformers

        super().__init__()
        options = read_options(Options, model_config, "hf_clap")
        self.one_frame = options.output == "embedding"
        source = find_pretrained(
            ckpt,
            "-k",
            example="-u hf_clap_custom -k DIR",
            check=check_kind,
            force_download=refresh,
            **options.model_dump(exclude={"output"}),
        )
        config = source.config()
        check_kind(config.to_dict(), source.where)
        audio = getattr(config, "audio_config", config)
        self._extractor = source.extractor()
        self._check_extractor(audio, source.where)
        self._values = config_values(audio)
        self.clap_rate, self._window = int(self._extractor.sampling_rate), int(self._extractor.nb_max_samples)
        stride = audio.patch_stride if isinstance(audio.patch_stride, int) else audio.patch_stride[1]
        across = audio.spec_size // audio.num_mel_bins  # the spectrogram is folded into a square of so many rows
        self._frames = audio.spec_size // 2 ** (len(audio.depths) - 1) // stride * across  # of a window
        self.model = source.model(transformers.ClapAudioModelWithProjection, audio)
        self.window_samples = self._window * SAMPLE_RATE // self.clap_rate
        commit = source.commit()
        self.hub_commit = (source.location, commit) if commit else None
        self.eval()  # the host calls train() if it trains the upstream too

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the embedding ``[1, D]`` or the frames ``[T, D]`` of a waveform ``[N]``."""
        samples = torch.from_numpy(resample(wav.detach().cpu().numpy(), SAMPLE_RATE, self.clap_rate))
        windows = samples.split(self._window)
        if self.one_frame:
            embeddings = torch.cat([self._compute(window).audio_embeds for window in windows])
            share = torch.tensor([len(window) / len(samples) for window in windows]).to(embeddings)
            return [share[None] @ embeddings]
        frames = torch.cat(
            [self._compute(window).last_hidden_state.mean(dim=2)[0].transpose(0, 1) for window in windows]
        )
        return [frames[: self.frames(len(wav))]]

    def get_downsample_rates(self, key: str | None = None) -> int | Fraction:
        """Return the samples per frame, at 16 kHz: 5,000 (0.3 s), nominally 16,000 for embeddings."""
        if self.one_frame:
            return SAMPLE_RATE
        rate = Fraction(self._window * SAMPLE_RATE, self.clap_rate * self._frames)
        return int(rate) if rate.denominator == 1 else rate

    def frames(self, samples: int) -> int:
        """Return the number of frames that contain audio, of an utterance with ``samples`` samples (16 kHz)."""
        return 1 if self.one_frame else int(-(-samples // self.get_downsample_rates()))

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on, besides weights and code."""
        return {
            "adapter": "hf_clap",
            "adapter_version": ADAPTER_VERSION,
            "output": "embedding" if self.one_frame else "frames",
            "config": self._values,
            "preprocessor": {name: getattr(self._extractor, name) for name in SETTINGS},
            "commit": self.hub_commit[1] if self.hub_commit else None,
        }

    def _compute(self, window: Tensor) -> Any:
        with own_seed(0):  # the preprocessor draws which utterance of a batch to fuse, which is overridden
            inputs = self._extractor(window.numpy(), sampling_rate=self.clap_rate, return_tensors="pt")
        parameter = next(self.model.parameters())
        longer = torch.zeros(1, 1, dtype=torch.bool, device=parameter.device)
        return self.model(inputs["input_features"].to(parameter), is_longer=longer)

    def _check_extractor(self, audio: Any, where: str) -> None:
        """Check that the preprocessor's spectrogram fits the encoder.

        Raises:
            UsageError: it has other bands, or more frames
        """
        bands, frames = self._extractor.feature_size, self._extractor.nb_max_samples // self._extractor.hop_length + 1
        most = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
        if bands != audio.num_mel_bins or frames > most:
            raise UsageError(
                f"{where}: preprocessor_config.json has {frames} frames of {bands} bands, config.json at most {most} "
                f"of {audio.num_mel_bins}; the two files do not belong together"
            )
