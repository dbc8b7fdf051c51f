"""Base class of the suite's upstream adapters: strict options (``-g``), every utterance computed by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_emotion.errors import AudioError, UsageError
from s3prl_emotion.recipe import Section
from s3prl_emotion.yaml_files import read_yaml


def read_options(kind: type[Section], model_config: Any, upstream: str) -> Section:
    """Read an upstream's options, ``-g``.

    Args:
        kind: class of the options, with their defaults
        model_config: YAML file, a mapping (Python callers), or None for the defaults
        upstream: its name, for messages

    Raises:
        UsageError: no such file
        ConfigError: not YAML, an unknown key, or a value out of range
    """
    if model_config is None:
        return kind.read({}, upstream)
    if isinstance(model_config, dict):
        return kind.read(model_config, upstream)
    path = Path(model_config)
    values = read_yaml(path, f"no such file; -u {upstream} reads its options from a YAML file", f"-g {path}")
    return kind.read({} if values is None else values, f"-g {path}: {upstream}")


def refuse_checkpoint(ckpt: Any, upstream: str) -> None:
    """Reject ``-k`` for an upstream without checkpoints.

    Raises:
        UsageError: a checkpoint was given
    """
    if ckpt is not None:
        raise UsageError(f"-k {ckpt}: -u {upstream} has no checkpoint; omit -k, and give options with -g")


class UtteranceUpstream(torch.nn.Module, ABC):
    """An upstream in s3prl's interface whose features of an utterance do not depend on the rest of the batch."""

    one_frame = False
    """Whether every utterance has exactly one frame."""
    concurrent = False
    """Whether :meth:`layers` runs without Python's lock and shares no state, so that threads compute a batch."""

    @abstractmethod
    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the layers ``[T, D]``, T >= 1, of one waveform ``[N]`` (16 kHz, N >= 1), on its device."""

    @abstractmethod
    def get_downsample_rates(self, key: str | None = None) -> int | Fraction:
        """Return the samples per frame, at 16 kHz; a fraction where they are not whole."""

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Compute features of waveforms.

        Args:
            wavs: ``[N_b]`` at 16 kHz, N_b >= 1

        Returns:
            ``hidden_states``, a tuple of ``[B, T_max, D]`` with zeros after an utterance's own frames, and
            ``last_hidden_state``, the last of them

        Raises:
            AudioError: an input is not a waveform ``[N]``, or is empty
        """
        for wav in wavs:
            if wav.dim() != 1 or wav.numel() == 0:
                raise AudioError(f"an upstream needs waveforms [N] with N >= 1 samples, got {list(wav.shape)}")
        threads = min(len(wavs), torch.get_num_threads()) if self.concurrent else 1
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                by_utterance = list(pool.map(self.layers, wavs))
        else:
            by_utterance = [self.layers(wav) for wav in wavs]
        hidden = tuple(pad_sequence(list(layer), batch_first=True) for layer in zip(*by_utterance, strict=True))
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}


def padded_to(wav: Tensor, samples: int) -> Tensor:
    """Append zeros to a waveform ``[N]`` up to at least ``samples``."""
    return torch.nn.functional.pad(wav, (0, max(0, samples - wav.numel())))
