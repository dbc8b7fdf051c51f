"""How scores vary over seeds, each seed's being the mean over its folds."""

from __future__ import annotations

from collections.abc import Iterator

from s3prl_emotion.metrics.registry import label
from s3prl_emotion.report.computing.scores import Part
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import NONE, number, published


class Seeds(SplitSection):
    """Mean, lowest and highest score of seeds (Neumann & Vu 2019, Table 1)."""

    title = "Seeds"
    note = (
        "A seed's score is its mean over the folds; mean, standard deviation (n − 1), min and max are over the seeds. "
        "Seeds that lack a fold do not count."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield the scores of seeds, for systems with two or more."""
        yield seeds_table(self.results.parts[place])


def seeds_table(part: Part) -> Table | None:
    """Return mean, spread and range over seeds of each system's main metrics, beside published ones."""
    rows = []
    for row in part.rows:
        for metric in part.main_metrics:
            score = row.scores.get(metric)
            if score is None or score.by_seed is None:
                continue
            found, theirs = score.by_seed, score.published
            seeds = str(found.seeds) if found.seeds == found.of else f"{found.seeds} of {found.of}"
            values = [number(value, metric) for value in (found.mean, found.std, found.low, found.high)]
            beside = NONE if theirs is None else published(theirs, metric)
            rows.append([row.system, label(metric), seeds, str(found.folds), *values, beside])
    head = ["system", "metric", "seeds", "folds", "mean", "std", "min", "max", "published"]
    return table_of("means over folds of each seed", head, rows)
