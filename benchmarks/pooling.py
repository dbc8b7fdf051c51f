"""Attentive correlation pooling, forward and backward, beside a loop over utterances.

The loop is the formulation of the code published with Kakouros et al. 2023: attention over the batch, then one
correlation matrix after the other (with the paper's mask and eps, so that both compute the same). The times are taken
in turn in one process; the peak memory, above what stood before the first step, in a process for each.

    python benchmarks/pooling.py                 # on a GPU too, where there is one
    python benchmarks/pooling.py --device cpu --repeats 15
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
from steps import peak_memory
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import s3prl_emotion

BATCH, FRAMES, CHANNELS = 32, 225, 256  # 225 frames of 20 ms: IEMOCAP's mean utterance, 4.5 s
WARM_UP = 3
Step = Callable[[], Tensor]


def main() -> None:
    """Print a table of times and memory with the ratio loop / batched."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU where there is one, and the CPU")
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each, at least 5")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory-of", choices=["batched", "loop"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(peak_memory(steps(args.device)[args.memory_of], args.device)))
        return
    repeats = max(5, args.repeats)
    print(f"[{BATCH}, {FRAMES}, {CHANNELS}], forward and backward, {repeats} steps each; torch {torch.__version__}")
    devices = [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {args.threads} threads"
        times = timed(device, repeats)
        memory = {kind: measured_apart(kind, device, args.threads) for kind in times}
        print(f"\n{device} ({name})\n{'':10}{'median ms':>12}{'min ms':>10}{'max ms':>10}{'peak MB':>10}")
        for kind, values in times.items():
            spread = f"{statistics.median(values):>12.2f}{min(values):>10.2f}{max(values):>10.2f}"
            print(f"{kind:10}{spread}{memory[kind]:>10.0f}")
        pairs = [loop / batched for loop, batched in zip(times["loop"], times["batched"], strict=True)]
        print(f"loop / batched: time {statistics.median(pairs):.2f}, memory {memory['loop'] / memory['batched']:.2f}")


def steps(device: str) -> dict[str, Step]:
    """One training step of each formulation on the same input and weights."""
    s3prl_emotion.register()
    from s3prl.downstream.emotion_corr_attn.model import AttentiveCorrelationPooling

    torch.manual_seed(0)
    pooling = AttentiveCorrelationPooling(CHANNELS).to(device)
    features = torch.randn(BATCH, FRAMES, CHANNELS, device=device, requires_grad=True)
    lengths = torch.full((BATCH,), FRAMES, device=device)
    slope = torch.randn(BATCH, pooling.output_dim, device=device)

    def step(forward: Callable[[], Tensor]) -> Tensor:
        features.grad = None
        pooling.zero_grad()
        output = forward()
        output.backward(slope)
        return output.detach()

    return {
        "batched": lambda: step(lambda: pooling(features, lengths)),
        "loop": lambda: step(lambda: loop(pooling, features, lengths)),
    }


def loop(pooling: torch.nn.Module, features: Tensor, lengths: Tensor) -> Tensor:
    """Attention over the batch, then one correlation matrix after the other."""
    inside = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
    logits = torch.logsumexp(pooling.heads(torch.relu(pooling.attention(features))), dim=-1)
    weights = torch.softmax(logits.masked_fill(~inside, -torch.inf), dim=-1).unsqueeze(-1)
    means = (features * weights).sum(dim=1)
    pooled = []
    for index in range(len(features)):
        centred = features[index] - means[index]
        covariance = torch.einsum("tk,tl->kl", weights[index] * centred, centred)
        std = torch.sqrt(torch.diagonal(covariance))
        correlation = covariance / (torch.outer(std, std) + pooling.eps)
        rows, columns = torch.triu_indices(CHANNELS, CHANNELS, offset=1, device=features.device)
        pooled.append(correlation[rows, columns])
    return torch.stack(pooled)


def timed(device: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step, in turn, after a warm-up and a check that both give the same."""
    runs = steps(device)
    torch.testing.assert_close(runs["batched"](), runs["loop"](), rtol=1e-4, atol=1e-5)
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for repeat in range(WARM_UP + repeats):
        for kind, run in runs.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if repeat >= WARM_UP:
                times[kind].append(1e3 * (time.perf_counter() - start))
    return times


def measured_apart(kind: str, device: str, threads: int) -> float:
    """Peak memory of one formulation, in MB, measured in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", kind, "--device", device, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def synchronize(device: str) -> None:
    """Wait for the GPU, so that a time is that of the work and not of its launch."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
