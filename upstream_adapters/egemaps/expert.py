"""Compute ``egemaps`` and ``egemaps_lld``, the extended Geneva parameter set, with openSMILE.

The input features of paper 004 (Das et al. 2022; "Evaluation": "eGeMAPS using OpenSmile") are the functionals. It does
not give the version; this is v02, the newest in openSMILE. openSMILE has no open-source licence, so it is an optional
extra.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, padded_to, read_options, refuse_checkpoint

ADAPTER_VERSION = 1
FEATURE_SET = "eGeMAPSv02"
WINDOW = 960  # samples, 60 ms: the longest window of the set; openSMILE returns nothing for shorter audio
HOP = 160  # samples, 10 ms
FULL_SCALE = 32767 / 32768  # the largest sample in 16 bits
FUNCTIONALS_RATE = SAMPLE_RATE  # nominal samples per frame of functionals
NAMES = {"functionals": "egemaps", "lld": "egemaps_lld"}


class EgemapsSection(StrictSection):
    """No options: the parameter set is fixed by definition."""


class UpstreamExpert(UtteranceUpstream):
    """openSMILE's eGeMAPSv02 on each waveform.

    openSMILE computes with 16-bit integers, and its Python package wraps samples beyond full scale around, so they are
    clipped here. Audio shorter than 60 ms is padded with zeros. The package sets openSMILE up for each utterance, so
    threads and forked processes share no state.

    Args:
        ckpt: must be None
        model_config: ``-g``; there are no options, so None or empty
        level: ``functionals`` ``[1, 88]``, or ``lld``: low-level descriptors ``[T, 25]``

    Raises:
        UsageError: openSMILE is not installed, or ``-k`` was given
        ConfigError: ``-g`` contains an option
    """

    concurrent = True

    def __init__(
        self, ckpt: Any = None, model_config: Any = None, level: Literal["functionals", "lld"] = "functionals"
    ) -> None:
        super().__init__()
        self.level, self.one_frame = level, level == "functionals"
        refuse_checkpoint(ckpt, NAMES[level])
        read_options(EgemapsSection, model_config, NAMES[level])
        self.smile = _smile(level)

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute one layer ``[1, 88]`` or ``[T, 25]`` of a waveform ``[N]``."""
        samples = padded_to(wav.detach().float(), WINDOW).clamp(-1.0, FULL_SCALE).cpu().numpy()
        features = self.smile(samples, SAMPLE_RATE)[0].T  # [1, D, T] -> [T, D]
        # Statistics over no segments (no voiced ones, say) may be undefined; 0, as openSMILE returns for others.
        defined = np.nan_to_num(features.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return [torch.from_numpy(np.ascontiguousarray(defined)).to(wav.device)]

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame: 160 for descriptors, 16,000 for functionals.

        Every utterance has one frame of functionals, which the suite's featurizer keeps. s3prl's own featurizer (stock
        tasks, ``seeding: superb``) cuts to ``round(samples / rate)`` frames and tolerates a difference of 4: with a
        rate of 16,000 it works from 0.5 to 5.5 s, fails on longer utterances and leaves shorter ones no frame.
        Descriptors lack 5 frames at the end, which is one too many for it at some lengths.
        """
        return FUNCTIONALS_RATE if self.one_frame else HOP

    def frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        return 1 if self.one_frame else 2 + max(0, samples - WINDOW) // HOP

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {
            "adapter": NAMES[self.level],
            "version": ADAPTER_VERSION,
            "feature_set": FEATURE_SET,
            "opensmile": metadata.version("opensmile"),
        }


def _smile(level: str) -> Any:
    try:
        opensmile = import_module("opensmile")  # an optional extra
    except ImportError as error:
        raise UsageError(
            f"-u {NAMES[level]}: openSMILE is not installed ({error}); pip install 's3prl-emotion[egemaps]' (its "
            "licence is not an open-source licence)"
        ) from error
    levels = opensmile.FeatureLevel
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet[FEATURE_SET],
        feature_level=levels.Functionals if level == "functionals" else levels.LowLevelDescriptors,
        sampling_rate=SAMPLE_RATE,
    )
