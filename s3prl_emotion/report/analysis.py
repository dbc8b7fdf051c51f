"""From runs to scores: spread over runs, intervals over speakers, differences to the baseline and to papers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.published import SIZE, PublishedNumber
from s3prl_emotion.dimensional_metrics import error_per_bin
from s3prl_emotion.errors import LabelError
from s3prl_emotion.report.pooled import Measures, Pool, Predictions, read_predictions
from s3prl_emotion.report.study import RunResult, Study
from s3prl_emotion.statistics import CATEGORICAL, DIMENSIONAL, cluster_bootstrap, holm, paired_permutation_test

RESAMPLES = 10_000
SIGNIFICANT = 0.05
TESTED = 5  # metrics of a system and split that are tested, at most


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


def analyse(study: Study, resamples: int = RESAMPLES, seed: int = 0) -> Analysis:
    """Compute all scores of a study.

    Args:
        study: as loaded
        resamples: of bootstrap and permutation tests
        seed: of both
    """
    places = [
        (upstream, split)
        for upstream in study.upstreams
        for split in study.splits
        if any(study.of(upstream, system, split) for system in study.systems)
    ]
    comparisons = len(places) * (len(study.systems) - 1) * TESTED
    permutations = max(resamples, int(2 * comparisons / SIGNIFICANT))  # or Holm's correction leaves nothing below 5 %
    parts = [_Analyst(study, *place, resamples, permutations, seed).part() for place in places]
    return _corrected(Analysis(study, tuple(parts), 0, resamples))


class _Analyst:
    """One upstream and split."""

    def __init__(self, study: Study, upstream: str, split: str, resamples: int, permutations: int, seed: int) -> None:
        self.study, self.upstream, self.split = study, upstream, split
        self.resamples, self.permutations, self.seed = resamples, permutations, seed
        self.runs = {system: study.of(upstream, system, split) for system in study.systems}
        self.warnings: dict[str, None] = {}
        self.read = {system: self._read(runs) for system, runs in self.runs.items()}
        self.pools = {system: Pool(read) for system, read in self.read.items() if read}

    def part(self) -> Part:
        rows = tuple(self._row(system) for system in self.study.systems)
        for pool in self.pools.values():
            self._warn(*pool.clusters.warnings)
        found = dict.fromkeys(name for row in rows for name in row.scores)
        largest = max(self.pools.values(), key=lambda pool: pool.utterances, default=None)
        counts = (largest.utterances, len(largest.clusters)) if largest else (0, 0)
        return Part(self.upstream, self.split, rows, tuple(found), *counts, tuple(self.warnings))

    def _read(self, runs: Sequence[RunResult]) -> list[tuple[RunResult, Predictions]]:
        found = []
        for run in runs:
            try:
                found.append((run, read_predictions(run.splits[self.split].predictions)))
            except LabelError as error:
                self._warn(f"no intervals of {run.system}, {self.split}: {error}")
                return []
        kinds = {(part.dimensions, part.truth is None) for _, part in found}
        return found if len(kinds) == 1 else []

    def _row(self, system: str) -> Row:
        runs = self.runs[system]
        scores = _spread(runs, self.split)
        bins: dict[str, list[dict[str, Any]]] = {}
        if system in self.pools:
            pool = self.pools[system]
            scores = self._with_intervals(pool, scores)
            bins = {name: _bins(pool, column) for column, name in enumerate(pool.dimensions)}
            if system != self.study.baseline:
                scores = self._with_differences(system, scores)
        published = self._published(system)
        scores = {name: dataclasses.replace(score, published=published.get(name)) for name, score in scores.items()}
        size, reference = _parameters(runs), _parameters(self.runs.get(self.study.baseline or system, []))
        relative = size / reference if size and reference else None
        return Row(system, len(runs), size, relative, published.get(SIZE), scores, bins)

    def _with_intervals(self, pool: Pool, scores: dict[str, Score]) -> dict[str, Score]:
        measures = Measures(len(pool.seeds), pool.dimensions, len(pool.classes))
        found = cluster_bootstrap(pool.sums(pool.classes), measures, resamples=self.resamples, seed=self.seed)
        for index, name in enumerate(measures.names):
            if name in scores:
                pooled, low, high = (float(part[index]) for part in (found.values, found.low, found.high))
                scores[name] = dataclasses.replace(scores[name], pooled=pooled, low=low, high=high)
        return scores

    def _with_differences(self, system: str, scores: dict[str, Score]) -> dict[str, Score]:
        """Over the runs that system and baseline both have."""
        ours, theirs = self._pairs(system)
        if not ours:
            return scores
        pools = self._pool(system, ours), self._pool(self.study.baseline or "", theirs)
        classes = sorted({*pools[0].classes, *pools[1].classes})
        first, second = (pool.sums(classes) for pool in pools)
        measures, width = Measures(len(pools[0].seeds), pools[0].dimensions, len(classes)), first.shape[1]
        both = cluster_bootstrap(
            np.concatenate([first, second], axis=1),
            lambda totals: measures(totals[..., :width]) - measures(totals[..., width:]),
            resamples=self.resamples,
            seed=self.seed,
        )
        test = paired_permutation_test(first, second, measures, self.permutations, self.seed)
        for index, name in enumerate(measures.names):
            if name in scores:
                value, low, high = (float(part[index]) for part in (both.values, both.low, both.high))
                difference = Difference(value, low, high, float(test.p_values[index]), test.exact)
                scores[name] = dataclasses.replace(scores[name], difference=difference)
        return scores

    def _pool(self, system: str, runs: list[tuple[RunResult, Predictions]]) -> Pool:
        """Of some of a system's runs; that of all is there already."""
        return self.pools[system] if len(runs) == len(self.read[system]) else Pool(runs)

    def _pairs(self, system: str) -> tuple[list[Any], list[Any]]:
        """Runs of system and baseline with the same fold and seed, where they saw the same utterances."""
        baseline = {run.key: (run, part) for run, part in self.read.get(self.study.baseline or "", [])}
        ours, theirs = [], []
        for run, part in self.read[system]:
            other = baseline.get(run.key)
            if other is None:
                continue
            if not part.same_utterances(other[1]):
                self._warn(
                    f"{system} and {self.study.baseline} are not compared: other utterances or labels in {run.fold}"
                )
                return [], []
            ours.append((run, part))
            theirs.append(other)
        if baseline and len(ours) < max(len(baseline), len(self.read[system])):
            what = f"over the {len(ours)} runs that both have" if ours else "not at all: they share no fold and seed"
            self._warn(f"{system} and {self.study.baseline} are compared {what}")
        return ours, theirs

    def _published(self, system: str) -> dict[str, PublishedNumber]:
        where = (self.upstream, self.split, system)
        return {
            number.metric: number
            for number in self.study.published
            if (number.upstream, number.split, number.system) == where
        }

    def _warn(self, *texts: str) -> None:
        self.warnings.update(dict.fromkeys(texts))


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Metrics of a metrics file by the names that reports use; NaN where a metric is not defined."""
    found: dict[str, Any] = {}
    for metric in DIMENSIONAL:
        if isinstance(metrics.get(metric), dict):
            found |= {f"{metric}.{name}": value for name, value in metrics[metric].items()}
            found[f"mean_{metric}"] = metrics.get(f"mean_{metric}")
    found |= {metric: metrics[metric] for metric in CATEGORICAL if metric in metrics}
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}


def _spread(runs: Sequence[RunResult], split: str) -> dict[str, Score]:
    """Mean and spread over runs of each metric."""
    tables = [flat_metrics(run.splits[split].metrics) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: score_of(name, [table.get(name, np.nan) for table in tables]) for name in names}


def score_of(metric: str, values: Sequence[float]) -> Score:
    """Mean, spread and range of a metric over runs, NaN where it is NaN in one."""
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Score(metric, len(array), float(array.mean()), std, float(array.min()), float(array.max()))


def _bins(pool: Pool, column: int) -> list[dict[str, Any]]:
    """MSE per label bin, utterances counted once however many seeds there are; Mitra et al. 2024, Fig. 4."""
    bins = error_per_bin(*pool.values(column))
    return [{**found, "utterances": round(found["utterances"] / len(pool.seeds))} for found in bins]


def _parameters(runs: Sequence[RunResult]) -> float | None:
    counts = [run.num_parameters for run in runs if run.num_parameters]
    return float(np.mean(counts)) if counts else None


def _corrected(analysis: Analysis) -> Analysis:
    """With Holm's correction over all differences that are tested."""
    tested = [
        (part.upstream, part.split, row.system, name)
        for part in analysis.parts
        for row in part.rows
        for name, score in row.scores.items()
        if score.difference is not None and is_tested(name) and np.isfinite(score.difference.p_value)
    ]
    at = {(part.upstream, part.split, row.system): row.scores for part in analysis.parts for row in part.rows}
    raw = [at[key[:3]][key[3]].difference for key in tested]
    adjusted = holm([difference.p_value for difference in raw if difference is not None])
    for key, p_value in zip(tested, adjusted.tolist(), strict=True):
        score = at[key[:3]][key[3]]
        if score.difference is not None:
            difference = dataclasses.replace(score.difference, p_holm=p_value)
            at[key[:3]][key[3]] = dataclasses.replace(score, difference=difference)
    parts = tuple(_with_power(part, len(tested)) for part in analysis.parts)
    return dataclasses.replace(analysis, parts=parts, comparisons=len(tested))


def _with_power(part: Part, comparisons: int) -> Part:
    """With a warning where speakers are too few for any difference to become significant."""
    tested = any(score.difference is not None for row in part.rows for score in row.scores.values())
    smallest = 2 / 2 ** min(part.speakers, 100)
    if not tested or smallest * comparisons < SIGNIFICANT:
        return part
    text = (
        f"{part.speakers} speakers: no difference can be significant here, since the smallest p-value there can be is "
        f"{smallest:.2g}, times {comparisons} comparisons"
    )
    return dataclasses.replace(part, warnings=(*part.warnings, text))
