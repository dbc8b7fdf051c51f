"""Test the difference between two systems on the same utterances by swapping whole speakers (paired permutation test).

Under the null hypothesis the systems are alike, so that swapping their predictions for any set of speakers gives
equally likely data. ``scipy.stats.permutation_test`` with ``permutation_type="samples"`` does the same in a Python loop
over pairs, which takes minutes for 1,000 speakers; it serves as the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from s3prl_emotion.errors import UsageError
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.statistics.bootstrap import CHUNK

PERMUTATIONS = 10_000
ROUNDING = 1e-9  # relative tolerance below which two differences are equal


@dataclass(frozen=True)
class PairedTest:
    """Differences ``[M]`` (first minus second) and two-sided ``p_values [M]``; ``exact`` if every swap was counted."""

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
    """Test the difference between two systems in metrics that are functions of sums over clusters, two-sided.

    All 2^K swaps are counted if they are no more than ``permutations``. Otherwise ``permutations`` of them are drawn
    and the observed one is counted as well: p = (1 + hits) / (1 + permutations), which is never 0 (Phipson and Smyth
    2010).

    Args:
        first: sums of each cluster for the first system, ``[K, P]``
        second: sums of the second system on the same utterances, ``[K, P]``
        metrics: function of totals ``[..., P]`` that returns metrics ``[..., M]``
        permutations: largest number of swaps
        seed: seed of the draw

    Returns:
        differences and p-values in (0, 1]; NaN where a metric is not defined

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
            hits += (~(swapped < limit)).sum(axis=0)  # an undefined metric counts against significance
    p_values = hits / 2**count if exact else (1 + hits) / (1 + permutations)
    return PairedTest(observed, np.where(np.isfinite(observed), p_values, np.nan), exact, count)


def _all_signs(count: int) -> Iterator[Array]:
    """Yield every way to swap, ``[2^count, count]``; 1 keeps a cluster, -1 swaps it."""
    numbers = np.arange(2**count)[:, None]
    yield (1 - 2 * ((numbers >> np.arange(count)) & 1)).astype(np.float64)


def _drawn_signs(count: int, permutations: int, seed: int) -> Iterator[Array]:
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // count)
    for first in range(0, permutations, rows):
        drawn = generator.integers(0, 2, size=(min(rows, permutations - first), count))
        yield (1 - 2 * drawn).astype(np.float64)
