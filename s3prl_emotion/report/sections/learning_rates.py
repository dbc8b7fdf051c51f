"""Learning-rate searches: the rates tried, their scores on dev, and the rates chosen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from s3prl_emotion.errors import visible
from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.drawing.figure import INK, Figure, Panel, series_style
from s3prl_emotion.report.reading.searches import Search, rate_words
from s3prl_emotion.report.sections.base import Place, Section
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, number

FILE = "learning_rates.csv"
CSV_COLUMNS = ("upstream", "system", "used_by", "metric", "learning_rate", "dev_score", "chosen", "end_of_grid")


class LearningRates(Section):
    """The learning-rate searches of the study."""

    title = "Learning rates"
    anchor = "search"
    link = title
    style = "together"
    note = (
        "Dev scores, mean over the search's folds and seeds; the rate with the best score (*) is chosen, the lower of "
        "equal ones. No test split is used, and the search's runs count in no score above. –: not tried; failed: no "
        "score."
    )

    def tables(self, place: Place) -> Iterable[Table | None]:
        """Return the table of all searches."""
        return [search_table(self.study.searches)]

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the scores over the learning rates."""
        figure = search_figure(self.study.searches, self.study.systems)
        if figure is not None:
            yield figure

    def files(self) -> dict[str, str]:
        """Return the searches as CSV."""
        return {FILE: search_csv(self.study.searches)} if self.study.searches else {}


def search_table(searches: Sequence[Search]) -> Table | None:
    """Return a row for each search and a column for each rate that any of them tried, or ``None``."""
    if not searches:
        return None
    rates = sorted({rate for search in searches for rate in search.tried})
    header = ["system", "upstream", "chosen", *map(rate_words, rates), "end of the grid", "dev metric", "used by"]
    rows = []
    for search in searches:
        users = "; ".join(search.users) if search.users != (search.system,) else "itself"
        cells = [_cell(search, rate) for rate in rates]
        end = f"{search.end} tried" if search.end else "no"
        rows.append(
            [search.system or NONE, search.upstream, rate_words(search.chosen), *cells, end, label(search.metric),
             users or NONE]
        )  # fmt: skip
    return Table("learning rates tried on dev", header, rows)


def search_csv(searches: Sequence[Search]) -> str:
    """Return a line for each rate of each search, in full precision and as shares; failed ones have no score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for search in searches:
        about = [search.upstream, search.system, "; ".join(search.users), search.metric]
        for rate, score in search.tried.items():
            chosen = rate == search.chosen
            writer.writerow(
                [*map(visible, about), rate, "" if score is None else score, chosen, search.end if chosen else ""]
            )
    return text.getvalue()


def search_figure(searches: Sequence[Search], systems: Mapping[str, Any]) -> Figure | None:
    """Return dev scores over the learning rate, a panel for each upstream and metric, or ``None``.

    Args:
        searches: the searches; those with fewer than two scores are not drawn
        systems: the systems of the report, in their order
    """
    panels_of: dict[tuple[str, str], list[Search]] = {}
    for search in searches:
        if sum(score is not None for score in search.tried.values()) > 1:
            panels_of.setdefault((search.upstream, search.metric), []).append(search)
    panels = [
        Panel(", ".join(filter(None, [upstream, label(metric)])), partial(_draw, drawn, tuple(systems), metric))
        for (upstream, metric), drawn in panels_of.items()
    ]
    caption = "Learning rates: dev score of each, on a logarithmic axis; rings: the rates chosen."
    shown = {search.system for drawn in panels_of.values() for search in drawn}
    series = tuple(systems) if len(shown) > 1 else ()
    return Figure("learning_rates", caption, series, tuple(panels)) if panels else None


def _draw(searches: Sequence[Search], systems: Sequence[str], metric: str, figure: Any) -> None:
    axes, factor = figure.subplots(), scale(metric)
    for search in searches:
        known = {rate: factor * score for rate, score in search.tried.items() if score is not None}
        style = {"color": INK, "marker": "o"}
        if search.system in systems:
            style = series_style(systems, search.system)
        axes.plot(list(known), list(known.values()), **style, markersize=4, linewidth=1.3)
        if search.chosen in known:
            ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
            axes.plot([search.chosen], [known[search.chosen]], **ring, markeredgecolor=style["color"])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: rate_words(rate))
    axes.xaxis.set_minor_formatter(lambda rate, _: "")
    axes.set_xlabel("learning rate")
    axes.margins(0.08)


def _cell(search: Search, rate: float) -> str:
    if rate not in search.tried:
        return NONE
    score = search.tried[rate]
    return "failed" if score is None else number(score, search.metric) + (" *" if rate == search.chosen else "")
