"""The encoder of a neural codec as an upstream: its continuous latents, ahead of the quantizer.

EnCodec: A. Défossez, J. Copet, G. Synnaeve, Y. Adi, "High fidelity neural audio compression", TMLR 2023, section 3.1.
DAC: R. Kumar, P. Seetharaman, A. Luebs, I. Kumar, K. Kumar, "High-fidelity audio compression with improved RVQGAN",
NeurIPS 2023, section 3.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE, resample, resampled_length
from s3prl_emotion.errors import UsageError
from s3prl_emotion.upstreams.hub_options import HubOptions
from s3prl_emotion.upstreams.pretrained import config_values, find_pretrained
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, read_options

ADAPTER_VERSION = 1  # increment when features change
KINDS = {"encodec": "EncodecModel", "dac": "DacModel"}  # class of transformers of each model_type


def check_kind(values: dict[str, Any], where: str) -> None:
    """Refuse a model of another kind, and codecs whose input is not one channel as it is.

    Raises:
        UsageError: says what it is
    """
    kind = values.get("model_type")
    if kind not in KINDS:
        raise UsageError(f"{where}: model_type {kind!r} in config.json is no codec; supported: {', '.join(KINDS)}")
    if kind == "encodec" and (values.get("audio_channels", 1) != 1 or values.get("chunk_length_s") is not None):
        raise UsageError(
            f"{where}: this EnCodec takes several channels, or audio in chunks, as that of 48 kHz does; use one for a "
            "single channel without chunks, as facebook/encodec_24khz is"
        )


class UpstreamExpert(UtteranceUpstream):
    """The encoder of EnCodec or DAC, each utterance computed by itself.

    Audio is resampled to the codec's rate. The decoder and the quantizer are dropped.

    Args:
        ckpt: local directory, or id of a model on the hub
        model_config: YAML file or mapping of :class:`HubOptions`
        refresh: download again, even if the hub's cache has the model

    Raises:
        UsageError: the model cannot be loaded, or is no codec of one channel
        ConfigError: an option is unknown or out of range
    """

    def __init__(self, ckpt: str | Path, model_config: Any = None, refresh: bool = False) -> None:
        import transformers

        super().__init__()
        options = read_options(HubOptions, model_config, "hf_codec")
        source = find_pretrained(
            ckpt,
            "-k",
            example="-u hf_codec_custom -k DIR",
            check=check_kind,
            force_download=refresh,
            **options.model_dump(),
        )
        config = source.config()
        check_kind(config.to_dict(), source.where)
        self._extractor = source.extractor()
        self._values = config_values(config)
        self.codec_rate = int(config.sampling_rate)
        if self._extractor.sampling_rate != self.codec_rate:
            raise UsageError(
                f"{source.where}: preprocessor_config.json says {self._extractor.sampling_rate} Hz, config.json "
                f"{self.codec_rate} Hz; the two files do not belong together"
            )
        dac = config.model_type == "dac"
        self._strides = list(config.downsampling_ratios if dac else reversed(config.upsampling_ratios))
        self._multiple = int(self._extractor.hop_length) if dac else 1  # to which the preprocessor pads
        self._dac = dac
        self.encoder = source.model(getattr(transformers, KINDS[config.model_type]), config).encoder
        commit = source.commit()
        self.hub_commit = (source.location, commit) if commit else None
        self.eval()  # the host calls train() if it trains the upstream too

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the latents ``[T, D]`` of a waveform ``[N]``."""
        samples = resample(wav.detach().cpu().numpy(), SAMPLE_RATE, self.codec_rate)
        inputs = self._extractor(samples, sampling_rate=self.codec_rate, return_tensors="pt")["input_values"]
        parameter = next(self.encoder.parameters())
        return [self.encoder(inputs.to(parameter))[0].transpose(0, 1)]

    def get_downsample_rates(self, key: str | None = None) -> int | Fraction:
        """Return the samples per frame, at 16 kHz: 640 / 3 for frames of 320 samples at 24 kHz."""
        rate = Fraction(math.prod(self._strides) * SAMPLE_RATE, self.codec_rate)
        return int(rate) if rate.denominator == 1 else rate

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        length = resampled_length(samples, SAMPLE_RATE, self.codec_rate)
        length = -(-length // self._multiple) * self._multiple
        for stride in self._strides:
            if self._dac:  # kernel 2 * stride, padded by half a stride at each end
                length = (length + 2 * math.ceil(stride / 2) - 2 * stride) // stride + 1
            else:  # padded to whole frames
                length = -(-length // stride)
        return length

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on, besides weights and code."""
        return {
            "adapter": "hf_codec",
            "adapter_version": ADAPTER_VERSION,
            "config": self._values,
            "preprocessor": {"sampling_rate": self.codec_rate, "pads_to": self._multiple},
            "commit": self.hub_commit[1] if self.hub_commit else None,
        }
