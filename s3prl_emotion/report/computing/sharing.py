"""Compute what sharing speakers between train and test is worth: a system's score under both protocols.

Over all folds, both protocols test every utterance once, each with a model that has not seen it. Where both test the
same utterances with the same seeds, the difference is paired: the bootstrap draws speakers and takes an utterance's
predictions under both protocols together. Where they do not, each score is resampled on its own, and the two intervals
are combined by the method of variance estimates recovery (Zou and Donner 2008, "Construction of confidence limits about
effect measures").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.statistics import cluster_bootstrap
from s3prl_emotion.metrics.statistics.bootstrap import FEWEST
from s3prl_emotion.report.computing.pooled import Measures, Pool
from s3prl_emotion.report.reading.predictions import Predictions, read_predictions
from s3prl_emotion.report.reading.study import RunResult, Study

Read = list[tuple[RunResult, Predictions]]
PAIRED, UNPAIRED = "paired by utterance", "not paired"


@dataclass(frozen=True)
class Gain:
    """A metric of one system without and with shared speakers, over all folds' predictions together.

    Attributes:
        disjoint: score without shared speakers
        dependent: score with them
        difference: ``dependent`` minus ``disjoint``
        low: lower end of the 95 % interval of the difference
        high: its upper end
    """

    metric: str
    disjoint: float
    dependent: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Sharing:
    """What sharing speakers is worth to a system on an upstream and a split.

    Attributes:
        system: its name without shared speakers
        dependent: its name with them
        gains: by metric; empty where they cannot be computed
        method: how the intervals were computed, or why there is nothing to compute
    """

    upstream: str
    split: str
    system: str
    dependent: str
    gains: tuple[Gain, ...]
    method: str


def sharing(study: Study, resamples: int, seed: int = 0) -> list[Sharing]:
    """Return what sharing speakers is worth to each system that was run under both protocols.

    Args:
        study: with its speaker-dependent systems
        resamples: number of resamples of the bootstrap
        seed: seed of the draw
    """
    found = []
    for upstream in study.upstreams:
        for split in study.splits:
            for dependent, system in study.speaker_dependent.items():
                if system is not None:
                    runs = study.of(upstream, system, split), study.of(upstream, dependent, split)
                    if all(runs):
                        plain, shared = (_read(own, split) for own in runs)
                        gains, method = _gains(plain, shared, resamples, seed)
                        found.append(Sharing(upstream, split, system, dependent, gains, method))
    return found


def _read(runs: Sequence[RunResult], split: str) -> Read:
    try:
        return [(run, read_predictions(run.splits[split].predictions, run.splits[split].evaluated)) for run in runs]
    except LabelError:  # the part's warnings name it
        return []


def _gains(plain: Read, shared: Read, resamples: int, seed: int) -> tuple[tuple[Gain, ...], str]:
    if not plain or not shared:
        return (), "predictions cannot be read"
    merged = _by_seed(plain), _by_seed(shared)
    kinds = {(part.dimensions, part.truth is None) for own in merged for _, part in own}
    if len(kinds) > 1:
        return (), "labels differ"
    paired = _same(*merged)
    known = {name for own in merged for _, part in own for name in part.speakers.tolist() if name}
    by_speaker = len(known) >= FEWEST
    if not by_speaker:  # an interval over so few speakers does not exist
        merged = _without_speakers(merged[0]), _without_speakers(merged[1])
    pools = Pool(merged[0]), Pool(merged[1])
    classes = sorted({*pools[0].classes, *pools[1].classes})
    sums = pools[0].sums(classes), pools[1].sums(classes)
    measures = [Measures(len(pool.seeds), pool.dimensions, len(classes)) for pool in pools]
    unit = (
        f"{len(known)} speakers drawn"
        if by_speaker
        else f"utterances drawn, since {len(known)} speakers are too few: it does not hold for other speakers"
    )
    if paired:
        return _paired(sums, measures[0], resamples, seed), f"{PAIRED}; {unit}"
    return _unpaired(sums, measures, resamples, seed), f"{UNPAIRED}: they test other utterances or seeds; {unit}"


def _by_seed(read: Read) -> Read:
    """Return one run for each seed, with the predictions of all its folds sorted by name."""
    merged = []
    for seed in sorted({run.seed for run, _ in read}, key=str):
        own = [(run, part) for run, part in read if run.seed == seed]
        merged.append((replace(own[0][0], fold=""), _joined([part for _, part in own])))
    return merged


def _joined(parts: Sequence[Predictions]) -> Predictions:
    names = np.concatenate([part.names for part in parts])
    order = np.argsort(names, kind="stable")

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    has_classes = all(part.truth is not None and part.prediction is not None for part in parts)
    return Predictions(
        names[order],
        column("speakers"),
        column("truth") if has_classes else None,
        column("prediction") if has_classes else None,
        parts[0].dimensions,
        column("true_values"),
        column("estimates"),
    )


def _same(plain: Read, shared: Read) -> bool:
    """Return whether both protocols test the same utterances with the same labels, with the same seeds."""
    return [run.seed for run, _ in plain] == [run.seed for run, _ in shared] and all(
        one.same_utterances(other) for (_, one), (_, other) in zip(plain, shared, strict=True)
    )


def _without_speakers(read: Read) -> Read:
    return [(run, replace(part, speakers=np.full(len(part.names), ""))) for run, part in read]


def _paired(sums: tuple[Array, Array], measures: Measures, resamples: int, seed: int) -> tuple[Gain, ...]:
    width = sums[0].shape[1]
    both = cluster_bootstrap(
        np.concatenate(sums, axis=1),
        lambda totals: measures(totals[..., width:]) - measures(totals[..., :width]),
        resamples=resamples,
        seed=seed,
    )
    scores = [measures(own.sum(axis=0)) for own in sums]
    columns = zip(measures.names, *scores, both.values, both.low, both.high, strict=True)
    return tuple(Gain(name, *map(float, numbers)) for name, *numbers in columns)


def _unpaired(sums: tuple[Array, Array], measures: Sequence[Measures], resamples: int, seed: int) -> tuple[Gain, ...]:
    plain, shared = (
        cluster_bootstrap(own, measure, resamples=resamples, seed=seed + turn)
        for turn, (own, measure) in enumerate(zip(sums, measures, strict=True))
    )
    gains = []
    for index, name in enumerate(measures[0].names):
        (one, low, high), (other, other_low, other_high) = (
            (float(part.values[index]), float(part.low[index]), float(part.high[index])) for part in (plain, shared)
        )
        difference = other - one
        below, above = math.hypot(other - other_low, high - one), math.hypot(other_high - other, one - low)
        gains.append(Gain(name, one, other, difference, difference - below, difference + above))
    return tuple(gains)
