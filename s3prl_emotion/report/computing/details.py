"""Gather what runs record besides their main scores: hypotheses, speakers, genders, calibration, training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.groups import N_BEST_KEYS, PA_UAR_THRESHOLDS
from s3prl_emotion.report.computing.scores import Analysis, Score, score_of
from s3prl_emotion.report.reading.study import RunResult, Study
from s3prl_emotion.report.reading.training import (
    Array,
    Curve,
    LayerSaliency,
    layer_saliency,
    learned_weights,
    learning_curves,
    saliency_paths,
)

logger = logging.getLogger(__name__)
GROUP_METRICS = registry.best_metrics(classes=True) + registry.best_metrics(dimensions=True)
SPEAKER_METRICS = tuple(metric.name for metric in registry.of_kind("classes", "mean") if metric.headline)
SPEAKER_RANKS = ("worst", "median", "best")


@dataclass
class SpeakerPoint:
    """A speaker: ``scores`` of each run by metric, and ``counts`` of utterances by class, summed over runs."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def score(self, metric: str) -> float:
        """Return the mean over runs, NaN where no run has the metric."""
        values = self.scores.get(metric, [])
        return float(np.mean(values)) if values else math.nan

    def share(self, name: str) -> float:
        """Return the share of a class in the speaker's utterances."""
        return self.counts.get(name, 0) / sum(self.counts.values())


@dataclass
class SplitDetails:
    """Details of a system on a split, over its runs.

    Attributes:
        runs: number of runs
        scores: mean and spread over the runs that have a value, by name: ``UAR.2-best``, ``WA.Female``, ``JS``, …
        genders: utterances by gender, counted once for all seeds
        classes: the K evaluated classes, in their order
        confusion: counts ``[K, K]`` summed over runs, rows are true classes
        hypotheses: by true class, counts ``[K, K]`` of first (rows) and second hypothesis, summed over runs
        reliability: bins over all runs' utterances, as :func:`~s3prl_emotion.metrics.calibration.reliability_table`
        speakers: every speaker of the split by name; those with fewer than ``min_utterances`` have no scores
        min_utterances: utterances that a speaker needs for scores
        unknown: utterances of unknown speakers, counted once for all seeds
    """

    runs: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    genders: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    confusion: NDArray[np.int64] | None = None
    hypotheses: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    reliability: list[dict[str, Any]] = field(default_factory=list)
    speakers: dict[str, SpeakerPoint] = field(default_factory=dict)
    min_utterances: int = 1
    unknown: int = 0


@dataclass
class TrainingDetails:
    """Details of the training of a system's runs on an upstream.

    Attributes:
        curves: learning curves of each run, by name
        weights: layer weights ``[L]`` of each run that learned them
        layers: layer that each run used, ``None`` for all layers
        parameters: parameters of the whole upstream and of its computed layers, mean over the runs that record them
        head_parameters: trainable parameters of the head, mean over runs
        seconds: training time, mean and spread
    """

    curves: list[dict[str, Curve]] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    layers: list[int | None] = field(default_factory=list)
    parameters: tuple[float, float] | None = None
    head_parameters: float | None = None
    seconds: Score | None = None


@dataclass(frozen=True)
class Details:
    """Details of a whole study.

    Attributes:
        splits: by upstream and split, then by system
        training: by upstream, then by system
        saliency: saliency of layers, by upstream
    """

    splits: dict[tuple[str, str], dict[str, SplitDetails]]
    training: dict[str, dict[str, TrainingDetails]]
    saliency: dict[str, list[LayerSaliency]]


def collect_details(analysis: Analysis) -> Details:
    """Read each metrics file, each run's curves and layer weights, and each saliency file that a run names, once."""
    study = analysis.study
    files: dict[str, dict[Path, None]] = {upstream: {} for upstream in study.upstreams}
    splits = {
        (part.upstream, part.split): {
            system: _of_system(study.of(part.upstream, system, part.split), part.split, study, files[part.upstream])
            for system in study.systems
        }
        for part in analysis.parts
    }
    training = {
        upstream: {
            system: _of_training([run for run in study.runs if (run.upstream, run.system) == (upstream, system)])
            for system in study.systems
        }
        for upstream in study.upstreams
    }
    saliency = {upstream: layer_saliency(paths) for upstream, paths in files.items()}
    return Details(splits, training, saliency)


def flat_details(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a metrics file besides the main ones, by the names that reports use, if they are finite.

    ``UAR.2-best``, ``UAR.Female``, ``paUAR-50.Female.2-best``, ``ECE``, ``JS``, ``KL``, ``entropy.graders``,
    ``entropy_correlation.Pearson``, ``threshold_F1``, ``rho_share.happy``, ``distance_R2.EmoAct``, ``relative_shift``.
    """
    flat: dict[str, Any] = dict(_n_best(metrics))
    for gender, entry in (metrics.get("per_gender") or {}).items():
        flat |= {f"{name}.{gender}": entry.get(name) for name in GROUP_METRICS}
        flat |= dict(_n_best(entry, f".{gender}"))
    flat |= {metric.name: metric.value(metrics) for metric in registry.of_kind("probabilities", "graders")}
    flat |= {f"rho_share.{name}": value for name, value in (metrics.get("UAR_against_share") or {}).items()}
    flat |= _of_latent(metrics.get("latent") or {})
    return {name: float(value) for name, value in flat.items() if value is not None and math.isfinite(value)}


def _of_latent(latent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measures of ``emotion_latent``; Das et al. 2022."""
    dimensions = {name: entry for name, entry in latent.items() if isinstance(entry, dict)}
    measures = {
        f"{metric.name}.{name}": metric.value(entry)
        for name, entry in dimensions.items()
        for metric in registry.of_kind("latent")
    }
    return measures | {metric.name: metric.value(latent) for metric in registry.of_kind("shift")}


def _n_best(entry: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    by_n = entry.get("n_best") or ({"1": {}} if entry.get("paUAR") else {})
    for n, scores in by_n.items():
        end = f"{group}.{n}-best"
        yield from ((f"{name}{end}", scores.get(key)) for name, key in N_BEST_KEYS.items())
        passed = scores.get("paUAR") or (entry.get("paUAR") if n == "1" else None) or {}
        yield from ((f"paUAR-{limit}{end}", passed.get(str(limit))) for limit in PA_UAR_THRESHOLDS)


def _of_system(runs: Sequence[RunResult], split: str, study: Study, files: dict[Path, None]) -> SplitDetails:
    details = SplitDetails(len(runs))
    tables, genders, unknown = [], dict[str, int](), 0
    for run in runs:
        metrics = run.splits[split].metrics
        unknown += int((metrics.get("speakers") or {}).get("unknown_utterances") or 0)
        whole = run.splits[split].whole()
        if not whole:
            logger.warning("%s; its speakers' scores are not shown", run.splits[split].damage())
        files |= dict.fromkeys(saliency_paths(whole.get("config"), study.folder))
        tables.append(flat_details(metrics) | _add_speakers(details, metrics, whole.get("per_speaker") or {}))
        for gender, entry in (metrics.get("per_gender") or {}).items():
            genders[gender] = genders.get(gender, 0) + int(entry.get("utterances") or 0)
        _add_classes(details, metrics)
    seeds = len({run.seed for run in runs})
    details.genders = {gender: round(total / seeds) for gender, total in genders.items()}
    details.unknown = round(unknown / seeds) if seeds else 0
    details.scores = _scores(tables)
    return details


def _scores(tables: Sequence[Mapping[str, float]]) -> dict[str, Score]:
    """Return mean and spread of each value over the runs that have it."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: score_of(name, [table[name] for table in tables if name in table]) for name in names}


def _add_speakers(
    details: SplitDetails, metrics: Mapping[str, Any], per_speaker: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Add a run's speakers to the details, and return the scores of its worst, median and best speaker."""
    least = int((metrics.get("speakers") or {}).get("min_utterances") or 1)
    details.min_utterances = max(details.min_utterances, least)
    values: dict[str, list[float]] = {}
    for name, entry in per_speaker.items():
        if known_speaker(name) is None:  # in files of older versions
            continue
        point = details.speakers.setdefault(name, SpeakerPoint())
        if (entry.get("utterances") or 0) < least:
            continue
        for label, number in (entry.get("class_counts") or {}).items():
            point.counts[label] = point.counts.get(label, 0) + int(number)
        for metric in SPEAKER_METRICS:
            if entry.get(metric) is not None:
                values.setdefault(metric, []).append(float(entry[metric]))
                point.scores.setdefault(metric, []).append(float(entry[metric]))
    return {
        f"{metric}.{rank} speaker": float(value)
        for metric, numbers in values.items()
        for rank, value in zip(SPEAKER_RANKS, (min(numbers), np.median(numbers), max(numbers)), strict=True)
    }


def _add_classes(details: SplitDetails, metrics: Mapping[str, Any]) -> None:
    """Add a run's counts to the details, unless it evaluates other classes than the first run."""
    classes = tuple(metrics.get("evaluated_classes") or metrics.get("recall") or ())
    details.classes = details.classes or classes
    if not classes or classes != details.classes or "confusion" not in metrics:
        return
    counts = np.asarray(metrics["confusion"], dtype=np.int64)
    details.confusion = counts if details.confusion is None else details.confusion + counts
    for name, entry in (metrics.get("hypotheses") or {}).items():
        shares = entry["shares"] if entry["shares"] is not None else np.zeros((len(classes), len(classes)))
        pairs = np.rint(np.asarray(shares) * entry["utterances"]).astype(np.int64)
        details.hypotheses[name] = details.hypotheses.get(name, 0) + pairs
    details.reliability = merged_bins(details.reliability, metrics.get("reliability") or [])


def merged_bins(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Merge two reliability tables by their utterances; bins that the first lacks are dropped."""
    merged = {(row["from"], row["to"]): dict(row) for row in first or second}
    for row in second if first else ():
        mine = merged.get((row["from"], row["to"]))
        if mine is None or not row["utterances"]:
            continue
        total = mine["utterances"] + row["utterances"]
        for name in ("confidence", "accuracy"):
            mine[name] = ((mine[name] or 0.0) * mine["utterances"] + row[name] * row["utterances"]) / total
        mine["utterances"] = total
    return list(merged.values())


def _of_training(runs: Sequence[RunResult]) -> TrainingDetails:
    details, sizes = TrainingDetails(), []
    experiments: dict[tuple[Path, str], RunResult] = {}
    for run in runs:
        metrics = next(iter(run.splits.values())).metrics
        options = run.upstream_options or {}
        details.layers += [options.get("upstream_layer_selection")] if options else []
        whole, computed = (metrics.get(f"upstream_parameters{end}") for end in ("", "_computed"))
        sizes += [(whole, computed)] if whole and computed else []
        expdir = next(iter(run.splits.values())).predictions.parent
        experiments.setdefault((expdir, str(metrics.get("fold"))), run)
    details.parameters = tuple(np.mean(sizes, axis=0).tolist()) if sizes else None
    heads = [run.num_parameters for run in runs if run.num_parameters]
    details.head_parameters = float(np.mean(heads)) if heads else None
    seconds = [float(run.seconds["train"]) for run in runs if run.seconds.get("train")]
    details.seconds = score_of("seconds", seconds) if seconds else None
    details.curves = [curves for expdir, fold in experiments if (curves := learning_curves(expdir, fold))]
    weights = [learned_weights(run) for run in experiments.values()]
    details.weights = [values for values in weights if values is not None]
    return details
