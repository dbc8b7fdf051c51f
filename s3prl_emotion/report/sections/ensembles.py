"""Ensembles of a system's seeds, or of its folds and seeds, beside its single runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from s3prl_emotion.metrics import registry
from s3prl_emotion.report.computing.ensembles import Ensemble, Gain
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import NONE, count, interval, number, score_words


class EnsemblesSection(SplitSection):
    """Scores of ensembles, and how far they lie above the mean of their members."""

    title = "Ensembles"
    note = (
        "An ensemble's probabilities (dimensions) are the means over its members: all seeds within each fold, or, "
        "where all folds test the same utterances, all folds and seeds. An ensemble is scored as a run is: mean ± "
        "standard deviation over its folds, and in brackets the 95 % interval over speakers. The gain is its score "
        "minus the mean over its members' scores, over all folds' predictions together. Parameters are those of all "
        "members' heads. Ensembles take no part in ranks, in means over runs, or in differences to the baseline, since "
        "they were trained several times. Seeds that lack a fold do not count."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield the scores, and the gain over single runs."""
        found = self.results.ensembles.of.get((place.upstream, place.split), ())
        metrics = _main_metrics(found)
        head = ["system", "members", "parameters", *map(registry.label, metrics)]
        rows = [
            [item.row.system, str(item.members), count(item.row.num_parameters)]
            + [score_words(item.row, name) for name in metrics]
            for item in found
        ]
        yield table_of("ensembles", head, rows)
        tested = [name for name in metrics if any(name in item.gains for item in found)]
        rows = [[item.row.system, *(_gain_words(item.gains.get(name), name) for name in tested)] for item in found]
        yield table_of("gain over single runs", ["system", *map(registry.label, tested)], rows)

    def warnings(self) -> Iterable[str]:
        """Return why some ensembles are missing."""
        return self.results.ensembles.warnings


def _main_metrics(found: Iterable[Ensemble]) -> list[str]:
    """Return the main metrics, the calibration error among them."""
    names = dict.fromkeys(name for item in found for name in item.row.scores)
    return [name for name in names if (metric := registry.find(name)) is not None and metric.main]


def _gain_words(gain: Gain | None, metric: str) -> str:
    if gain is None:
        return NONE
    bounds = interval(gain.low, gain.high, metric, True)
    return f"{number(gain.value, metric, True)} {bounds}".strip()
