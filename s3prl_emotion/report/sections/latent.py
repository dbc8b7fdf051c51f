"""The latent space of ``emotion_latent`` on each corpus, as in Das et al. 2022."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.metrics.registry import DIMENSION_NAMES, names_by_dimension, of_kind
from s3prl_emotion.report.computing.details import SplitDetails
from s3prl_emotion.report.computing.scores import Analysis
from s3prl_emotion.report.sections.base import Place, Scope, Section
from s3prl_emotion.report.sections.cells import cell
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, published, spread

Splits = Mapping[str, Mapping[str, SplitDetails]]
MEASURES = {measure.name: measure for measure in of_kind("latent", "shift")}
ACCURACY = "balanced accuracy (UAR), %"


class LatentRepresentation(Section):
    """Measures of the latent space on an upstream, of the systems that have them."""

    title = "latent representation"
    scope = Scope.UPSTREAM
    style = "together"
    note = (
        "Mean over runs (folds and seeds) ± standard deviation (n − 1). Balanced accuracy is over the classes in "
        "brackets. Distances: over all pairs of at most 1,000 utterances. Distance from the training latents: "
        "2-Wasserstein distance between normal distributions with the means and covariances of both; 0 if a corpus is "
        "distributed as the training split is."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield the balanced accuracy, then a table for each measure of the latent space."""
        analysis, details = self.results.analysis, self.results.details.splits
        splits = {part.split: details[place.upstream, part.split] for part in analysis.of(place.upstream)}
        systems = [
            system
            for system in self.study.systems
            if any(name.partition(".")[0] in MEASURES for own in splits.values() for name in own[system].scores)
        ]
        if not systems:
            return
        known = {(number.split, number.system, number.metric): number for number in self.study.published
                     if number.upstream == place.upstream}  # fmt: skip
        yield _accuracies(analysis, splits, systems, place.upstream)
        for name, measure in MEASURES.items():
            names = names_by_dimension([measure]) if measure.kind == "latent" else [name]
            yield _measure_table(measure.label, names, splits, systems, known)


def _accuracies(analysis: Analysis, splits: Splits, systems: Sequence[str], upstream: str) -> Table | None:
    """Return the balanced accuracy with its classes: neutral, sad, angry; neutral, sad, happy, angry."""
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
            words = NONE if score is None else spread(score) + _published("UAR", score.published)
            several = score is not None and len(tasks[split]) > 1
            cells.append(words + (_task(splits[split][system].classes) if several else ""))
        rows.append([system, *cells])
    heads = [split + (_task(tasks[split][0]) if len(tasks[split]) == 1 else "") for split in shown]
    return Table(ACCURACY, ["system", *heads], rows) if shown else None


def _measure_table(
    title: str, names: Sequence[str], splits: Splits, systems: Sequence[str],
    known: Mapping[tuple[str, str, str], PublishedNumber],
) -> Table | None:  # fmt: skip
    """Return a measure on each split, and of each dimension that has it."""
    columns = [
        (split, name)
        for split, details in splits.items()
        for name in names
        if any(name in details[system].scores for system in systems)
    ]
    rows = []
    for system in systems:
        cells = []
        for split, name in columns:
            cells.append(cell(splits[split][system], name) + _published(name, known.get((split, system, name))))
        rows.append([system, *cells])
    heads = [" ".join([split, *_dimension(name)]) for split, name in columns]
    return Table(title, ["system", *heads], rows) if columns else None


def _dimension(name: str) -> Iterator[str]:
    _, _, dimension = name.partition(".")
    if dimension:
        yield DIMENSION_NAMES.get(dimension, dimension)


def _task(classes: Sequence[str]) -> str:
    return f" ({', '.join(classes)})" if classes else ""


def _published(metric: str, theirs: PublishedNumber | None) -> str:
    return "" if theirs is None else f" (published {published(theirs, metric)})"
