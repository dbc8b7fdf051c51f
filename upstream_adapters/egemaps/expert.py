"""``egemaps``, ``egemaps_lld``: the extended Geneva parameter set, computed by openSMILE.

The input features of paper 004 (Das et al. 2022; "Evaluation": "eGeMAPS using OpenSmile") are the functionals; it does
not say which version, here it is v02, openSMILE's newest. openSMILE's licence is not an open-source one, so it is an
optional extra.
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
WINDOW = 960  # samples, 60 ms: the longest window of the set; below it openSMILE gives nothing
HOP = 160  # samples, 10 ms
FULL_SCALE = 32767 / 32768  # what 16 bits hold
WHOLE = SAMPLE_RATE  # samples that one frame of functionals is said to stand for
NAMES = {"functionals": "egemaps", "lld": "egemaps_lld"}


class EgemapsSection(StrictSection):
    """No options: the set is fixed, that is its point."""


class UpstreamExpert(UtteranceUpstream):
    """openSMILE's eGeMAPSv02 on each waveform.

    openSMILE computes on 16 bit integers, and its Python package lets samples beyond full scale wrap around, so they
    are clipped. Audio below 60 ms is padded with zeros to that. The package sets openSMILE up anew for each utterance:
    threads and forked processes share no state of it.

    Args:
        ckpt: must be None
        model_config: ``-g``; there are no options, so None or empty
        level: ``functionals`` ``[1, 88]``, or ``lld``: low-level descriptors ``[T, 25]``

    Raises:
        UsageError: openSMILE is not installed, or ``-k`` was given
        ConfigError: ``-g`` holds an option
    """

    def __init__(
        self, ckpt: Any = None, model_config: Any = None, level: Literal["functionals", "lld"] = "functionals"
    ) -> None:
        super().__init__()
        self.level, self.one_frame = level, level == "functionals"
        refuse_checkpoint(ckpt, NAMES[level])
        read_options(EgemapsSection, model_config, NAMES[level])
        self.smile = _smile(level)

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Waveform ``[N]`` to one layer, ``[1, 88]`` or ``[T, 25]``."""
        samples = padded_to(wav.detach().float(), WINDOW).clamp(-1.0, FULL_SCALE).cpu().numpy()
        features = self.smile(samples, SAMPLE_RATE)[0].T  # [1, D, T] -> [T, D]
        # Statistics over no segment at all (no voiced one, say) may be undefined; 0, as openSMILE gives for others.
        defined = np.nan_to_num(features.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return [torch.from_numpy(np.ascontiguousarray(defined)).to(wav.device)]

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples per frame: 160 for descriptors, 16,000 for functionals.

        An utterance has one frame of functionals however long it is, and the suite's featurizer keeps it. s3prl's own
        (stock tasks, ``seeding: superb``) cuts to ``round(samples / rate)`` frames and bears a difference of 4: with
        16,000 it works from 0.5 to 5.5 s, stops on longer utterances and gives shorter ones no frame. Descriptors lack
        5 frames at the end, which is one too many for it at some lengths.
        """
        return WHOLE if self.one_frame else HOP

    def frames(self, samples: int) -> int:
        """Frames of an utterance of so many samples (16 kHz)."""
        return 1 if self.one_frame else 2 + max(0, samples - WINDOW) // HOP

    def identity(self) -> dict[str, Any]:
        """What the features depend on."""
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
            f"-u {NAMES[level]}: openSMILE is not installed ({error}); pip install 's3prl-emotion[egemaps]', and mind "
            "its licence, which is not an open-source one"
        ) from error
    levels = opensmile.FeatureLevel
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet[FEATURE_SET],
        feature_level=levels.Functionals if level == "functionals" else levels.LowLevelDescriptors,
        sampling_rate=SAMPLE_RATE,
    )
