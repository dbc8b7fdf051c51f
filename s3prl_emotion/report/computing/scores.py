"""Scores of systems, their differences to a baseline, and the parts of a report that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.metrics import registry
from s3prl_emotion.report.computing.seeds import SeedScores
from s3prl_emotion.report.reading.study import Study

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A system minus the baseline, over the runs that both have.

    Attributes:
        low: lower end of the 95 % interval of ``value``
        high: its upper end
        exact: whether the permutation test went through all permutations
        p_holm: p-value corrected over all comparisons of the report
    """

    value: float
    low: float
    high: float
    p_value: float
    exact: bool
    p_holm: float = float("nan")

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at a family-wise error rate of 5 %."""
        return self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Score:
    """A metric of a system on a split; NaN or ``None`` where a value does not exist.

    Attributes:
        runs: number of runs
        mean: mean over runs of the value in each run's metrics file
        std: standard deviation over runs (n - 1)
        lowest: lowest value of a run
        highest: highest value of a run
        pooled: value over all folds' predictions together, mean over seeds
        low: lower end of the 95 % interval of ``pooled`` over speakers
        high: its upper end
        difference: difference to the baseline
        published: published value
        by_seed: spread over seeds of the means over folds; ``None`` with fewer than two seeds
    """

    metric: str
    runs: int
    mean: float
    std: float
    lowest: float
    highest: float
    pooled: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    difference: Difference | None = None
    published: PublishedNumber | None = None
    by_seed: SeedScores | None = None


@dataclass(frozen=True)
class Row:
    """A system on an upstream and a split.

    Attributes:
        runs: number of runs
        num_parameters: trainable parameters of the head, mean over runs
        relative_size: ``num_parameters`` relative to the baseline's
        published_size: published relative size
        scores: scores by metric
        bins: mean squared error for each bin of the labels, by dimension
    """

    system: str
    runs: int
    num_parameters: float | None
    relative_size: float | None
    published_size: PublishedNumber | None
    scores: dict[str, Score]
    bins: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Part:
    """The scores on an upstream and a split: a row for each system, in the study's order."""

    upstream: str
    split: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    utterances: int
    speakers: int
    warnings: tuple[str, ...]

    @property
    def main_metrics(self) -> list[str]:
        """CCC and the metrics of classes."""
        return [name for name in self.metrics if (metric := registry.find(name)) is not None and metric.main]

    @property
    def other_metrics(self) -> list[str]:
        """MSE and Pearson's correlation."""
        return [name for name in self.metrics if name not in self.main_metrics]


@dataclass(frozen=True)
class Analysis:
    """All scores of a study; ``comparisons`` is the number of tests that Holm's method corrects for."""

    study: Study
    parts: tuple[Part, ...]
    comparisons: int
    resamples: int

    def of(self, upstream: str) -> list[Part]:
        """Return the parts of an upstream."""
        return [part for part in self.parts if part.upstream == upstream]


def is_tested(metric: str) -> bool:
    """Return whether differences in a metric are tested: CCC of each dimension, UAR and WA, which the others follow."""
    entry = registry.find(metric)
    return entry is not None and entry.tested


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a metrics file by the names that reports use; NaN where a metric is not defined."""
    flat: dict[str, Any] = {}
    for metric in registry.reported("dimensions"):
        by_dimension = metric.value(metrics)
        if isinstance(by_dimension, dict):
            flat |= {f"{metric.name}.{name}": value for name, value in by_dimension.items()}
            flat[metric.mean.name] = metric.mean.value(metrics)
    flat |= {metric.name: metrics[metric.name] for metric in registry.reported("classes") if metric.name in metrics}
    return {name: float("nan") if value is None else float(value) for name, value in flat.items()}


def score_of(metric: str, values: Sequence[float]) -> Score:
    """Return mean, spread and range of a metric over runs; NaN if it is NaN in one of them."""
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Score(metric, len(array), float(array.mean()), std, float(array.min()), float(array.max()))
