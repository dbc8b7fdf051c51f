"""What sharing speakers between train and test is worth, where a study holds both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from s3prl_emotion.metrics import registry
from s3prl_emotion.report.computing.sharing import Sharing, sharing
from s3prl_emotion.report.sections.base import Place, Section
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, interval, number


class SharingSpeakers(Section):
    """The score of each system without and with shared speakers, and the difference with its interval."""

    title = "What sharing speakers is worth"
    anchor = "sharing"
    link = title
    note = (
        "Scores are over all folds' predictions together, mean over seeds. Speaker-dependent: folds were drawn by "
        "utterance, so a test speaker was trained on too. The difference is speaker-dependent minus speaker-disjoint, "
        "with a 95 % interval. Paired by utterance: both test the same utterances, which the bootstrap draws together, "
        "with all others of their speaker where the last column says so. Not paired: each score is resampled on its "
        "own, and the intervals are combined (Zou and Donner 2008)."
    )

    @cached_property
    def found(self) -> list[Sharing]:
        """What sharing is worth to each system under both protocols."""
        return sharing(self.study, self.results.analysis.resamples)

    def tables(self, place: Place) -> Iterator[Table]:
        """Yield a row for each system, upstream, split and metric."""
        if not self.found:
            return
        header = [
            "system",
            "metric",
            "speaker-disjoint",
            "speaker-dependent",
            "difference",
            "95 % interval",
            "computed",
        ]
        with_upstream, several = self.study.upstreams != ("",), len({item.split for item in self.found}) > 1
        rows = [
            [*([item.upstream] if with_upstream else []), *([item.split] if several else []), item.system, *cells]
            for item in self.found
            for cells in _cells(item)
        ]
        yield Table(
            "what sharing speakers is worth",
            [*(["upstream"] if with_upstream else []), *(["split"] if several else []), *header],
            rows,
        )


def _cells(item: Sharing) -> Iterator[list[str]]:
    shown = [gain for gain in item.gains if (metric := registry.find(gain.metric)) is not None and metric.main]
    for gain in shown:
        scores = [number(value, gain.metric) for value in (gain.disjoint, gain.dependent)]
        bounds = interval(gain.low, gain.high, gain.metric, True) or NONE
        yield [registry.label(gain.metric), *scores, number(gain.difference, gain.metric, True), bounds, item.method]
    if not shown:
        yield [NONE, NONE, NONE, NONE, NONE, item.method]
