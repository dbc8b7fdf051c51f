"""Concatenate features of several upstreams, as the acoustic streams of paper 000 (Mitra et al. 2024, Fig. 3)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import ConfigError, EmotionError, UsageError, nearest
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.store.identity import checkpoint_hash
from s3prl_emotion.upstreams.utterance import UtteranceUpstream, read_options, refuse_checkpoint

from .align import aligned, aligned_length

ADAPTER_VERSION = 2


class MemberSection(StrictSection):
    """One of the upstreams."""

    name: str
    """As for ``-u``; s3prl's own upstreams too."""
    ckpt: str | None = None
    """As for ``-k``."""
    model_config_: str | dict[str, Any] | None = Field(default=None, alias="model_config")
    """As for ``-g``, or, for upstreams of this suite, the options themselves."""
    feature: str = "hidden_states"
    """As for ``-s``."""
    layer: int | None = None
    """A single layer, as for ``-l``."""
    one_frame: bool = False
    """It has one frame per utterance (``egemaps`` says so itself), which is repeated; its rate is ignored."""


class ConcatSection(StrictSection):
    """Options, ``-g``."""

    upstreams: list[dict[str, Any]] = Field(min_length=2)
    """Members, each a :class:`MemberSection`."""
    rate: int | None = Field(default=None, ge=1)
    """Samples at 16 kHz per output frame; by default that of the coarsest member."""


class UpstreamExpert(UtteranceUpstream):
    """``-u concat -g FILE``: concatenated features of several upstreams, ``[T, D_1 + D_2 + …]``.

    Each member computes each utterance alone. :mod:`.align` aligns the frame rates; members with one frame an utterance
    are repeated. Members with one layer are concatenated to each layer of the others, which must have the same number
    of layers.

    ``frames(samples)`` exists if all members have it.

    Args:
        ckpt: must be None; members have their own
        model_config: ``-g``, options (:class:`ConcatSection`)
        refresh: passed on to the members

    Raises:
        UsageError: no ``-g``, a ``-k``, or a member that is unknown or cannot be built
        ConfigError: an unknown option, a layer or feature that a member lacks, or different numbers of layers
    """

    frames: Callable[[int], int]

    def __init__(self, ckpt: Any = None, model_config: Any = None, refresh: bool = False) -> None:
        super().__init__()
        refuse_checkpoint(ckpt, "concat")
        if model_config is None:
            raise UsageError("-u concat: list the upstreams with -g FILE, a YAML file with upstreams: [{name: …}, …]")
        self.options = read_options(ConcatSection, model_config, "concat")
        self.sections = [_section(values, number) for number, values in enumerate(self.options.upstreams)]
        self.members = torch.nn.ModuleList(
            _build(section, number, refresh) for number, section in enumerate(self.sections)
        )
        pairs = self._pairs()
        self.single = [section.one_frame or bool(getattr(member, "one_frame", False)) for section, member in pairs]
        self.one_frame = all(self.single)
        self.rates = [_rate(member, section) for section, member in pairs]
        sequences = [rate for rate, single in zip(self.rates, self.single, strict=True) if not single]
        self.rate = Fraction(self.options.rate or max(sequences or self.rates))
        self._parts = math.lcm(*(rate.denominator for rate in (*self.rates, self.rate)))  # of a sample, for integers
        self.window_samples = max(int(getattr(member, "window_samples", 0)) for member in self.members)
        self.window_step = max(int(getattr(member, "window_step", 0)) for member in self.members)
        self.windows_at_once = max(int(getattr(member, "windows_at_once", 1)) for member in self.members)
        if all(hasattr(member, "frames") for member in self.members):
            self.frames = self._frames
        self._try()

    def layers(self, wav: Tensor) -> list[Tensor]:
        """Compute the layers ``[T, D_1 + D_2 + …]`` of a waveform ``[N]``."""
        stacks = [_selected(member([wav]), section, number) for number, (section, member) in enumerate(self._pairs())]
        self._check_layers([len(stack) for stack in stacks])
        for number, (stack, single) in enumerate(zip(stacks, self.single, strict=True)):
            if single and len(stack[0]) != 1:
                raise ConfigError(
                    f"{self._where(number)}.one_frame: it returned {len(stack[0])} frames for {len(wav)} samples"
                )
        length = self._length([len(stack[0]) for stack in stacks])
        aligned_stacks = [
            [layer.expand(length, -1) if single else self._aligned(layer, rate, length) for layer in stack]
            for stack, single, rate in zip(stacks, self.single, self.rates, strict=True)
        ]
        count = max(len(stack) for stack in aligned_stacks)
        return [
            torch.cat([stack[number if len(stack) > 1 else 0] for stack in aligned_stacks], dim=-1)
            for number in range(count)
        ]

    def get_downsample_rates(self, key: str | None = None) -> int | Fraction:
        """Return the samples per output frame: ``rate``, or that of the coarsest member."""
        return _whole(self.rate)

    def identity(self) -> dict[str, Any]:
        """Return what the features depend on, besides the members' weights."""
        members = [
            _identity(section, member, _plain(rate), single)
            for (section, member), rate, single in zip(self._pairs(), self.rates, self.single, strict=True)
        ]
        return {"adapter": "concat", "version": ADAPTER_VERSION, "rate": _plain(self.rate), "members": members}

    def _frames(self, samples: int) -> int:
        """Return the number of frames of an utterance with ``samples`` samples (16 kHz)."""
        return self._length([int(member.frames(samples)) for _, member in self._pairs()])

    def _aligned(self, layer: Tensor, rate: Fraction, length: int) -> Tensor:
        return aligned(layer, int(rate * self._parts), int(self.rate * self._parts), length)

    def _pairs(self) -> list[tuple[MemberSection, Any]]:
        return list(zip(self.sections, self.members, strict=True))

    def _length(self, frames: list[int]) -> int:
        lengths = [
            aligned_length(number, int(rate * self._parts), int(self.rate * self._parts))
            for number, rate, single in zip(frames, self.rates, self.single, strict=True)
            if not single
        ]
        return min(lengths, default=1)

    def _where(self, number: int) -> str:
        return f"concat.upstreams.{number} ({self.sections[number].name})"

    def _check_layers(self, counts: list[int]) -> None:
        if len(set(counts) - {1}) > 1:
            numbers = ", ".join(f"{section.name} {count}" for section, count in zip(self.sections, counts, strict=True))
            raise ConfigError(
                f"concat.upstreams: numbers of layers differ ({numbers}); select one of each with layer: K"
            )

    @torch.no_grad()
    def _try(self) -> None:
        """Run on a second of a tone, so that mismatches are reported before any audio is read."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()  # dropout would draw random numbers
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        self.layers(0.1 * torch.sin(torch.arange(SAMPLE_RATE, device=device) * 0.08))
        for module, training in modes:
            module.training = training


def _section(values: dict[str, Any], number: int) -> MemberSection:
    where = f"concat.upstreams.{number}"
    known = [field.alias or name for name, field in MemberSection.model_fields.items()]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key{nearest(key, known)}")
    section = MemberSection.read(values, where)
    if section.name == "concat":
        raise ConfigError(f"{where}.name: a concat cannot contain another one; list its members here")
    return section


def _build(section: MemberSection, number: int, refresh: bool) -> torch.nn.Module:
    where = f"concat.upstreams.{number}"
    entry = host.find_upstream(section.name, f"{where}.name")
    try:
        member = entry(ckpt=section.ckpt, model_config=section.model_config_, refresh=refresh)
    except EmotionError as error:
        raise type(error)(f"{where}: {error}") from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        ImportError,
    ) as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{where}: {section.name} cannot be built ({detail}); try it alone with -u") from error
    if not isinstance(member, torch.nn.Module) or not hasattr(member, "get_downsample_rates"):
        raise UsageError(f"{where}: {section.name} is not an upstream with get_downsample_rates; remove it")
    return member


def _selected(features: Mapping[str, Any], section: MemberSection, number: int) -> list[Tensor]:
    """Return the selected layers ``[T, D]`` of one utterance."""
    where = f"concat.upstreams.{number} ({section.name})"
    chosen = features.get(section.feature)
    if chosen is None:
        keys = ", ".join(key for key, value in features.items() if not key.startswith("_") and value is not None)
        raise ConfigError(f"{where}.feature: it has no {section.feature!r}; it has {keys}")
    if isinstance(chosen, dict):
        chosen = list(chosen.values())
    layers = list(chosen) if isinstance(chosen, (list, tuple)) else [chosen]
    if section.layer is not None:
        if not -len(layers) <= section.layer < len(layers):
            raise ConfigError(f"{where}.layer: {section.layer} is not among its {len(layers)} layers, from 0")
        layers = [layers[section.layer]]
    return [layer[0] for layer in layers]


def _rate(member: Any, section: MemberSection) -> Fraction:
    """Return the member's samples per frame, which need not be whole."""
    return Fraction(member.get_downsample_rates(section.feature)).limit_denominator(1000)


def _whole(rate: Fraction) -> int | Fraction:
    return int(rate) if rate.denominator == 1 else rate


def _plain(rate: Fraction) -> int | str:
    return int(rate) if rate.denominator == 1 else str(rate)


def _identity(section: MemberSection, member: Any, rate: int | str, single: bool) -> dict[str, Any]:
    options = section.model_dump(exclude={"model_config_"}) | {"ckpt": checkpoint_hash(section.ckpt)}
    config = section.model_config_
    if isinstance(config, str) and Path(config).is_file():
        config = {"sha256": hashlib.sha256(Path(config).read_bytes()).hexdigest()}
    own = member.identity() if callable(getattr(member, "identity", None)) else {"s3prl": metadata.version("s3prl")}
    return {**options, "model_config": config, "rate": rate, "one_frame": single, "identity": own}
