"""Saliency at the papers' size: 30,000 utterances, 25 layers of 1024 dimensions, three targets.

CCS of all layers in one pass over utterance means, given one by one as a feature store gives them; MIS of one layer,
all pairs of dimensions; and scikit-learn's nearest-neighbour estimator on a sample of those pairs. Reading or making
the features is not in the times. Memory is the process's peak, interpreter and libraries included.

    python benchmarks/saliency.py
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from common import ROOT

POOL = 512  # distinct utterances that the pass over all layers sees again and again: the arithmetic is the same


def main() -> None:
    """Print seconds, megabytes and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=30_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--dims", type=int, default=1024)
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=60, help="pairs of dimensions that scikit-learn is given")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(args.threads)
    print(f"{args.utterances} utterances, {args.dims} dimensions, {args.targets} targets, {args.threads} threads")
    stream(args)
    information(args)


def stream(args: argparse.Namespace) -> None:
    """CCS of all layers."""
    import torch

    from s3prl_emotion.saliency import StreamedMoments

    torch.manual_seed(0)
    means, labels = torch.randn(POOL, args.layers, args.dims), torch.randn(POOL, args.targets)
    before = peak()
    begun = time.perf_counter()
    moments = StreamedMoments(args.layers, args.dims, args.targets)
    for number in range(args.utterances):
        moments.update(means[number % POOL], labels[number % POOL])
    moments.cross_correlation_saliency()
    seconds = time.perf_counter() - begun
    print(f"CCS, {args.layers} layers, one pass: {seconds:.1f} s; peak {peak():.0f} MB ({before:.0f} MB before)")


def information(args: argparse.Namespace) -> None:
    """MIS of one layer, beside scikit-learn."""
    import torch
    from scipy.stats import spearmanr
    from sklearn.feature_selection import mutual_info_regression

    from s3prl_emotion.saliency import mutual_information_saliency, pairwise_mutual_information

    generator = np.random.default_rng(0)
    # A few factors, as in a transformer's layer. Were all pairs nearly independent, noise alone would rank them.
    hidden = generator.normal(size=(args.utterances, 4))
    values = hidden @ generator.normal(size=(4, args.dims)) + 0.7 * generator.normal(size=(args.utterances, args.dims))
    values[:, ::4] = np.abs(values[:, ::4])  # some dependence that is not monotone
    labels = hidden[:, : args.targets] + generator.normal(size=(args.utterances, args.targets))
    embeddings, targets = torch.from_numpy(values).float(), torch.from_numpy(labels)
    begun = time.perf_counter()
    mutual_information_saliency(embeddings, targets)
    ours = time.perf_counter() - begun
    pairs = args.dims * (args.dims - 1) // 2 + args.dims * args.targets
    print(f"MIS, one layer, {pairs} pairs: {ours:.1f} s, {1e3 * ours / pairs:.3f} ms a pair; peak {peak():.0f} MB")

    chosen = [generator.choice(args.dims, size=2, replace=False) for _ in range(args.pairs)]
    begun = time.perf_counter()
    theirs = [mutual_info_regression(values[:, [a]], values[:, b], random_state=0)[0] for a, b in chosen]
    seconds = time.perf_counter() - begun
    own = [float(pairwise_mutual_information(embeddings[:, [a]], embeddings[:, [b]])) for a, b in chosen]
    each = seconds / args.pairs
    print(f"scikit-learn, {args.pairs} pairs: {1e3 * each:.1f} ms a pair, {each * pairs / 3600:.1f} h for all")
    print(f"scikit-learn / suite: {each * pairs / ours:.0f}; rank correlation {spearmanr(own, theirs).statistic:.3f}")


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
