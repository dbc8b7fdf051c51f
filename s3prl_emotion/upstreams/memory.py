"""Estimate the memory that an upstream needs for audio of a given length, before it is computed."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import AudioError
from s3prl_emotion.rng import own_seed
from s3prl_emotion.upstreams.free_memory import free_memory

logger = logging.getLogger(__name__)
UNCHECKED = 30 * SAMPLE_RATE  # samples; shorter audio is computed without an estimate, which costs three short passes
SHORTEST, STEP_SECONDS, PASSES = 400, 0.5, 3  # the passes have SHORTEST + 1, 2, 3 steps of about half a second
MOST = 24 * 3600 * SAMPLE_RATE  # samples; what fits beyond a day need not be known
REMEDY = (
    "set downstream_expert.datarc.max_duration (s), with cut_eval: true where it is evaluated, or leave it out of the "
    "labels"
)
MARGIN = 1.25  # the libraries' own scratch memory, and what malloc does not give back
MOST_EXTRA = 2  # by how much a size may deviate from a straight line because of rounding
FOREIGN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
COPYING = ("aten.native_layer_norm", "aten.native_group_norm", "aten._softmax", "aten.glu")  # if not contiguous
_Size = tuple[tuple[int, ...], int]  # dimensions and bytes per element


@dataclass(frozen=True)
class Allocations:
    """The tensors that a computation makes, in order, for audio of any length.

    Attributes:
        step: samples between one measured length and the next
        sizes: of each tensor at the three measured lengths: dimensions and bytes per element
        events: number of the tensor, from 1, where it is made, and minus that number where it is freed
        window: samples of the windows in which the upstream splits audio by itself; 0 if it does not
        at_once: most of these windows that it computes at once
        only_windows: whether no part of it computes audio above ``window`` in one piece
    """

    step: int
    sizes: tuple[tuple[_Size, _Size, _Size], ...]
    events: tuple[int, ...]
    window: int = 0
    at_once: int = 1
    only_windows: bool = False

    def peak(self, samples: int) -> int:
        """Return the largest number of bytes that live at a time for audio of ``samples`` samples."""
        if self.window and samples > self.window:
            whole, parts = self._peak(self.window), math.ceil(samples / self.window)
            kept = parts + 3 * max(0, parts - self.at_once)  # copies of windows' features, when they are joined
            if self.only_windows:  # a shorter last window is computed by itself
                alike = min(max(1, (samples + self.step - 1) // self.window), self.at_once)
                return whole * alike + kept * self._left(self.window)
            several = whole * (min(parts, self.at_once) - 1) + kept * self._left(self.window)
            return self._peak(samples) + several  # the first is that of members of concat without windows
        return self._peak(samples)

    def _peak(self, samples: int) -> int:
        steps = max(1.0, (samples - SHORTEST) / self.step)
        made = [_bytes(sizes, steps) for sizes in self.sizes]
        now = most = 0.0
        for event in self.events:
            now += made[event - 1] if event > 0 else -made[-event - 1]
            most = max(most, now)
        return round(MARGIN * most)

    def _left(self, samples: int) -> int:
        """Return the bytes of the tensors that are not freed: of the features."""
        steps, kept = (samples - SHORTEST) / self.step, {event for event in self.events if event > 0}
        kept -= {-event for event in self.events if event < 0}
        return round(sum(_bytes(self.sizes[number - 1], steps) for number in kept))


def _bytes(sizes: tuple[_Size, _Size, _Size], steps: float) -> float:
    """Extrapolate a tensor's size from those at 1, 2 and 3 steps; each dimension is linear in them, or quadratic."""
    product = float(sizes[0][1])
    for one, two, three in zip(*(dimensions for dimensions, _ in sizes), strict=True):
        slope, bend = (three - one) / 2, one - 2 * two + three
        straight = two + slope * (steps - 2)
        product *= max(0.0, straight if abs(bend) <= MOST_EXTRA else straight + bend / 2 * (steps - 2) ** 2)
    return product


def measure(compute: Callable[[Tensor], object], rate: int, device: torch.device, upstream: Any) -> Allocations | None:
    """Run an upstream on about 0.5, 1 and 1.5 s of noise, and record which tensors live when.

    Args:
        compute: computes the features of a waveform ``[N]``
        rate: samples per frame
        device: of the waveforms
        upstream: the model; ``window_samples``, ``window_step``, ``windows_at_once`` and ``only_windows``, if it has
            them, say how it splits audio

    Returns:
        ``None`` where the length cannot be extrapolated: the three computations differ in more than sizes
    """
    window, unit = getattr(upstream, "window_samples", 0) or 0, 2 * rate
    padded_to = getattr(upstream, "window_step", 0) or 0  # sizes follow a line only in steps of it
    wanted = max(STEP_SECONDS * SAMPLE_RATE, padded_to)
    if window and not padded_to:  # none of the three is split or fills it
        wanted = min(wanted, (window - unit - SHORTEST) // PASSES // unit * unit)
    step = unit * max(1, math.ceil(wanted / unit))
    runs = []
    generator = torch.Generator().manual_seed(0)
    for number in range(1, PASSES + 1):
        wav = 0.1 * torch.randn(SHORTEST + number * step, generator=generator)
        run = _Recorder()
        try:
            with run:
                features = compute(wav.to(device))
        except FOREIGN as error:  # upstreams are foreign code
            logger.debug("memory is not estimated: %s", error)
            return None
        run.closed = True
        del features
        runs.append(run)
    one, two, three = runs
    if not one.names == two.names == three.names or not len(one.sizes) == len(two.sizes) == len(three.sizes):
        return None
    sizes = tuple(zip(one.sizes, two.sizes, three.sizes, strict=True))
    if any(len({(len(dimensions), width) for dimensions, width in same}) > 1 for same in sizes):
        return None
    at_once, only_windows = getattr(upstream, "windows_at_once", 1), getattr(upstream, "only_windows", False)
    return Allocations(step, sizes, tuple(three.events), window, at_once, only_windows)


class _Recorder(TorchDispatchMode):
    """Records the storages that torch's functions make, and when they are freed.

    Scratch memory inside a function is not seen, so the known part is added: copies of inputs that are not contiguous,
    and, of convolutions, the input in the library's own layout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sizes: list[_Size] = []
        self.events: list[int] = []
        self.living: dict[int, int] = {}  # number of a tensor by its storage
        self.closed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}  # weights are none of its own
        made = [tensor for tensor in _tensors(output) if tensor.untyped_storage()._cdata not in {*self.living, *given}]
        if not made:
            return output
        scratch = len(self.events)
        convolves = str(func).startswith("aten.convolution")
        for tensor in _tensors((args, kwargs)) if convolves or str(func).startswith(COPYING) else ():
            for _ in range((not tensor.is_contiguous()) + convolves):
                self._add(tuple(tensor.shape), tensor.element_size())
        added = self.events[scratch:]
        for tensor in made:
            self._keep(tensor)
        self.events += [-number for number in added]
        return output

    def _keep(self, tensor: Tensor) -> None:
        storage, width = tensor.untyped_storage(), tensor.element_size()
        key = storage._cdata
        if key in self.living:  # two outputs share it
            return
        fits = storage.nbytes() == tensor.numel() * width
        self.living[key] = self._add(tuple(tensor.shape) if fits else (storage.nbytes(),), width if fits else 1)
        weakref.finalize(storage, self._free, key).atexit = False

    def _add(self, shape: tuple[int, ...], width: int) -> int:
        self.sizes.append((shape, width))
        self.events.append(len(self.sizes))
        return len(self.sizes)

    def _free(self, key: int) -> None:
        number = self.living.pop(key)
        if not self.closed:
            self.events.append(-number)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class MemoryGuard:
    """Compare what an upstream needs for a waveform with what is free.

    Args:
        upstream: the model
        name: ``-u``, for messages
        compute: computes the features of one waveform ``[N]``
        rate: samples per frame
        device: where it computes

    Attributes:
        remedy: what to do about audio that does not fit, for messages
        shared_by: number of processes that share the memory
    """

    def __init__(
        self, upstream: Any, name: str, compute: Callable[[Tensor], object], rate: int, device: torch.device
    ) -> None:
        self.upstream, self.name, self.compute, self.rate, self.device = upstream, name, compute, rate, device
        self.remedy, self.shared_by = REMEDY, 1
        self._measured: dict[bool, Allocations | None] = {}  # with and without gradients

    def need(self, samples: int) -> int | None:
        """Return the bytes for a waveform of ``samples`` samples, besides the weights; ``None``: not known."""
        return None if self._allocations is None else self._allocations.peak(samples)

    def longest(self) -> float:
        """Return how many samples fit into the memory that is free, at least 30 s; infinity where it is not known."""
        free = self._free()
        if free is None or self._allocations is None:
            return math.inf
        low, high = UNCHECKED, MOST
        if self._allocations.peak(high) <= free:
            return math.inf
        while high - low > SAMPLE_RATE:
            middle = (low + high) // 2
            low, high = (middle, high) if self._allocations.peak(middle) <= free else (low, middle)
        return low

    def check(self, samples: int, name: str) -> None:
        """Refuse audio that does not fit into the memory; audio of up to 30 s is not checked.

        Raises:
            AudioError: names the audio, its duration, what it needs, what is free and what to do
        """
        if samples <= UNCHECKED:
            return
        need, free = self.need(samples), self._free()
        if need is None or free is None or need <= free:
            return
        raise AudioError(
            f"{name} ({samples / SAMPLE_RATE:.0f} s): upstream {self.name} needs about {need / 1e9:.1f} GB of memory "
            f"for it, {free / 1e9:.1f} GB are free, about {self.longest() / SAMPLE_RATE:.0f} s fit; {self.remedy}"
        )

    def _free(self) -> int | None:
        free = free_memory(self.device)
        return None if free is None else free // self.shared_by

    @property
    def _allocations(self) -> Allocations | None:
        gradients = torch.is_grad_enabled()
        if gradients not in self._measured:
            with own_seed(0):  # the generators keep their state
                self._measured[gradients] = measure(self.compute, self.rate, self.device, self.upstream)
        return self._measured[gradients]
