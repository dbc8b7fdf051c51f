"""Agreement with the graders' distributions, and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from s3prl_emotion.figures.split_plots import draw_calibrated
from s3prl_emotion.metrics.registry import label, of_kind
from s3prl_emotion.report.drawing.figure import INK, PANEL, Figure, Panel, series_style
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.sections.cells import Systems, any_has, cells
from s3prl_emotion.report.table import Table, table_of

COLUMNS = [metric.name for metric in of_kind("probabilities", "graders")]


class Agreement(SplitSection):
    """Whether probabilities agree with the graders, and with how often predictions are right."""

    title = "Agreement with graders and calibration"
    note = (
        "JS and KL: Jensen-Shannon divergence and Kullback-Leibler divergence (graders from model), means over "
        "utterances. Entropies: whether the model is unsure where graders disagree. Macro-F1 above 1/K: each of the K "
        "classes is true, or predicted, if its share exceeds 1/K. ECE: expected calibration error over 15 bins."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield agreement and calibration."""
        yield agreement_table(self.details(place))

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield accuracy against confidence; Guo et al. 2017, Fig. 1."""
        systems = self.details(place)
        bins = {
            system: [row for row in details.reliability if row["utterances"]]
            for system, details in systems.items()
            if details.reliability
        }
        if bins:
            caption = (
                "Accuracy of the first hypothesis against its probability; dashed: perfect calibration; below: number "
                "of utterances (all runs together; bins as in Guo et al. 2017)."
            )
            panel = Panel("Calibration", partial(_draw, bins, tuple(systems)), PANEL[1] + 1.0)
            yield Figure(place.figure_name("reliability"), caption, tuple(systems), (panel,))


def agreement_table(systems: Systems) -> Table | None:
    """Return agreement with the graders' distributions, and calibration; Mitra et al. 2025, section 4; Guo et al. 2017.

    It is titled ``calibration`` where there is no agreement.
    """
    names = [name for name in COLUMNS if any_has(systems, name)]
    rows = [
        [system, *cells(details, names)]
        for system, details in systems.items()
        if any(name in details.scores for name in names)
    ]
    title = "calibration" if names == ["ECE"] else "agreement with graders"
    return table_of(title, ["system", *map(label, names)], rows)


def _draw(bins: Mapping[str, Sequence[Mapping[str, Any]]], systems: Sequence[str], figure: Any) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    draw_calibrated(upper, lower, INK)
    for system, rows in bins.items():
        style = series_style(systems, system)
        upper.plot(
            [row["confidence"] for row in rows], [row["accuracy"] for row in rows], **style, markersize=4, linewidth=1.2
        )
        middles = [(row["from"] + row["to"]) / 2 for row in rows]
        lower.plot(middles, [row["utterances"] for row in rows], **style, markersize=2.5, linewidth=1.1)
    lower.set_ylim(bottom=0)
