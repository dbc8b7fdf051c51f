"""Compute the scores of a study: spread over runs, intervals over speakers, differences to the baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.published import SIZE, PublishedNumber
from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.dimensional import error_per_bin
from s3prl_emotion.metrics.statistics import cluster_bootstrap, holm, paired_permutation_test
from s3prl_emotion.report.computing.pooled import Measures, Pool
from s3prl_emotion.report.computing.scores import (
    SIGNIFICANT,
    Analysis,
    Difference,
    Part,
    Row,
    Score,
    flat_metrics,
    is_tested,
    score_of,
)
from s3prl_emotion.report.computing.seeds import scores_of_seeds
from s3prl_emotion.report.reading.predictions import Predictions, read_predictions
from s3prl_emotion.report.reading.protocols import with_protocols
from s3prl_emotion.report.reading.study import RunResult, Study

RESAMPLES = 10_000
MOST_TESTED = 5  # tested metrics of a system and split: CCC of three dimensions, UAR and WA


def analyse(study: Study, resamples: int = RESAMPLES, seed: int = 0) -> Analysis:
    """Compute all scores of a study.

    Args:
        study: the study, as loaded
        resamples: number of resamples of the bootstrap and of permutations
        seed: seed of both
    """
    study = with_protocols(study)
    places = [
        (upstream, split)
        for upstream in study.upstreams
        for split in study.splits
        if any(study.of(upstream, system, split) for system in study.systems)
    ]
    comparisons = len(places) * (len(study.systems) - 1) * MOST_TESTED
    permutations = max(resamples, int(2 * comparisons / SIGNIFICANT))  # or Holm's correction leaves nothing below 5 %
    parts = [_Analyst(study, *place, resamples, permutations, seed).part() for place in places]
    return _corrected(Analysis(study, tuple(parts), 0, resamples))


class _Analyst:
    """Computes the part of one upstream and split."""

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
        metrics = dict.fromkeys(name for row in rows for name in row.scores)
        largest = max(self.pools.values(), key=lambda pool: pool.utterances, default=None)
        counts = (largest.utterances, len(largest.clusters)) if largest else (0, 0)
        return Part(self.upstream, self.split, rows, tuple(metrics), *counts, tuple(self.warnings))

    def _read(self, runs: Sequence[RunResult]) -> list[tuple[RunResult, Predictions]]:
        read = []
        for run in runs:
            try:
                result = run.splits[self.split]
                read.append((run, read_predictions(result.predictions, result.evaluated)))
            except LabelError as error:
                self._warn(f"no intervals for {run.system}, {self.split}: {error}")
                return []
        kinds = {(part.dimensions, part.truth is None) for _, part in read}
        return read if len(kinds) == 1 else []

    def _row(self, system: str) -> Row:
        runs = self.runs[system]
        scores = _spread(runs, self.split)
        bins: dict[str, list[dict[str, Any]]] = {}
        if system in self.pools:
            pool = self.pools[system]
            scores = self._with_intervals(pool, scores)
            bins = {name: _bins(pool, column) for column, name in enumerate(pool.dimensions)}
            if system != self.study.baseline_of(system):
                scores = self._with_differences(system, scores)
        published = self._published(system)
        scores = {name: dataclasses.replace(score, published=published.get(name)) for name, score in scores.items()}
        size, reference = _parameters(runs), _parameters(self.runs.get(self.study.baseline or system, []))
        relative = size / reference if size and reference else None
        return Row(system, len(runs), size, relative, published.get(SIZE), scores, bins)

    def _with_intervals(self, pool: Pool, scores: dict[str, Score]) -> dict[str, Score]:
        measures = Measures(len(pool.seeds), pool.dimensions, len(pool.classes))
        intervals = cluster_bootstrap(pool.sums(pool.classes), measures, resamples=self.resamples, seed=self.seed)
        for index, name in enumerate(measures.names):
            if name in scores:
                pooled, low, high = (float(part[index]) for part in (intervals.values, intervals.low, intervals.high))
                scores[name] = dataclasses.replace(scores[name], pooled=pooled, low=low, high=high)
        return scores

    def _with_differences(self, system: str, scores: dict[str, Score]) -> dict[str, Score]:
        """Add the differences to the baseline, over the runs that system and baseline both have."""
        ours, theirs = self._pairs(system)
        if not ours:
            return scores
        pools = self._pool(system, ours), self._pool(self.study.baseline_of(system) or "", theirs)
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
        """Return the pool of some of a system's runs; the pool of all of them exists already."""
        return self.pools[system] if len(runs) == len(self.read[system]) else Pool(runs)

    def _pairs(self, system: str) -> tuple[list[Any], list[Any]]:
        """Return runs of system and baseline that share fold and seed; none if any two of them saw other utterances."""
        name = self.study.baseline_of(system)
        baseline = {run.key: (run, part) for run, part in self.read.get(name or "", [])}
        ours, theirs = [], []
        for run, part in self.read[system]:
            other = baseline.get(run.key)
            if other is None:
                continue
            if not part.same_utterances(other[1]):
                why = f"their utterances or labels differ in {run.fold}"
                self._warn(f"{system} and {name} are not compared: {why}")
                return [], []
            ours.append((run, part))
            theirs.append(other)
        if baseline and len(ours) < max(len(baseline), len(self.read[system])):
            how = f"compared over the {len(ours)} runs that both have" if ours else (
                "not compared: they share no fold and seed")  # fmt: skip
            self._warn(f"{system} and {name} are {how}")
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


def _spread(runs: Sequence[RunResult], split: str) -> dict[str, Score]:
    """Return mean and spread over runs of each metric."""
    tables = [flat_metrics(run.splits[split].metrics) for run in runs]
    scores = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        values = [table.get(name, np.nan) for table in tables]
        by_seed = scores_of_seeds({run.key: value for run, value in zip(runs, values, strict=True)})
        scores[name] = dataclasses.replace(score_of(name, values), by_seed=by_seed)
    return scores


def _bins(pool: Pool, column: int) -> list[dict[str, Any]]:
    """Return MSE per label bin, with utterances counted once for all seeds; Mitra et al. 2024, Fig. 4."""
    bins = error_per_bin(*pool.values(column))
    return [{**item, "utterances": round(item["utterances"] / len(pool.seeds))} for item in bins]


def _parameters(runs: Sequence[RunResult]) -> float | None:
    counts = [run.num_parameters for run in runs if run.num_parameters]
    return float(np.mean(counts)) if counts else None


def _corrected(analysis: Analysis) -> Analysis:
    """Return the analysis with Holm's correction over all differences that are tested."""
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
    """Return the part with a warning if it has too few speakers for any difference to be significant."""
    tested = any(score.difference is not None for row in part.rows for score in row.scores.values())
    smallest = 2 / 2 ** min(part.speakers, 100)
    if not tested or smallest * comparisons < SIGNIFICANT:
        return part
    text = (
        f"{part.speakers} speakers: no difference can be significant here, since the smallest possible p-value is "
        f"{smallest:.2g}, times {comparisons} comparisons"
    )
    return dataclasses.replace(part, warnings=(*part.warnings, text))
