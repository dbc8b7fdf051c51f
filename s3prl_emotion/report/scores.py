"""What a report computes of a study: scores of systems, differences to a baseline, parts of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.metrics.statistics import CATEGORICAL, DIMENSIONAL
from s3prl_emotion.report.study import Study

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A system less the baseline, over the runs that both have; ``p_holm`` is corrected for all of the report."""

    value: float
    low: float
    high: float
    p_value: float
    exact: bool
    p_holm: float = float("nan")

    @property
    def significant(self) -> bool:
        """At a family-wise error of 5 %."""
        return self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Score:
    """A metric of a system on a split; NaN and ``None`` stand for what there is not.

    Attributes:
        mean: over runs, as each run's metrics file has it; ``std`` (n - 1), ``lowest`` and ``highest`` likewise
        pooled: of all folds' predictions together, mean over seeds; ``low`` and ``high`` are its 95 % interval
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


@dataclass(frozen=True)
class Row:
    """A system on a split of an upstream."""

    system: str
    runs: int
    num_parameters: float | None
    relative_size: float | None
    published_size: PublishedNumber | None
    scores: dict[str, Score]
    bins: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Part:
    """An upstream and a split: rows are systems, in the study's order."""

    upstream: str
    split: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    utterances: int
    speakers: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """All scores of a study; ``comparisons`` counts those that Holm's correction is for."""

    study: Study
    parts: tuple[Part, ...]
    comparisons: int
    resamples: int

    def of(self, upstream: str) -> list[Part]:
        """Parts of an upstream."""
        return [part for part in self.parts if part.upstream == upstream]


def is_tested(metric: str) -> bool:
    """Whether differences in a metric are tested: CCC of each dimension, UAR and WA; the rest follows from them."""
    return metric.startswith("CCC.") or metric in ("UAR", "WA")


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Metrics of a metrics file by the names that reports use; NaN where a metric is not defined."""
    found: dict[str, Any] = {}
    for metric in DIMENSIONAL:
        if isinstance(metrics.get(metric), dict):
            found |= {f"{metric}.{name}": value for name, value in metrics[metric].items()}
            found[f"mean_{metric}"] = metrics.get(f"mean_{metric}")
    found |= {metric: metrics[metric] for metric in CATEGORICAL if metric in metrics}
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}


def score_of(metric: str, values: Sequence[float]) -> Score:
    """Mean, spread and range of a metric over runs, NaN where it is NaN in one."""
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Score(metric, len(array), float(array.mean()), std, float(array.min()), float(array.max()))
