"""How well each speaker and each gender is recognised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.metrics.groups import N_BEST
from s3prl_emotion.metrics.registry import label, scale
from s3prl_emotion.report.computing.details import GROUP_METRICS, SPEAKER_METRICS, SPEAKER_RANKS, SpeakerPoint
from s3prl_emotion.report.drawing.figure import Figure, Panel, series_style
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.sections.cells import PASSED, Systems, any_has, cells, column_title, genders_of
from s3prl_emotion.report.table import Table, table_of
from s3prl_emotion.report.words import NONE

MOST_POINTS = 1000  # speakers of a system that are drawn in a panel


class Speakers(SplitSection):
    """Scores of speakers and of genders."""

    title = "Speakers and genders"
    note = (
        "The worst, median and best speaker are those of each run; ± is the standard deviation over runs (n − 1). "
        "Speakers with fewer utterances than the minimum have no scores and do not count in paUAR. UAR against the "
        "share of a class: Spearman's correlation over the speakers of a run."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield speakers, their scores against the shares of classes, and genders."""
        systems = self.details(place)
        yield speakers_table(systems)
        yield shares_table(systems)
        yield genders_table(systems)
        yield passed_by_gender_table(systems)

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield speakers by their shares of classes, speakers in order of their scores, and genders."""
        systems = self.details(place)
        for kind, (caption, panels) in {
            "speaker_scatter": _scatter(systems), "speakers": _sorted_speakers(systems), "genders": _genders(systems)
        }.items():  # fmt: skip
            if panels:
                yield Figure(place.figure_name(kind), caption, tuple(systems), tuple(panels))


def speakers_table(systems: Systems) -> Table | None:
    """Return how many speakers are recognised well, and the scores of a run's worst, median and best speaker."""
    ranks = [f"{metric}.{rank} speaker" for metric in SPEAKER_METRICS for rank in SPEAKER_RANKS]
    names = [name for name in [*(f"{name}.1-best" for name in PASSED), *ranks] if any_has(systems, name)]
    rows, strangers = [], any(details.unknown for details in systems.values())
    for system, details in systems.items():
        points = list(details.speakers.values())
        if points:
            counted = [point for point in points if point.scores]
            single = sum(sum(number > 0 for number in point.counts.values()) == 1 for point in counted)
            known = any(point.counts for point in counted)
            numbers = [str(len(counted)), str(len(points) - len(counted)), str(single) if known else NONE]
            nobody = [str(details.unknown)] if strangers else []
            rows.append([system, *numbers, *nobody, str(details.min_utterances), *cells(details, names)])
    nobody = ["utterances of unknown speakers"] if strangers else []
    header = ["system", "speakers", "left out", "single-class", *nobody, "min. utterances"]
    return table_of("speakers", [*header, *map(column_title, names)], rows)


def shares_table(systems: Systems) -> Table | None:
    """Return Spearman's ρ of speakers' UAR and their shares of each class; Mitra et al. 2025, Fig. 4."""
    classes = dict.fromkeys(name for details in systems.values() for name in details.classes)
    names = {name: f"rho_share.{name}" for name in classes if any_has(systems, f"rho_share.{name}")}
    rows = [[system, *cells(details, list(names.values()))] for system, details in systems.items() if details.speakers]
    return table_of("UAR against the share of a class", ["system", *names], rows if names else [])


def genders_table(systems: Systems) -> Table | None:
    """Return scores by gender, a row for each system."""
    names = {
        gender: [name for metric in GROUP_METRICS if any_has(systems, name := f"{metric}.{gender}")]
        for gender in genders_of(systems)
    }
    header = ["system"]
    for gender, own in names.items():
        header += [f"{gender}: utterances", *(f"{gender}: {column_title(name)}" for name in own)]
    rows = []
    for system, details in systems.items():
        if details.genders:
            row = [system]
            for gender, own in names.items():
                row += [str(details.genders.get(gender, NONE)), *cells(details, own)]
            rows.append(row)
    return table_of("genders", header, rows)


def passed_by_gender_table(systems: Systems) -> Table | None:
    """Return the share of speakers above a UAR by gender, for the n best hypotheses; Mitra et al. 2025, Table 6."""
    columns = [(gender, name) for gender in genders_of(systems) for name in PASSED]
    rows = []
    for system, details in systems.items():
        for n in N_BEST:
            names = [f"{name}.{gender}.{n}-best" for gender, name in columns]
            if any(name in details.scores for name in names):
                rows.append([system, str(n), *cells(details, names)])
    header = ["system", "n", *(f"{gender}: {column_title(name)}" for gender, name in columns)]
    return table_of("speakers above a UAR, by gender", header, rows)


def _scatter(systems: Systems) -> tuple[str, list[Panel]]:
    """UAR of speakers against the share of each class in their utterances; Mitra et al. 2025, Fig. 4."""
    points = {
        system: [point for point in details.speakers.values() if "UAR" in point.scores and any(point.counts.values())]
        for system, details in systems.items()
    }
    points = {system: own for system, own in points.items() if own}
    classes = dict.fromkeys(name for system in points for name in systems[system].classes)
    panels = [Panel(name, partial(_draw_scatter, points, tuple(systems), name)) for name in classes]
    largest = max(map(len, points.values()), default=0)
    step = -(-largest // MOST_POINTS)
    thinned = f" One in {step} of the {largest} speakers is drawn." if step > 1 else ""
    caption = (
        "UAR of each speaker against the share of the class in the speaker's utterances (as Mitra et al. 2025, Fig. "
        f"4).{thinned}"
    )
    return caption, panels


def _draw_scatter(points: Mapping[str, Sequence[SpeakerPoint]], systems: Sequence[str], name: str, figure: Any) -> None:
    axes = figure.subplots()
    for system, own in points.items():
        shares = np.array([point.share(name) for point in own])
        uars = np.array([point.score("UAR") for point in own])
        step = -(-len(own) // MOST_POINTS)
        style = series_style(systems, system) | {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0}
        axes.plot(100 * shares[::step], 100 * uars[::step], **style, alpha=0.7 if len(own) <= 100 else 0.4)
    axes.set(xlabel="share of the class, %", ylabel="UAR, %")
    axes.margins(0.06)


def _sorted_speakers(systems: Systems) -> tuple[str, list[Panel]]:
    """Speakers of each system from the worst to the best, a panel for each metric."""
    panels = []
    for metric in SPEAKER_METRICS:
        scores = {
            system: sorted(point.score(metric) for point in details.speakers.values() if metric in point.scores)
            for system, details in systems.items()
        }
        scores = {system: values for system, values in scores.items() if len(values) > 1}
        if scores:
            draw = partial(_draw_sorted_speakers, scores, tuple(systems), metric)
            panels.append(Panel(f"{_name(metric)} of speakers", draw))
    caption = (
        "Each speaker's score (mean over the runs that test the speaker), from each system's worst to its best speaker."
    )
    return caption, panels


def _draw_sorted_speakers(
    scores: Mapping[str, Sequence[float]], systems: Sequence[str], metric: str, figure: Any
) -> None:
    axes = figure.subplots()
    for system, values in scores.items():
        style = series_style(systems, system) | ({} if len(values) <= 40 else {"marker": None})
        ranks = np.linspace(0, 100, len(values))
        axes.plot(ranks, scale(metric) * np.array(values), **style, markersize=3.5, linewidth=1.3)
    axes.set(xlabel="speakers from the worst to the best, %", ylabel=column_title(metric))


def _genders(systems: Systems) -> tuple[str, list[Panel]]:
    """Scores by gender, with the deviation over runs, a panel for each metric."""
    genders = genders_of(systems)
    panels = [
        Panel(f"{_name(metric)} by gender", partial(_draw_genders, systems, genders, metric))
        for metric in SPEAKER_METRICS
        if any(any_has(systems, f"{metric}.{gender}") for gender in genders)
    ]
    return "Scores over the utterances of each gender: mean and standard deviation over runs (n − 1).", panels


def _draw_genders(systems: Systems, genders: Sequence[str], metric: str, figure: Any) -> None:
    axes, factor = figure.subplots(), scale(metric)
    for index, (system, details) in enumerate(systems.items()):
        aside = (index - (len(systems) - 1) / 2) * min(0.15, 0.7 / len(systems))
        style = series_style(tuple(systems), system)
        for position, gender in enumerate(genders):
            score = details.scores.get(f"{metric}.{gender}")
            if score is None:
                continue
            axes.plot([position + aside], [factor * score.mean], linestyle="none", markersize=5, **style)
            if np.isfinite(score.std):
                ends = factor * np.array([score.mean - score.std, score.mean + score.std])
                axes.vlines(position + aside, *ends, color=style["color"], linewidth=1.3)
    axes.set_xticks(range(len(genders)), genders)
    axes.set_xlim(-0.6, len(genders) - 0.4)
    axes.set_ylabel(column_title(metric))
    axes.grid(axis="x", visible=False)


def _name(metric: str) -> str:
    return label(metric, short=True, unit=False)
