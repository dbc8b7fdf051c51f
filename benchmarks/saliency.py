"""Saliency at the papers' size: 30,000 utterances, 25 layers of 1024 dimensions, three targets.

CCS of all layers in one pass over utterance means, given one by one as a feature store gives them; MIS of one layer,
all pairs of dimensions; and scikit-learn's nearest-neighbour estimator on a sample of those pairs. Each in a process of
its own, whose peak memory is printed, interpreter and libraries included. Utterance means are made on the fly, block by
block; making them is not in the times.

    python benchmarks/saliency.py
    python benchmarks/saliency.py --utterances 3000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import ROOT

BLOCK = 128  # utterances that are made at once
FACTORS = 4  # of which dimensions and targets are mixed, as in a transformer's layer; else noise alone would rank them


class Clock:
    """Seconds spent inside of ``with clock``, on the wall and of all cores together."""

    def __init__(self) -> None:
        self.seconds, self.cpu = 0.0, 0.0

    def __enter__(self) -> Clock:
        self.begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.begun[0]
        self.cpu += time.process_time() - self.begun[1]

    def times(self) -> dict[str, float]:
        """Both."""
        return {"seconds": self.seconds, "cpu": self.cpu}


def main() -> None:
    """Print seconds, megabytes and ratios, with the limits that the suite sets itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=30_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--dims", type=int, default=1024)
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=60, help="pairs of dimensions that scikit-learn is given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("stream", "exact", "information", "neighbours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(globals()[args.part](args) | {"peak": peak()}))
        return
    print(
        f"{args.utterances} utterances, {args.dims} dimensions, {args.targets} targets, {args.threads} threads, "
        f"load {os.getloadavg()[0]:.1f} before"
    )
    print(f"CCS, {args.layers} layers, one pass:  {times(child('stream'))} (limits 60 s, 1500 MB)")
    print(f"CCS, one layer, from the whole set:  differs by {child('exact')['difference']:.1e} (limit 1e-6)")
    ours = child("information")
    print(f"MIS, one layer, {ours['pairs']} pairs:  {times(ours)} (limit 300 s)")
    theirs = child("neighbours")
    hours, ratio = theirs["each"] * ours["pairs"] / 3600, theirs["each"] * ours["pairs"] / ours["seconds"]
    print(f"scikit-learn, {args.pairs} pairs:  {1e3 * theirs['each']:.1f} ms a pair on {args.threads} threads")
    print(f"scikit-learn, all pairs:  {hours:.1f} h, {ratio:.0f} times ours (limit 100)")
    print(f"rank correlation with scikit-learn:  {theirs['rank']:.3f} (limit 0.9); load {os.getloadavg()[0]:.1f} after")


def times(found: dict[str, Any]) -> str:
    """Time and memory of a part."""
    return f"{found['seconds']:.1f} s, {found['cpu']:.1f} s of CPU, {found['peak']:.0f} MB"


def child(part: str) -> dict[str, Any]:
    """Run a part in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{part}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def blocks(args: argparse.Namespace, layers: int) -> Iterator[tuple[Any, Any]]:
    """Utterance means ``[B, L, N]`` and targets ``[B, D]``, float32, of a few factors and noise."""
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
    """CCS of all layers in one pass."""
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
    """How far one pass is from eqs. 1-3 of Mitra et al. 2024 over the whole set in float64."""
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
    """MIS of one layer."""
    from s3prl_emotion.saliency import mutual_information_saliency

    embeddings, targets = whole(args)
    with Clock() as clock:
        mutual_information_saliency(embeddings, targets)
    return clock.times() | {"pairs": args.dims * (args.dims - 1) // 2 + args.dims * args.targets}


def neighbours(args: argparse.Namespace) -> dict[str, float]:
    """scikit-learn's estimator on a sample of pairs; it takes one thread, so as many pairs at once as there are."""
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
    """One layer of all utterances, ``[U, N]``, and targets ``[U, D]``."""
    import torch

    means, labels = zip(*((mean[:, 0], label) for mean, label in blocks(args, 1)), strict=True)
    return torch.cat(means), torch.cat(labels)


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
