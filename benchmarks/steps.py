"""Compare time and memory of training steps of several networks on the same input."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from common import parser_of, ratio, resident, run_script, set_up, spread, take_turns
from torch import Tensor, nn

WARM_UP = 2
Step = Callable[[], object]
StepOf = Callable[[str, str], Step]  # from kind and device


def compare(
    description: str, about: str, kinds: Sequence[str], pairs: Sequence[tuple[str, str]], step_of: StepOf
) -> None:
    """Print a table of times and memory of ``kinds``, and the ratios of ``pairs``.

    Times are measured in turn in one process, and consecutive steps compared. The peak memory, above that before the
    first step, is measured in a process for each network.
    """
    parser = parser_of(description, repeats=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU where there is one, and the CPU")
    parser.add_argument("--memory-of", choices=kinds, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_up(args.threads)
    if args.memory_of:
        print(json.dumps(peak_memory(step_of(args.memory_of, args.device), args.device)))
        return
    repeats = max(5, args.repeats)
    print(f"{about}, {repeats} steps each; torch {torch.__version__}")
    for device in [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {args.threads} threads"
        times = take_turns({kind: step_of(kind, device) for kind in kinds}, repeats, WARM_UP)
        memory = {kind: _peak_apart(kind, device, args.threads) for kind in kinds}
        print(f"\n{device} ({name})\n{'':10}{'median ms':>10}{'min ms':>10}{'max ms':>10}{'peak MB':>10}")
        for kind, values in times.items():
            print(f"{kind:10}{spread([1e3 * value for value in values])}{memory[kind]:>10.0f}")
        for one, other in pairs:
            print(
                f"{one} / {other}: time {_ratios(times[one], times[other])}, memory {memory[one] / memory[other]:.2f}"
            )


def _ratios(one: list[float], other: list[float]) -> str:
    """Return the median ratio of consecutive steps, and the ratio of the fastest, which load disturbs less."""
    return f"{ratio(one, other):.3f} (least / least {min(one) / min(other):.3f})"


def _peak_apart(kind: str, device: str, threads: int) -> float:
    """Return the peak memory of a network's step in MB, measured in a process of its own."""
    words = ["--memory-of", kind, "--device", device, "--threads", str(threads)]
    return float(run_script(sys.argv[0], words, threads))


def training_step(model: nn.Module, loss: nn.Module, lr: float, inputs: tuple[Tensor, ...], target: Tensor) -> Step:
    """Return a function that makes a step on the batch: forward, backward and Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(*inputs), target)
        value.backward()
        optimizer.step()
        return value.item()  # waits for the GPU

    return step


def peak_memory(step: Callable[[], object], device: str) -> float:
    """Return the peak memory in MB, above that before the first step, when the features exist already."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of the imports
    before = resident("VmRSS")
    for _ in range(WARM_UP):
        step()
    return resident("VmHWM") - before
