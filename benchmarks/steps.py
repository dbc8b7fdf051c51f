"""Times and memory of training steps of several networks on the same input, each beside the others."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

WARM_UP = 2
Step = Callable[[], float]
StepOf = Callable[[str, str], Step]  # kind and device to a step


def compare(
    description: str, about: str, kinds: Sequence[str], pairs: Sequence[tuple[str, str]], step_of: StepOf
) -> None:
    """Print a table of times and memory of ``kinds``, and the ratio of each of ``pairs``.

    Times are taken in turn in one process and compared by pairs of steps that ran one after the other; the peak memory,
    above what stood before the first step, in a process for each.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU where there is one, and the CPU")
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each, at least 5")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory-of", choices=kinds, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(peak_memory(step_of(args.memory_of, args.device), args.device)))
        return
    repeats = max(5, args.repeats)
    print(f"{about}, {repeats} steps each; torch {torch.__version__}")
    for device in [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {args.threads} threads"
        times = _timed({kind: step_of(kind, device) for kind in kinds}, repeats)
        memory = {kind: _measured_apart(kind, device, args.threads) for kind in kinds}
        print(f"\n{device} ({name})\n{'':10}{'median ms':>12}{'min ms':>10}{'max ms':>10}{'peak MB':>10}")
        for kind, values in times.items():
            spread = f"{statistics.median(values):>12.1f}{min(values):>10.1f}{max(values):>10.1f}"
            print(f"{kind:10}{spread}{memory[kind]:>10.0f}")
        for one, other in pairs:
            print(
                f"{one} / {other}: time {_ratios(times[one], times[other])}, memory {memory[one] / memory[other]:.2f}"
            )


def _ratios(one: list[float], other: list[float]) -> str:
    """Median of the ratios of steps that ran one after the other, and that of the least, which load disturbs less."""
    pairs = [mine / theirs for mine, theirs in zip(one, other, strict=True)]
    return f"{statistics.median(pairs):.3f} (least / least {min(one) / min(other):.3f})"


def _timed(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step, in turn, after a warm-up."""
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for repeat in range(WARM_UP + repeats):
        for kind, step in steps.items():
            begun = time.perf_counter()
            step()
            if repeat >= WARM_UP:
                times[kind].append(1e3 * (time.perf_counter() - begun))
    return times


def _measured_apart(kind: str, device: str, threads: int) -> float:
    """Peak memory of one network's step, in MB, measured in a process of its own."""
    command = [sys.executable, sys.argv[0], "--memory-of", kind, "--device", device, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def training_step(model: nn.Module, loss: nn.Module, lr: float, inputs: tuple[Tensor, ...], target: Tensor) -> Step:
    """Forward, backward and Adam on the same batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(*inputs), target)
        value.backward()
        optimizer.step()
        return value.item()  # waits for the GPU

    return step


def peak_memory(step: Callable[[], object], device: str) -> float:
    """MB above what stood before the first step; the features stood there already."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of the imports
    before = _resident("VmRSS")
    for _ in range(WARM_UP):
        step()
    return _resident("VmHWM") - before


def _resident(key: str) -> float:
    """Resident memory of this process in MB, at the moment (``VmRSS``) or at its peak (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1e3
