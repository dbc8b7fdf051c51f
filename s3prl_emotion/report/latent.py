"""Tables of how a latent space lies, a column for each corpus, as in Das et al. 2022; of ``emotion_latent``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.report.evidence import LATENT_PAIRS, SystemEvidence
from s3prl_emotion.report.groups import cell
from s3prl_emotion.report.scores import Analysis
from s3prl_emotion.report.tables import DIMENSION_NAMES, NONE, Table, number, spread

Splits = Mapping[str, Mapping[str, SystemEvidence]]
TITLES = {
    "distance_R2": "adjusted R², latent distance on label distance",
    "distance_Spearman": "Spearman's correlation of latent distance and label distance",
    "label_R2": "adjusted R², label on latent",
    "relative_shift": "distance from the training latents, in units of their spread",
    "shift": "distance from the training latents",
}
ACCURACY = "balanced accuracy (UAR), %"
NOTE = (
    "Mean over runs (folds and seeds) ± standard deviation (n − 1). Balanced accuracy is over the classes that stand "
    "with it. Distances: over all pairs of at most 1,000 utterances. Distance from the training latents: "
    "2-Wasserstein distance of normal distributions with the mean and covariance of both; 0 where a corpus lies as the "
    "training split does."
)


def latent_tables(analysis: Analysis, parts: Mapping[tuple[str, str], Mapping[str, Any]], upstream: str) -> list[Table]:
    """Tables of an upstream, those of the systems that have such measures.

    Args:
        analysis: of the study
        parts: what the runs know, by upstream and split, then by system
        upstream: of the tables
    """
    splits = {part.split: parts[upstream, part.split] for part in analysis.of(upstream)}
    systems = [
        system
        for system in analysis.study.systems
        if any(name.partition(".")[0] in TITLES for found in splits.values() for name in found[system].scores)
    ]
    if not systems:
        return []
    printed = {(number.split, number.system, number.metric): number for number in analysis.study.published
               if number.upstream == upstream}  # fmt: skip
    tables = [_accuracies(analysis, splits, systems, upstream)]
    for measure, title in TITLES.items():
        names = [f"{measure}.{dimension}" for dimension in DIMENSION_NAMES] if measure in LATENT_PAIRS else [measure]
        tables.append(_of_measure(title, names, splits, systems, printed))
    return [table for table in tables if table is not None]


def _accuracies(analysis: Analysis, splits: Splits, systems: Sequence[str], upstream: str) -> Table | None:
    """Balanced accuracy with its task: neutral, sad, angry; neutral, sad, happy, angry."""
    scores = {
        (part.split, row.system): row.scores["UAR"]
        for part in analysis.of(upstream)
        for row in part.rows
        if "UAR" in row.scores and row.system in systems
    }
    shown = [split for split in splits if any((split, system) in scores for system in systems)]
    tasks = {
        split: list(dict.fromkeys(splits[split][system].classes for system in systems if (split, system) in scores))
        for split in shown
    }
    rows = []
    for system in systems:
        cells = []
        for split in shown:
            score = scores.get((split, system))
            words = NONE if score is None else spread(score) + _printed("UAR", score.published)
            several = score is not None and len(tasks[split]) > 1
            cells.append(words + (_task(splits[split][system].classes) if several else ""))
        rows.append([system, *cells])
    heads = [split + (_task(tasks[split][0]) if len(tasks[split]) == 1 else "") for split in shown]
    return Table(ACCURACY, ["system", *heads], rows) if shown else None


def _of_measure(
    title: str, names: Sequence[str], splits: Splits, systems: Sequence[str],
    printed: Mapping[tuple[str, str, str], PublishedNumber],
) -> Table | None:  # fmt: skip
    """A measure on each split and of each dimension that has it."""
    columns = [
        (split, name)
        for split, found in splits.items()
        for name in names
        if any(name in found[system].scores for system in systems)
    ]
    rows = []
    for system in systems:
        cells = []
        for split, name in columns:
            cells.append(cell(splits[split][system], name) + _printed(name, printed.get((split, system, name))))
        rows.append([system, *cells])
    heads = [" ".join([split, *_dimension(name)]) for split, name in columns]
    return Table(title, ["system", *heads], rows) if columns else None


def _dimension(name: str) -> Iterator[str]:
    _, _, dimension = name.partition(".")
    if dimension:
        yield DIMENSION_NAMES.get(dimension, dimension)


def _task(classes: Sequence[str]) -> str:
    return f" ({', '.join(classes)})" if classes else ""


def _printed(metric: str, theirs: PublishedNumber | None) -> str:
    return "" if theirs is None else f" (published {number(theirs.value, metric)})"
