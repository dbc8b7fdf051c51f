"""Compute bootstrap intervals that draw whole speakers and keep their coverage with few of them.

The percentile interval of a cluster bootstrap is too narrow with few clusters: with 10 simulated speakers, 84 to 91 %
of 95 % intervals held the true value. The expanded percentile interval (Hesterberg 2015, "What teachers should know
about the bootstrap") takes quantiles further out: those of Student's t with K - 1 degrees of freedom, times the factor
by which the bootstrap's spread is too small. For a mean this factor is sqrt(K / (K - 1)), the ratio of the standard
error of the jackknife to that of the bootstrap. Here the ratio is measured, since it is larger for CCC and for speakers
with unequal numbers of utterances. The interval stays within the metric's range. Share (%) of 95 % intervals that held
the true value, on 2,000 simulated corpora each, with skewed numbers of utterances and predictions biased by speaker
(``coverage`` in ``tests/metrics/test_statistics.py``):

    speakers  CCC   Pearson  MSE   UAR   WA    macro-F1
    10        96.1  97.1     89.8  94.4  93.2  94.0
    20        94.0  95.5     90.6  94.4  94.5  95.3
    50        95.0  95.3     92.3  94.2  94.4  94.7
    100       94.9  95.3     93.3  94.5  94.1  95.1

Two other corrections were tried: BCa with the jackknife's acceleration is worse than the plain percentile for CCC (86 %
with 20 speakers); bootstrap-t is better for MSE (94 % with 100) at the price of much wider intervals with few speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from s3prl_emotion.errors import UsageError
from s3prl_emotion.metrics.metric import Array

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 5  # clusters: an interval reaches to its most extreme cluster, so with 4 it holds 1 - 2 / 2^4 = 88 % at most
CHUNK = 2_000_000  # most weights in memory at once (16 MB)


@dataclass(frozen=True)
class Intervals:
    """Metrics ``values [M]`` with bounds ``low [M]`` and ``high [M]``, NaN where there is no interval."""

    values: Array
    low: Array
    high: Array
    level: float
    clusters: int


def cluster_bootstrap(
    sums: Array,
    metrics: Callable[[Array], Array],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Compute expanded percentile intervals of metrics that are functions of sums over clusters.

    Args:
        sums: sums of each cluster, ``[K, P]``
        metrics: function of totals ``[..., P]`` that returns metrics ``[..., M]``, NaN where they are not defined
        level: level of confidence, in (0, 1)
        resamples: number of times that K clusters are drawn with replacement
        seed: seed of the draw; for the same K, the same seed gives the same draw

    Returns:
        the metrics of all clusters and their intervals; NaN with fewer than 5 clusters, or where a metric is not
        defined in half of the resamples

    Raises:
        UsageError: ``level`` or ``resamples`` out of range, or no cluster
    """
    if not 0 < level < 1 or resamples < 1 or not len(sums):
        raise UsageError(
            f"bootstrap: level {level} must lie in (0, 1), resamples {resamples} be 1 or more, for 1 cluster or more"
        )
    total, count = sums.sum(axis=0), len(sums)
    with np.errstate(invalid="ignore"):  # estimates that are not finite
        values = np.asarray(metrics(total))
        low, high = np.full_like(values, np.nan), np.full_like(values, np.nan)
        if count >= FEWEST:
            drawn = np.concatenate([metrics(weights @ sums) for weights in _draws(count, resamples, seed)])
            left_out = metrics(total - sums)
            for index in np.flatnonzero(np.isfinite(values)):
                low[index], high[index] = _expanded(drawn[:, index], left_out[:, index], level)
    return Intervals(values, low, high, level, count)


def _expanded(drawn: Array, left_out: Array, level: float) -> tuple[float, float]:
    """Return the bounds, from the metric of each resample ``[B]`` and of all clusters but one ``[K]``."""
    count = len(left_out)
    resamples = len(drawn)
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if 2 * len(drawn) <= resamples or not len(left_out):
        return np.nan, np.nan
    spread, jackknife = drawn.std(), left_out.std() * np.sqrt(count - 1)
    expansion = np.sqrt(count / (count - 1))
    if spread > 0:
        expansion = max(expansion, jackknife / spread)
    share = float(stats.norm.cdf(-expansion * stats.t.ppf((1 + level) / 2, count - 1)))
    low, high = np.quantile(drawn, [share, 1 - share])
    return float(low), float(high)


def _draws(count: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each of ``count`` clusters is drawn, ``[b, count]`` at a time."""
    if count * resamples <= CHUNK:
        yield _few_draws(count, resamples, seed)
        return
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // count)
    for first in range(0, resamples, rows):
        yield _weights(generator, min(rows, resamples - first), count)


@lru_cache(maxsize=4)
def _few_draws(count: int, resamples: int, seed: int) -> Array:
    """Return the draws of one chunk, cached since the systems of a report share their speakers."""
    weights = _weights(np.random.default_rng(seed), resamples, count)
    weights.flags.writeable = False
    return weights


def _weights(generator: np.random.Generator, rows: int, count: int) -> Array:
    drawn = generator.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
