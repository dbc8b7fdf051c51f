"""Training step of TC-GRU (forward, backward, Adam) at the papers' size, and what fewer input dimensions save.

Beside the head of Mitra et al. 2024 stands a plain PyTorch network of the same layers: ``Conv1d``, ReLU, ``nn.GRU``,
its last output, two linear layers; it does without lengths, so all utterances are equally long. Then the head on 40 %
of the dimensions, picked out of the same features, beside the head on all. Times are taken in turn in one process and
compared by pairs; the peak memory, above what stood before the first step, in a process for each.

    python benchmarks/tcgru.py                 # on a GPU too, where there is one
    python benchmarks/tcgru.py --device cpu --repeats 15
    OMP_WAIT_POLICY=passive python benchmarks/tcgru.py --device cpu     # beside other load: threads do not spin
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import s3prl_emotion
from s3prl_emotion.reduction import SalientDimensions

BATCH, FRAMES, CHANNELS = 64, 250, 1024  # 5 s of a large model's features
KEEP = 0.4
WARM_UP = 2
Step = Callable[[], float]


class Plain(nn.Module):
    """The same layers with nothing between them."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(input_dim, 256, 3, padding=1)
        self.gru = nn.GRU(256, 256, 2, batch_first=True)
        self.embedding, self.output = nn.Linear(256, 128), nn.Linear(128, 6)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, 6]``."""
        frames = torch.relu(self.convolution(features.transpose(1, 2))).transpose(1, 2)
        return self.output(torch.relu(self.embedding(self.gru(frames)[0][:, -1])))


KINDS = ("head", "plain", "keep")


def main() -> None:
    """Print a table of times and memory, and the ratios head / plain and 40 % / 100 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU where there is one, and the CPU")
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each, at least 5")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(peak_memory(args.memory_of, args.device)))
        return
    repeats = max(5, args.repeats)
    print(f"[{BATCH}, {FRAMES}, {CHANNELS}], {repeats} steps each, keep {KEEP}; torch {torch.__version__}")
    for device in [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {args.threads} threads"
        times = timed(device, repeats)
        memory = {kind: measured_apart(kind, device, args.threads) for kind in KINDS}
        print(f"\n{device} ({name})\n{'':10}{'median ms':>12}{'min ms':>10}{'max ms':>10}{'peak MB':>10}")
        for kind, values in times.items():
            spread = f"{statistics.median(values):>12.1f}{min(values):>10.1f}{max(values):>10.1f}"
            print(f"{kind:10}{spread}{memory[kind]:>10.0f}")
        for one, other in (("head", "plain"), ("keep", "head")):
            print(f"{one} / {other}: time {ratios(times[one], times[other])}, memory {memory[one] / memory[other]:.2f}")


def ratios(one: list[float], other: list[float]) -> str:
    """Median of the ratios of steps that ran one after the other, and that of the least, which load disturbs less."""
    pairs = [mine / theirs for mine, theirs in zip(one, other, strict=True)]
    return f"{statistics.median(pairs):.3f} (least / least {min(one) / min(other):.3f})"


def step_of(kind: str, device: str) -> Step:
    """One training step of a network on the same input."""
    s3prl_emotion.register()
    from s3prl.downstream.emotion_tcgru.model import DimensionalLoss, TCGRUModel

    torch.manual_seed(0)
    features = torch.randn(BATCH, FRAMES, CHANNELS, device=device)
    lengths = torch.full((BATCH,), FRAMES, device=device)
    target, loss = torch.randn(BATCH, 6, device=device), DimensionalLoss().to(device)
    if kind == "plain":
        model: nn.Module = Plain(CHANNELS)
    else:
        kept = torch.randperm(CHANNELS)[: round(KEEP * CHANNELS)].sort().values.tolist()
        model = TCGRUModel(
            CHANNELS, SalientDimensions(CHANNELS, kept) if kind == "keep" else None, target_variance=True
        )
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(features, lengths), target)
        value.backward()
        optimizer.step()
        return value.item()  # waits for the GPU

    return step


def timed(device: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step, in turn, after a warm-up."""
    steps = {kind: step_of(kind, device) for kind in KINDS}
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(WARM_UP + repeats):
        for kind, step in steps.items():
            begun = time.perf_counter()
            step()
            if repeat >= WARM_UP:
                times[kind].append(1e3 * (time.perf_counter() - begun))
    return times


def measured_apart(kind: str, device: str, threads: int) -> float:
    """Peak memory of one network's step, in MB, measured in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", kind, "--device", device, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def peak_memory(kind: str, device: str) -> float:
    """MB above what stood before the first step; the features stood there already."""
    step = step_of(kind, device)
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


def resident(key: str) -> float:
    """Resident memory of this process in MB, at the moment (``VmRSS``) or at its peak (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1e3


if __name__ == "__main__":
    main()
