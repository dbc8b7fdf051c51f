"""Score the ensembles of a study's runs: the mean of what the runs of a system gave for the same utterances.

Within a fold, the members are the seeds, since other folds test other utterances. Where all folds test the same ones (a
held-out test split or another corpus), the members are the runs of all folds and seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.dimensional import dimensional_metrics
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.registry import of_kind
from s3prl_emotion.metrics.split import restrict_classes
from s3prl_emotion.metrics.statistics import cluster_bootstrap
from s3prl_emotion.report.computing.pooled import Measures, Pool
from s3prl_emotion.report.computing.scores import Analysis, Row, Score, flat_metrics, score_of
from s3prl_emotion.report.reading.outputs import Outputs, read_outputs
from s3prl_emotion.report.reading.predictions import Predictions
from s3prl_emotion.report.reading.study import RunResult, Study

FEWEST = 2  # members
Read = list[tuple[RunResult, Outputs]]


@dataclass(frozen=True)
class Gain:
    """An ensemble's score minus the mean over its members' scores, over all folds' predictions together.

    Attributes:
        single: mean over the members
        value: the difference
        low: lower end of its 95 % interval over speakers, NaN where there is none
        high: its upper end
    """

    single: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ensemble:
    """The ensemble of a system's runs on a test split.

    Attributes:
        system: name of the system
        folds: number of folds
        seeds: number of seeds
        is_over_folds: whether the members are the runs of all folds, which test the same utterances
        utterances: number of utterances, each counted once
        row: its scores, as those of a system; a run is the ensemble of a fold, or that over all folds
        gains: by metric
    """

    system: str
    folds: int
    seeds: int
    is_over_folds: bool
    utterances: int
    row: Row
    gains: Mapping[str, Gain]

    @property
    def members(self) -> int:
        """Number of runs whose outputs a prediction is the mean of."""
        return self.seeds * (self.folds if self.is_over_folds else 1)


@dataclass(frozen=True)
class Ensembles:
    """The ensembles of a study, by upstream and split; ``warnings`` say why some are missing."""

    of: Mapping[tuple[str, str], tuple[Ensemble, ...]]
    warnings: tuple[str, ...] = ()


def find_ensembles(analysis: Analysis) -> Ensembles:
    """Score the ensemble of each system on each test split where it has two members or more."""
    study, warnings = analysis.study, list[str]()
    found: dict[tuple[str, str], tuple[Ensemble, ...]] = {}
    for part in analysis.parts:
        place = part.upstream, part.split
        own: list[Ensemble] = []
        for system in study.systems:
            try:
                own += _of_system(study, *place, system, analysis.resamples)
            except LabelError as error:
                warnings.append(f"no ensemble of {system} ({' '.join(filter(None, place))}): {error}")
        found[place] = tuple(own)
    return Ensembles(found, tuple(warnings))


def _of_system(study: Study, upstream: str, split: str, system: str, resamples: int) -> Iterator[Ensemble]:
    """Yield the ensemble of a system, unless it has too few runs.

    Raises:
        LabelError: predictions cannot be read, or those of two members are not of the same utterances and classes
    """
    runs = _comparable(study.of(upstream, system, split), split)
    read = [(run, read_outputs(run.splits[split].predictions)) for run in runs]
    folds, seeds = ({getattr(run, name) for run in runs} for name in ("fold", "seed"))
    over_folds = len(folds) > 1 and all(np.array_equal(read[0][1].names, outputs.names) for _, outputs in read)
    if len(seeds) < FEWEST and not over_folds:
        return
    sets = [read] if over_folds else [[item for item in read if item[0].fold == fold] for fold in sorted(folds)]
    joined = [(members[0][0], _mean(members)) for members in sets]
    scores, gains = _scored(joined, read, runs[0].splits[split].evaluated, over_folds, resamples)
    how = [f"{len(folds)} folds"] if over_folds else []
    how += [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
    sizes = [run.num_parameters for run in runs if run.num_parameters]
    size = float(np.mean(sizes)) * len(sets[0]) if sizes else None
    row = Row(f"{system} (ensemble of {' and '.join(how)})", len(sets), size, None, None, scores, {})
    utterances = sum(len(outputs.names) for _, outputs in joined)
    yield Ensemble(system, len(folds), len(seeds), over_folds, utterances, row, gains)


def _comparable(runs: Sequence[RunResult], split: str) -> list[RunResult]:
    """Return the runs of the seeds that have all folds, or none where they cannot be members of an ensemble.

    With one seed they can, if the folds test the same utterances; folds that test unequal numbers of them do not.
    """
    seeded = [run for run in runs if run.seed is not None]
    keys, folds = {run.key for run in seeded}, {run.fold for run in seeded}
    kept = [run for run in seeded if all((fold, run.seed) in keys for fold in folds)]
    counts = {str(run.splits[split].metrics.get("utterances")) for run in kept}
    several_seeds = len({run.seed for run in kept}) >= FEWEST
    return kept if several_seeds or (len(folds) >= FEWEST and len(counts) == 1) else []


def _scored(
    joined: Read, read: Read, evaluated: Sequence[str] | None, over_folds: bool, resamples: int
) -> tuple[dict[str, Score], dict[str, Gain]]:
    """Return the scores of the ensembles of all folds, and what they gain over their members.

    Args:
        joined: the ensemble of each fold, or that over all folds
        read: their members
        evaluated: the classes that are evaluated; ``None``: all
        over_folds: whether the members test the same utterances in all folds
        resamples: number of resamples of the bootstrap
    """
    chosen = evaluated or joined[0][1].classes
    tables = [_metrics(outputs, chosen) for _, outputs in joined]
    scores = {name: score_of(name, [table.get(name, np.nan) for table in tables]) for name in tables[0]}
    gains: dict[str, Gain] = {}
    for one, several in _pools(joined, read, chosen, over_folds):
        names, values = _measured(one, several, resamples)
        for index, name in enumerate(names):
            (pooled, low, high), (single, *_), gap = values[:, :, index].tolist()
            if name in scores:
                scores[name] = replace(scores[name], pooled=pooled, low=low, high=high)
                gains[name] = Gain(single, *gap)
    return scores, gains


def _mean(members: Read) -> Outputs:
    """Return the mean of the members' outputs.

    Raises:
        LabelError: two members differ in utterances, labels, classes or dimensions
    """
    run, first = members[0]
    for other, outputs in members[1:]:
        what = first.difference_to(outputs)
        if what is not None:
            raise LabelError(f"its runs {_name(run)} and {_name(other)} have different {what}")
    rows = [outputs.probabilities[:, [outputs.classes.index(name) for name in first.classes]] for _, outputs in members]
    estimates = np.mean([outputs.estimates for _, outputs in members], axis=0)
    return replace(first, probabilities=np.mean(rows, axis=0), estimates=estimates)


def _name(run: RunResult) -> str:
    return f"{run.fold}, seed {run.seed}"


def _metrics(outputs: Outputs, evaluated: Sequence[str]) -> dict[str, float]:
    """Return the metrics of outputs as those of a run, by the names that reports use.

    Raises:
        LabelError: no utterance has one of the evaluated classes
    """
    metrics: dict[str, float] = {}
    if outputs.classes:
        indices = {name: index for index, name in enumerate(outputs.classes)}
        truth = [indices.get(name, -1) for name in outputs.truth.tolist()]
        part = restrict_classes(truth, outputs.probabilities, outputs.classes, evaluated)
        found = categorical_metrics(part.truth.tolist(), part.probabilities, part.classes)
        metrics |= flat_metrics(found) | {metric.name: found[metric.name] for metric in of_kind("probabilities")}
    known = np.isfinite(outputs.true_values).all(axis=1)
    if outputs.dimensions and known.any():
        values = outputs.true_values[known], outputs.estimates[known]
        metrics |= flat_metrics(dimensional_metrics(*values, outputs.dimensions))
    return metrics


def _pools(joined: Read, read: Read, evaluated: Sequence[str], over_folds: bool) -> Iterator[tuple[Pool, Pool]]:
    """Yield the pools of the ensembles and of their members, of the same utterances: of classes, and of dimensions.

    Where the members test the same utterances, each counts as a seed.
    """
    ones = [(replace(run, seed=0, fold="" if over_folds else run.fold), outputs) for run, outputs in joined]
    members = [
        (replace(run, seed=index, fold="") if over_folds else run, outputs) for index, (run, outputs) in enumerate(read)
    ]
    for predict in (_of_classes, _of_dimensions):
        pair = [[(run, predict(outputs, evaluated)) for run, outputs in part] for part in (ones, members)]
        kept = [[(run, found) for run, found in part if found is not None and len(found.names)] for part in pair]
        if all(kept):
            yield Pool(kept[0]), Pool(kept[1])


def _of_classes(outputs: Outputs, evaluated: Sequence[str]) -> Predictions | None:
    """Return the most probable of the evaluated classes for the utterances of these classes."""
    if not outputs.classes:
        return None
    columns = [outputs.classes.index(name) for name in evaluated]
    known = np.isin(outputs.truth, evaluated)
    best = np.array(evaluated)[outputs.probabilities[known][:, columns].argmax(axis=1)]
    nothing = np.zeros((int(known.sum()), 0))
    return Predictions(outputs.names[known], outputs.speakers[known], outputs.truth[known], best, (), nothing, nothing)


def _of_dimensions(outputs: Outputs, evaluated: Sequence[str]) -> Predictions | None:
    """Return the estimates for the utterances whose dimensions are known."""
    if not outputs.dimensions:
        return None
    known = np.isfinite(outputs.true_values).all(axis=1)
    values = outputs.true_values[known], outputs.estimates[known]
    return Predictions(outputs.names[known], outputs.speakers[known], None, None, outputs.dimensions, *values)


def _measured(one: Pool, several: Pool, resamples: int) -> tuple[list[str], Array]:
    """Return the names of M metrics, and their values with both ends of the interval ``[3, 3, M]``.

    The first axis is the ensemble, the mean over its members, and their difference; the second is value, low, high.
    """
    classes = sorted({*one.classes, *several.classes})
    sums = [pool.sums(classes) for pool in (one, several)]
    first, second = (Measures(len(pool.seeds), pool.dimensions, len(classes)) for pool in (one, several))
    width = sums[0].shape[1]

    def values(totals: Array) -> Array:
        ours, theirs = first(totals[..., :width]), second(totals[..., width:])
        return np.concatenate([ours, theirs, ours - theirs], axis=-1)

    found = cluster_bootstrap(np.concatenate(sums, axis=1), values, resamples=resamples)
    table = np.stack([found.values, found.low, found.high])  # [3, 3 * M]
    return first.names, table.reshape(3, 3, -1).swapaxes(0, 1)
