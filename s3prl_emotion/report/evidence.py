"""All that runs know beside their main scores, gathered for a report: groups, hypotheses, calibration, training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics.groups import PA_UAR_THRESHOLDS
from s3prl_emotion.report.planes import Planes, planes_of
from s3prl_emotion.report.scores import Analysis, Score, score_of
from s3prl_emotion.report.study import RunResult, Study
from s3prl_emotion.report.traces import (
    Array,
    Curve,
    LayerSaliency,
    layer_saliency,
    learned_weights,
    learning_curves,
    saliency_paths,
)

logger = logging.getLogger(__name__)
GROUP_METRICS = ("WA", "UAR", "macro_f1", "mean_CCC")
SPEAKER_METRICS = ("UAR", "mean_CCC")
LATENT_PAIRS = ("distance_R2", "distance_Spearman", "label_R2")  # of each dimension
LATENT_SHIFTS = ("relative_shift", "shift")  # of a split
RANKS = ("worst", "median", "best")  # speakers


@dataclass
class SpeakerPoint:
    """A speaker: ``scores`` (UAR, mean_CCC) of the runs that have one, ``counts`` of utterances by class, added up."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def score(self, metric: str) -> float:
        """Mean over runs, NaN where there is none."""
        values = self.scores.get(metric, [])
        return float(np.mean(values)) if values else math.nan

    def share(self, name: str) -> float:
        """Share of a class in the utterances."""
        return self.counts.get(name, 0) / sum(self.counts.values())


@dataclass
class SystemEvidence:
    """What a system's runs on a split say together.

    Attributes:
        runs: how many there are
        scores: mean and spread over the runs that have a value, by name: ``UAR.2-best``, ``WA.Female``, ``JS``, …
        genders: utterances by gender; those of several seeds count once
        classes: that are evaluated, in their order
        confusion: counts ``[K, K]`` added over runs, rows truth
        hypotheses: by true class, counts ``[K, K]`` of first (rows) and second hypothesis, added over runs
        reliability: bins over all runs' utterances, as :func:`~s3prl_emotion.metrics.calibration.reliability_table`
        speakers: every speaker of the split by name; those with too few utterances have no scores
        min_utterances: fewer are too few
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


@dataclass
class TrainingEvidence:
    """What a system's runs on an upstream left of their training.

    Attributes:
        curves: of each run, by name
        weights: of layers, ``[L]`` of each run that learnt them
        layers: that runs took, ``None`` for all
        parameters: of the upstream, whole and computed, where the runs know them
        seconds: of training, mean and spread
    """

    curves: list[dict[str, Curve]] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    layers: list[int | None] = field(default_factory=list)
    parameters: tuple[float, float] | None = None
    head_parameters: float | None = None
    seconds: Score | None = None


@dataclass(frozen=True)
class Evidence:
    """Of a whole report: by upstream and split, then by system; of an upstream's training; and embeddings."""

    parts: dict[tuple[str, str], dict[str, SystemEvidence]]
    training: dict[str, dict[str, TrainingEvidence]]
    saliency: dict[str, list[LayerSaliency]]
    planes: Planes


def collect(analysis: Analysis) -> Evidence:
    """Read each metrics file once, each run's curves and weights, and each saliency file that a run names."""
    study = analysis.study
    files: dict[str, dict[Path, None]] = {upstream: {} for upstream in study.upstreams}
    parts = {
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
    return Evidence(parts, training, saliency, planes_of(study))


def flat_details(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a metrics file beside the main ones, by the names that reports use; what is not defined is left out.

    ``UAR.2-best``, ``UAR.Female``, ``paUAR-50.Female.2-best``, ``ECE``, ``JS``, ``KL``, ``entropy.graders``,
    ``entropy_correlation.Pearson``, ``threshold_F1``, ``rho_share.happy``, ``distance_R2.EmoAct``, ``relative_shift``.
    """
    agreement = metrics.get("agreement") or {}
    found: dict[str, Any] = dict(_n_best(metrics))
    for gender, entry in (metrics.get("per_gender") or {}).items():
        found |= {f"{name}.{gender}": entry.get(name) for name in GROUP_METRICS}
        found |= dict(_n_best(entry, f".{gender}"))
    found |= {"ECE": metrics.get("ECE"), "JS": agreement.get("JS"), "KL": agreement.get("KL")}
    found |= {f"entropy.{name}": value for name, value in (agreement.get("entropy") or {}).items()}
    correlation = agreement.get("entropy_correlation") or {}
    found |= {f"entropy_correlation.{name}": value for name, value in correlation.items()}
    found |= {f"rho_share.{name}": value for name, value in (metrics.get("UAR_against_share") or {}).items()}
    found["threshold_F1"] = (metrics.get("threshold_F1") or {}).get("macro_f1")
    found |= _of_latent(metrics.get("latent") or {})
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _of_latent(latent: Mapping[str, Any]) -> dict[str, Any]:
    """What ``emotion_latent`` measures; Das et al. 2022."""
    dimensions = {name: entry for name, entry in latent.items() if isinstance(entry, dict)}
    found = {f"{measure}.{name}": entry.get(measure) for name, entry in dimensions.items() for measure in LATENT_PAIRS}
    return found | {name: latent.get(name) for name in LATENT_SHIFTS}


def _n_best(entry: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    by_n = entry.get("n_best") or ({"1": {}} if entry.get("paUAR") else {})
    for n, scores in by_n.items():
        end = f"{group}.{n}-best"
        names = {"accuracy": "WA", "UAR": "UAR", "macro_f1": "macro_f1"}
        yield from ((f"{shown}{end}", scores.get(name)) for name, shown in names.items())
        passed = scores.get("paUAR") or (entry.get("paUAR") if n == "1" else None) or {}
        yield from ((f"paUAR-{limit}{end}", passed.get(str(limit))) for limit in PA_UAR_THRESHOLDS)


def _of_system(runs: Sequence[RunResult], split: str, study: Study, files: dict[Path, None]) -> SystemEvidence:
    found = SystemEvidence(len(runs))
    tables, genders = [], dict[str, int]()
    for run in runs:
        metrics = run.splits[split].metrics
        whole = run.splits[split].whole()
        if not whole:
            path = run.splits[split].beside("_metrics.json")
            logger.warning("%s: missing or damaged; scores of its speakers are not shown", path)
        files |= dict.fromkeys(saliency_paths(whole.get("config"), study.folder))
        tables.append(flat_details(metrics) | _add_speakers(found, metrics, whole.get("per_speaker") or {}))
        for gender, entry in (metrics.get("per_gender") or {}).items():
            genders[gender] = genders.get(gender, 0) + int(entry.get("utterances") or 0)
        _add_classes(found, metrics)
    seeds = len({run.seed for run in runs})
    found.genders = {gender: round(total / seeds) for gender, total in genders.items()}
    found.scores = _scores(tables)
    return found


def _scores(tables: Sequence[Mapping[str, float]]) -> dict[str, Score]:
    """Over the runs that have a value."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: score_of(name, [table[name] for table in tables if name in table]) for name in names}


def _add_speakers(
    found: SystemEvidence, metrics: Mapping[str, Any], per_speaker: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Add a run's speakers, and give its worst, median and best one."""
    least = int((metrics.get("speakers") or {}).get("min_utterances") or 1)
    found.min_utterances = max(found.min_utterances, least)
    values: dict[str, list[float]] = {}
    for name, entry in per_speaker.items():
        point = found.speakers.setdefault(name, SpeakerPoint())
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
        for rank, value in zip(RANKS, (min(numbers), np.median(numbers), max(numbers)), strict=True)
    }


def _add_classes(found: SystemEvidence, metrics: Mapping[str, Any]) -> None:
    """Add a run's counts; of runs that evaluate other classes than the first, nothing."""
    classes = tuple(metrics.get("evaluated_classes") or metrics.get("recall") or ())
    found.classes = found.classes or classes
    if not classes or classes != found.classes or "confusion" not in metrics:
        return
    counts = np.asarray(metrics["confusion"], dtype=np.int64)
    found.confusion = counts if found.confusion is None else found.confusion + counts
    for name, entry in (metrics.get("hypotheses") or {}).items():
        shares = entry["shares"] if entry["shares"] is not None else np.zeros((len(classes), len(classes)))
        pairs = np.rint(np.asarray(shares) * entry["utterances"]).astype(np.int64)
        found.hypotheses[name] = found.hypotheses.get(name, 0) + pairs
    found.reliability = merged_bins(found.reliability, metrics.get("reliability") or [])


def merged_bins(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two reliability tables as one over the utterances of both; other bins than the first's are left out."""
    found = {(row["from"], row["to"]): dict(row) for row in first or second}
    for row in second if first else ():
        mine = found.get((row["from"], row["to"]))
        if mine is None or not row["utterances"]:
            continue
        total = mine["utterances"] + row["utterances"]
        for name in ("confidence", "accuracy"):
            mine[name] = ((mine[name] or 0.0) * mine["utterances"] + row[name] * row["utterances"]) / total
        mine["utterances"] = total
    return list(found.values())


def _of_training(runs: Sequence[RunResult]) -> TrainingEvidence:
    found, sizes = TrainingEvidence(), []
    places: dict[tuple[Path, str], RunResult] = {}
    for run in runs:
        metrics = next(iter(run.splits.values())).metrics
        options = run.upstream_options or {}
        found.layers += [options.get("upstream_layer_selection")] if options else []
        whole, computed = (metrics.get(f"upstream_parameters{end}") for end in ("", "_computed"))
        sizes += [(whole, computed)] if whole and computed else []
        expdir = next(iter(run.splits.values())).predictions.parent
        places.setdefault((expdir, str(metrics.get("fold"))), run)
    found.parameters = tuple(np.mean(sizes, axis=0).tolist()) if sizes else None
    heads = [run.num_parameters for run in runs if run.num_parameters]
    found.head_parameters = float(np.mean(heads)) if heads else None
    seconds = [float(run.seconds["train"]) for run in runs if run.seconds.get("train")]
    found.seconds = score_of("seconds", seconds) if seconds else None
    found.curves = [curves for expdir, fold in places if (curves := learning_curves(expdir, fold))]
    weights = [learned_weights(run) for run in places.values()]
    found.weights = [values for values in weights if values is not None]
    return found
