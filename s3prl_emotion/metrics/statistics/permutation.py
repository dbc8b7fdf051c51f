"""Paired permutation test between two systems on the same utterances: whole speakers are swapped.

Under the null hypothesis that it does not matter which system a speaker was given to, swapping the two systems'
predictions for any set of speakers gives data that are as likely. ``scipy.stats.permutation_test`` does the same
(``permutation_type="samples"``), drawing each pair in a Python loop: minutes for 1,000 speakers, so it is the test's
oracle and this the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from s3prl_emotion.errors import UsageError
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.statistics.bootstrap import CHUNK

PERMUTATIONS = 10_000
ROUNDING = 1e-9  # differences that agree to this share are equal


@dataclass(frozen=True)
class PairedTest:
    """``differences [M]`` (first less second) and two-sided ``p_values [M]``; ``exact``: every swap was counted."""

    differences: Array
    p_values: Array
    exact: bool
    clusters: int


def paired_permutation_test(
    first: Array,
    second: Array,
    metrics: Callable[[Array], Array],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> PairedTest:
    """Two-sided test of the difference between two systems in functions of sums over clusters.

    All 2^K swaps are counted where they are at most ``permutations``; else so many are drawn and the observed one is
    counted among them, p = (1 + hits) / (1 + permutations), which never gives 0 (Phipson and Smyth 2010).

    Args:
        first: sums of each cluster, ``[K, P]``
        second: the same of the other system, on the same utterances
        metrics: totals ``[..., P]`` to metrics ``[..., M]``
        permutations: how many swaps to look at, at most
        seed: of the draw

    Returns:
        differences and p-values; NaN where a metric is not defined

    Raises:
        UsageError: shapes that do not fit, or no cluster
    """
    if first.shape != second.shape or not len(first) or permutations < 1:
        raise UsageError(
            f"permutation test: sums {list(first.shape)} and {list(second.shape)} must have the same shape and hold "
            "at least one speaker"
        )
    count = len(first)
    exact = 2**count <= permutations
    with np.errstate(invalid="ignore"):  # estimates that are not finite
        middle, half = (first.sum(axis=0) + second.sum(axis=0)) / 2, (first - second) / 2
        observed = np.asarray(metrics(first.sum(axis=0)) - metrics(second.sum(axis=0)))
        limit = np.abs(observed) * (1 - ROUNDING)
        hits = np.zeros_like(observed)
        for signs in _all_signs(count) if exact else _drawn_signs(count, permutations, seed):
            change = signs @ half
            swapped = np.abs(metrics(middle + change) - metrics(middle - change))
            hits += (~(swapped < limit)).sum(axis=0)  # what is not defined counts against significance
    p_values = hits / 2**count if exact else (1 + hits) / (1 + permutations)
    return PairedTest(observed, np.where(np.isfinite(observed), p_values, np.nan), exact, count)


def _all_signs(count: int) -> Iterator[Array]:
    """Every way to swap, ``[2^count, count]``; 1 leaves a cluster alone, -1 swaps it."""
    numbers = np.arange(2**count)[:, None]
    yield (1 - 2 * ((numbers >> np.arange(count)) & 1)).astype(np.float64)


def _drawn_signs(count: int, permutations: int, seed: int) -> Iterator[Array]:
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // count)
    for first in range(0, permutations, rows):
        drawn = generator.integers(0, 2, size=(min(rows, permutations - first), count))
        yield (1 - 2 * drawn).astype(np.float64)
