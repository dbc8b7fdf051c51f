"""The statistics for one metric of utterances: an interval of one system, a comparison of two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.metrics.statistics.bootstrap import FEWEST, LEVEL, RESAMPLES, cluster_bootstrap
from s3prl_emotion.metrics.statistics.permutation import PERMUTATIONS, paired_permutation_test
from s3prl_emotion.metrics.statistics.sums import DIMENSIONAL, METRICS, Array, confusion_sums, dimensional_sums

logger = logging.getLogger(__name__)
FEW_SPEAKERS = 20  # below, 95 % intervals are rough


@dataclass(frozen=True)
class Interval:
    """A metric with its interval; ``low`` and ``high`` are NaN where there is none."""

    value: float
    low: float
    high: float
    level: float
    speakers: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """First less second system: the ``difference`` with its interval, and the two-sided ``p_value``."""

    difference: float
    low: float
    high: float
    p_value: float
    exact: bool
    speakers: int
    warnings: tuple[str, ...]


class Clusters:
    """The utterances' speakers as indices; utterances of unknown speakers are clusters of their own.

    Args:
        speakers: of each utterance, ``[U]``; ``None``, ``""`` or NaN where not known
        utterances: what identifies each, ``[U]``, where one stands there several times (for several seeds)
    """

    def __init__(self, speakers: Sequence[Any], utterances: Sequence[Hashable] | None = None) -> None:
        names = [_known(name) for name in speakers]
        self.unknown = sum(name is None for name in names)
        self.utterances = len(names)
        places: dict[Hashable, int] = {}
        rows = range(len(names)) if utterances is None else utterances
        keys = [("utterance", row) if name is None else name for row, name in zip(rows, names, strict=True)]
        self.indices: NDArray[np.intp] = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.intp)
        self.names = list(places)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What to know before one believes an interval over these clusters."""
        if self.unknown:
            part = "no utterance" if self.unknown == self.utterances else f"{self.unknown} utterances"
            has = "has a known speaker" if self.unknown == self.utterances else "have no known speaker"
            return (f"{part} {has}: each counts as a speaker of its own, so intervals are too narrow",)
        if len(self) < FEWEST:
            return (f"{len(self)} speakers: too few for an interval, which needs {FEWEST}",)
        if len(self) < FEW_SPEAKERS:
            return (f"{len(self)} speakers: with fewer than {FEW_SPEAKERS}, intervals are rough",)
        return ()


def speaker_interval(
    metric: str,
    truth: Sequence[Any] | NDArray[Any],
    prediction: Sequence[Any] | NDArray[Any],
    speakers: Sequence[Any] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a metric that holds for new speakers: speakers are drawn, not utterances.

    Args:
        metric: CCC, Pearson, MSE, UAR, WA or macro_f1
        truth: numbers or class names, ``[U]``
        prediction: the same, ``[U]``
        speakers: of each utterance, ``[U]``; without, each utterance is its own, and a warning says so
        level: of confidence
        resamples: of the bootstrap
        seed: of the bootstrap

    Raises:
        UsageError: unknown metric, or arguments out of range
        LabelError: sequences that are not equally long
    """
    clusters = _clusters(speakers, len(truth))
    sums = _sums(metric, truth, prediction, clusters)
    found = cluster_bootstrap(sums, _one(metric), level, resamples, seed)
    _warn(clusters)
    bounds = float(found.low[0]), float(found.high[0])
    return Interval(float(found.values[0]), *bounds, level, len(clusters), clusters.warnings)


def compare_systems(
    metric: str,
    truth: Sequence[Any] | NDArray[Any],
    first: Sequence[Any] | NDArray[Any],
    second: Sequence[Any] | NDArray[Any],
    speakers: Sequence[Any] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """Difference between two systems on the same utterances, its interval, and a paired test over speakers.

    Args:
        metric: as in :func:`speaker_interval`
        truth: numbers or class names, ``[U]``
        first: predictions of one system, ``[U]``
        second: predictions of the other, ``[U]``
        speakers: of each utterance, ``[U]``
        level: of confidence of the difference's interval
        resamples: of the bootstrap
        permutations: of the test; all are counted where there are no more
        seed: of bootstrap and test

    Raises:
        UsageError: unknown metric, or arguments out of range
        LabelError: sequences that are not equally long
    """
    clusters = _clusters(speakers, len(truth))
    names = [*first, *second]  # so that both systems' classes are numbered alike
    one, other = (_sums(metric, truth, guess, clusters, names) for guess in (first, second))
    width, value = one.shape[1], _one(metric)
    both = cluster_bootstrap(
        np.concatenate([one, other], axis=1),
        lambda sums: value(sums[..., :width]) - value(sums[..., width:]),
        level,
        resamples,
        seed,
    )
    test = paired_permutation_test(one, other, value, permutations, seed)
    _warn(clusters)
    bounds = float(both.low[0]), float(both.high[0])
    p_value = float(test.p_values[0])
    return Comparison(float(both.values[0]), *bounds, p_value, test.exact, len(clusters), clusters.warnings)


def _one(metric: str) -> Callable[[Array], Array]:
    """The metric as the bootstrap wants it, ``[..., P]`` to ``[..., 1]``."""
    value = METRICS[metric]
    return lambda sums: value(sums)[..., None]


def _sums(metric: str, truth: Any, prediction: Any, clusters: Clusters, names: Sequence[Any] = ()) -> Array:
    if metric not in METRICS:
        raise UsageError(f"{metric}: no such metric{nearest(metric, METRICS)}")
    if metric in DIMENSIONAL:
        numbers = [np.asarray(part, dtype=np.float64) for part in (truth, prediction)]
        return dimensional_sums(numbers[0], numbers[1], clusters.indices, len(clusters))
    places: dict[Any, int] = {}
    for name in (*truth, *prediction, *names):
        places.setdefault(name, len(places))
    true, guess = (np.array([places[name] for name in part], dtype=np.intp) for part in (truth, prediction))
    return confusion_sums(true, guess, clusters.indices, len(clusters), len(places))


def _clusters(speakers: Sequence[Any] | None, utterances: int) -> Clusters:
    return Clusters([None] * utterances if speakers is None else speakers)


def _known(name: Any) -> Hashable | None:
    if name is None or name == "" or (isinstance(name, float) and np.isnan(name)):
        return None
    return str(name)


def _warn(clusters: Clusters) -> None:
    for warning in clusters.warnings:
        logger.warning("%s", warning)
