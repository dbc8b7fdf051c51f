"""Measure saliency at the papers' size: 30,000 utterances, 25 layers of 1024 dimensions, three targets.

CCS of all layers in one pass over utterance means, which arrive one by one as from a feature store; MIS of one layer,
all pairs of dimensions; and scikit-learn's nearest-neighbour estimator on a sample of those pairs. Each is a process of
its own, whose peak memory is printed, interpreter and libraries included. Utterance means are generated block by block,
outside of the times.

    python benchmarks/saliency.py
    python benchmarks/saliency.py --utterances 3000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import parser_of, run_script

BLOCK = 128  # utterances that are generated at a time
FACTORS = 4  # that dimensions and targets share, as in a transformer's layer; otherwise noise would rank them


class Clock:
    """Seconds inside of ``with clock``: wall time, and CPU time of all cores."""

    def __init__(self) -> None:
        self.seconds, self.cpu = 0.0, 0.0

    def __enter__(self) -> Clock:
        self.begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.begun[0]
        self.cpu += time.process_time() - self.begun[1]

    def times(self) -> dict[str, float]:
        """Return both."""
        return {"seconds": self.seconds, "cpu": self.cpu}


def main() -> None:
    """Print seconds, megabytes and ratios, with the suite's own limits."""
    parser = parser_of(__doc__)
    parser.add_argument("--utterances", type=int, default=30_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--dims", type=int, default=1024)
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=60, help="pairs of dimensions that scikit-learn is given")
    parser.add_argument("--part", choices=("stream", "exact", "information", "neighbours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(globals()[args.part](args) | {"peak": peak()}))
        return

    def part(name: str) -> dict[str, Any]:
        return run_script(__file__, [*sys.argv[1:], "--part", name], args.threads)

    print(
        f"{args.utterances} utterances, {args.dims} dimensions, {args.targets} targets, {args.threads} threads, "
        f"load {os.getloadavg()[0]:.1f} before"
    )
    print(f"CCS, {args.layers} layers, one pass:  {times(part('stream'))} (limits 60 s, 1500 MB)")
    print(f"CCS, one layer, from the whole set:  differs by {part('exact')['difference']:.1e} (limit 1e-6)")
    ours = part("information")
    print(f"MIS, one layer, {ours['pairs']} pairs:  {times(ours)} (limit 300 s)")
    theirs = part("neighbours")
    hours, ratio = theirs["each"] * ours["pairs"] / 3600, theirs["each"] * ours["pairs"] / ours["seconds"]
    print(f"scikit-learn, {args.pairs} pairs:  {1e3 * theirs['each']:.1f} ms a pair on {args.threads} threads")
    print(f"scikit-learn, all pairs:  {hours:.1f} h, {ratio:.0f} times ours (limit 100)")
    print(f"rank correlation with scikit-learn:  {theirs['rank']:.3f} (limit 0.9); load {os.getloadavg()[0]:.1f} after")


def times(result: dict[str, Any]) -> str:
    """Format time and memory of a part."""
    return f"{result['seconds']:.1f} s, {result['cpu']:.1f} s of CPU, {result['peak']:.0f} MB"


def blocks(args: argparse.Namespace, layers: int) -> Iterator[tuple[Any, Any]]:
    """Yield utterance means ``[B, L, N]`` and targets ``[B, D]``, float32, of a few factors and noise."""
    import torch

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(FACTORS, layers * args.dims, generator=generator)
    for start in range(0, args.utterances, BLOCK):
        count = min(BLOCK, args.utterances - start)
        hidden = torch.randn(count, FACTORS, generator=generator)
        means = torch.randn(count, layers * args.dims, generator=generator).mul_(0.7).addmm_(hidden, mix)
        means = means.view(count, layers, args.dims)
        means[:, :, ::4].abs_()  # some dependence that is not monotone
        noise = torch.randn(count, args.targets, generator=generator)
        yield means, hidden[:, torch.arange(args.targets) % FACTORS] + noise


def stream(args: argparse.Namespace) -> dict[str, float]:
    """Time the CCS of all layers in one pass."""
    from s3prl_emotion.saliency import StreamedMoments

    moments, clock = StreamedMoments(args.layers, args.dims, args.targets), Clock()
    for means, labels in blocks(args, args.layers):
        with clock:
            for mean, label in zip(means, labels, strict=True):
                moments.update(mean, label)
    with clock:
        moments.cross_correlation_saliency(per_target=True)
    return clock.times()


def exact(args: argparse.Namespace) -> dict[str, float]:
    """Return how far one pass is from eqs. 1-3 of Mitra et al. 2024 on the whole set in float64."""
    from s3prl_emotion.saliency import StreamedMoments

    moments, means, labels = StreamedMoments(1, args.dims, args.targets), [], []
    for mean, label in blocks(args, 1):
        moments.update(mean, label)
        means.append(mean[:, 0].numpy())
        labels.append(label.numpy())
    values = np.hstack([np.concatenate(means), np.concatenate(labels)]).astype(np.float64)
    correlations = np.abs(np.corrcoef(values, rowvar=False))
    between, w = correlations[: args.dims, : args.dims], correlations[args.dims :, : args.dims]
    np.fill_diagonal(between, 0)
    expected = (w + w @ between / max(1, args.dims - 1)).mean(axis=0)
    return {"difference": float(np.abs(moments.cross_correlation_saliency()[0].numpy() - expected).max())}


def information(args: argparse.Namespace) -> dict[str, float]:
    """Time the MIS of one layer."""
    from s3prl_emotion.saliency import mutual_information_saliency

    embeddings, targets = whole(args)
    with Clock() as clock:
        mutual_information_saliency(embeddings, targets)
    return clock.times() | {"pairs": args.dims * (args.dims - 1) // 2 + args.dims * args.targets}


def neighbours(args: argparse.Namespace) -> dict[str, float]:
    """Time scikit-learn's estimator on a sample of pairs; it uses one thread, so threads count as pairs in parallel."""
    from scipy.stats import spearmanr
    from sklearn.feature_selection import mutual_info_regression

    from s3prl_emotion.saliency import pairwise_mutual_information

    embeddings, _ = whole(args)
    generator = np.random.default_rng(0)
    chosen = [generator.choice(args.dims, size=2, replace=False) for _ in range(args.pairs)]
    values = embeddings.double().numpy()
    with Clock() as clock:
        theirs = [mutual_info_regression(values[:, [a]], values[:, b], random_state=0)[0] for a, b in chosen]
    own = [float(pairwise_mutual_information(embeddings[:, [a]], embeddings[:, [b]])) for a, b in chosen]
    return {"each": clock.seconds / args.pairs / args.threads, "rank": float(spearmanr(own, theirs).statistic)}


def whole(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return one layer of all utterances, ``[U, N]``, and targets ``[U, D]``."""
    import torch

    means, labels = zip(*((mean[:, 0], label) for mean, label in blocks(args, 1)), strict=True)
    return torch.cat(means), torch.cat(labels)


def peak() -> float:
    """Return this process's peak memory (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
