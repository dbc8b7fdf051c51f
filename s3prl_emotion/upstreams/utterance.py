"""What the suite's upstream adapters share: strict options (``-g``), and every utterance computed alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
        kind: the options and their defaults
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
    values = read_yaml(path, f"no such file; -u {upstream} takes its options from a YAML file", f"-g {path}")
    return kind.read({} if values is None else values, f"-g {path}: {upstream}")


def refuse_checkpoint(ckpt: Any, upstream: str) -> None:
    """Refuse ``-k`` where there is nothing to load.

    Raises:
        UsageError: a checkpoint was given
    """
    if ckpt is not None:
        raise UsageError(f"-k {ckpt}: -u {upstream} has no checkpoint; leave -k out, its options come with -g")


class UtteranceUpstream(torch.nn.Module, ABC):
    """An upstream in s3prl's interface that computes each utterance by itself, whatever stands beside it in a batch."""

    one_frame = False
    """Whether an utterance of any length has exactly one frame."""

    @abstractmethod
    def layers(self, wav: Tensor) -> list[Tensor]:
        """Features of one waveform ``[N]`` (16 kHz, N >= 1): layers ``[T, D]``, T >= 1, on its device."""

    @abstractmethod
    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples at 16 kHz per frame."""

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Features of waveforms.

        Args:
            wavs: ``[N_b]`` at 16 kHz, N_b >= 1

        Returns:
            ``hidden_states``, a tuple of ``[B, T_max, D]``, zeros beyond an utterance's own frames, and
            ``last_hidden_state``, the last of them

        Raises:
            AudioError: something else than waveforms with samples
        """
        for wav in wavs:
            if wav.dim() != 1 or wav.numel() == 0:
                raise AudioError(f"an upstream takes waveforms [N] with N >= 1 samples, got {list(wav.shape)}")
        by_utterance = [self.layers(wav) for wav in wavs]
        hidden = tuple(pad_sequence(list(layer), batch_first=True) for layer in zip(*by_utterance, strict=True))
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}


def padded_to(wav: Tensor, samples: int) -> Tensor:
    """Waveform ``[N]`` with zeros appended up to at least ``samples``."""
    return torch.nn.functional.pad(wav, (0, max(0, samples - wav.numel())))
