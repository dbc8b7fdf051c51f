"""Compute the statistics of a report for one metric of plain sequences: an interval, or a comparison of two systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.class_scores import class_counts
from s3prl_emotion.metrics.dimension_scores import dimension_sums
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.statistics import Clusters, cluster_bootstrap, paired_permutation_test

DIMENSIONAL, CATEGORICAL = registry.resampled("dimensions"), registry.resampled("classes")
METRICS = DIMENSIONAL | CATEGORICAL


@dataclass(frozen=True)
class Interval:
    """A metric with its interval."""

    value: float
    low: float
    high: float
    speakers: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The difference between two systems (first minus second), with its interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    exact: bool


def speaker_interval(
    metric: str, truth: Sequence[Any], prediction: Sequence[Any], speakers: Sequence[Any] | None = None, **options: Any
) -> Interval:
    """Return a metric and its interval over speakers; ``options`` are those of :func:`cluster_bootstrap`."""
    clusters = Clusters([None] * len(truth) if speakers is None else speakers)
    found = cluster_bootstrap(_sums(metric, truth, prediction, clusters), _one(metric), **options)
    numbers = (float(part[0]) for part in (found.values, found.low, found.high))
    return Interval(*numbers, len(clusters), clusters.warnings)


def compare_systems(
    metric: str, truth: Sequence[Any], first: Sequence[Any], second: Sequence[Any],
    speakers: Sequence[Any] | None = None, resamples: int = 10_000, permutations: int = 10_000, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Return the comparison of two systems on the same utterances, as in a report."""
    clusters = Clusters([None] * len(truth) if speakers is None else speakers)
    names = [*first, *second]  # so that both systems' classes are numbered alike
    one, other = (_sums(metric, truth, guess, clusters, names) for guess in (first, second))
    width, value = one.shape[1], _one(metric)
    both = cluster_bootstrap(
        np.concatenate([one, other], axis=1),
        lambda sums: value(sums[..., :width]) - value(sums[..., width:]),
        resamples=resamples,
        seed=seed,
    )
    test = paired_permutation_test(one, other, value, permutations, seed)
    numbers = (float(part[0]) for part in (both.values, both.low, both.high, test.p_values))
    return Comparison(*numbers, test.exact)


def _one(metric: str) -> Callable[[Array], Array]:
    return lambda sums: METRICS[metric](sums)[..., None]


def _sums(metric: str, truth: Any, prediction: Any, clusters: Clusters, names: Sequence[Any] = ()) -> Array:
    if metric in DIMENSIONAL:
        numbers = [np.asarray(part, dtype=np.float64) for part in (truth, prediction)]
        return dimension_sums(numbers[0], numbers[1], clusters.indices, len(clusters))
    places = {name: place for place, name in enumerate(dict.fromkeys([*truth, *prediction, *names]))}
    true, guess = (np.array([places[name] for name in part], dtype=np.intp) for part in (truth, prediction))
    return class_counts(true, guess, clusters.indices, len(clusters), len(places))
