"""Figures of what runs know beside their scores: classes, hypotheses, speakers, genders, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.expansion import slug
from s3prl_emotion.figures.speaker_plots import draw_calibrated
from s3prl_emotion.report.drawing import INK, PANEL, Drawable, Figure, Panel, series_style
from s3prl_emotion.report.evidence import SPEAKER_METRICS, Evidence, SpeakerPoint, SystemEvidence
from s3prl_emotion.report.matrices import Matrix
from s3prl_emotion.report.plane_figures import plane_figures
from s3prl_emotion.report.scores import Analysis
from s3prl_emotion.report.training_figures import training_figures

Systems = Mapping[str, SystemEvidence]
NAMES = {"UAR": "UAR", "mean_CCC": "mean CCC"}
SCALES = {"UAR": ("UAR, %", 100), "mean_CCC": ("mean CCC", 1)}
MOST_POINTS = 1000  # speakers of a system that are drawn in a panel


def detail_figures(analysis: Analysis, evidence: Evidence, upstream: str) -> list[Figure]:
    """All of an upstream: of its splits, then of its training, which have no split."""
    place = slug(upstream) if upstream else ""
    places = {system: number for number, system in enumerate(analysis.study.systems)}
    found = []
    for part in analysis.of(upstream):
        stem = "-".join(filter(None, [place, slug(part.split)]))
        found += group_figures(evidence.parts[upstream, part.split], part.split, stem)
        found += plane_figures(evidence.planes.planes.get((upstream, part.split), {}), places, stem)
    return found + training_figures(evidence.training[upstream], evidence.saliency[upstream], place)


def group_figures(systems: Systems, split: str, stem: str) -> list[Figure]:
    """Figures of an upstream and split that have something to show.

    Args:
        systems: of the report, in their order
        split: that they are of
        stem: of the figures' names
    """
    figures = [_confusion(systems), _speaker_scatter(systems), _speakers(systems), _genders(systems),
               _reliability(systems), *_hypotheses(systems)]  # fmt: skip
    return [
        Figure(
            f"{stem}-{name}", split, caption, tuple(systems) if series else (), tuple(panels), name.partition("-")[0]
        )
        for name, caption, series, panels in figures
        if panels
    ]


Found = tuple[str, str, bool, Sequence[Drawable]]


def _confusion(systems: Systems) -> Found:
    """Counts added over runs, coloured by recall."""
    panels = []
    for system, found in systems.items():
        if found.confusion is not None:
            counts = found.confusion
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            words = [
                [[f"{100 * share:.0f}", f"({_short(number)})"] for share, number in zip(*both, strict=True)]
                for both in zip(shares, counts, strict=True)
            ]
            panels.append(Matrix(system, found.classes, shares, words, ("truth", "prediction")))
    caption = "Confusions of all runs added up: per cent of the true class, and utterances in brackets."
    return "confusion", caption, False, panels


def _short(number: int) -> str:
    """A count that fits into a cell: ``9999``, ``12k``."""
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"


def _hypotheses(systems: Systems) -> list[Found]:
    """First and second hypothesis of each true class, a figure for each system; Mitra et al. 2025, Fig. 5."""
    found: list[Found] = []
    axes = ("first hypothesis", "second hypothesis")
    for place, (system, evidence) in enumerate(systems.items()):
        shares = {
            name: counts / max(counts.sum(), 1) for name, counts in evidence.hypotheses.items() if len(counts) > 1
        }
        top = max((float(values.max()) for values in shares.values()), default=1.0) or 1.0
        panels = []
        for name, values in shares.items():
            total = int(evidence.hypotheses[name].sum())
            words = [[[f"{100 * share:.0f}"] if share else [] for share in row] for row in values.tolist()]
            panels.append(
                Matrix(f"true: {name} ({total})", evidence.classes, values, words, axes, top,
                       evidence.classes.index(name), hollow=True, note="" if total else "does not occur")
            )  # fmt: skip
        caption = (
            f"{system}: first and second hypothesis of each true class, per cent of its utterances (as Mitra et al. "
            "2025, Fig. 5). Outlined: where the first is right (row), and where the second is (column)."
        )
        found.append((f"hypotheses-{place}", caption, False, panels))
    return found


def _speaker_scatter(systems: Systems) -> Found:
    """UAR of speakers against the share of each class in their utterances; Mitra et al. 2025, Fig. 4."""
    drawn = {system: _of_classes(found) for system, found in systems.items()}
    drawn = {system: points for system, points in drawn.items() if points}
    classes = dict.fromkeys(name for system in drawn for name in systems[system].classes)
    panels = [Panel(name, partial(_draw_scatter, drawn, tuple(systems), name)) for name in classes]
    largest = max(map(len, drawn.values()), default=0)
    step = -(-largest // MOST_POINTS)
    thinned = f" Of {largest} speakers one in {step} is drawn." if step > 1 else ""
    caption = (
        "UAR of each speaker against the share of the class in the speaker's utterances (as Mitra et al. 2025, Fig. "
        f"4).{thinned}"
    )
    return "speaker_scatter", caption, True, panels


def _of_classes(found: SystemEvidence) -> list[SpeakerPoint]:
    """Speakers with a UAR and counts of their classes."""
    return [point for point in found.speakers.values() if "UAR" in point.scores and any(point.counts.values())]


def _draw_scatter(drawn: Mapping[str, Sequence[SpeakerPoint]], systems: Sequence[str], name: str, figure: Any) -> None:
    axes = figure.subplots()
    for system, points in drawn.items():
        shares = np.array([point.share(name) for point in points])
        uars = np.array([point.score("UAR") for point in points])
        step = -(-len(points) // MOST_POINTS)
        style = series_style(systems, system) | {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0}
        axes.plot(100 * shares[::step], 100 * uars[::step], **style, alpha=0.7 if len(points) <= 100 else 0.4)
    axes.set(xlabel="share of the class, %", ylabel="UAR, %")
    axes.margins(0.06)


def _speakers(systems: Systems) -> Found:
    """Speakers of each system from the worst to the best."""
    panels = []
    for metric in SPEAKER_METRICS:
        scores = {
            system: sorted(point.score(metric) for point in found.speakers.values() if metric in point.scores)
            for system, found in systems.items()
        }
        scores = {system: values for system, values in scores.items() if len(values) > 1}
        if scores:
            title = f"{NAMES[metric]} of speakers"
            panels.append(Panel(title, partial(_draw_speakers, scores, tuple(systems), metric)))
    caption = (
        "Every speaker's score (mean over the runs that test the speaker), each system from its worst to its best."
    )
    return "speakers", caption, True, panels


def _draw_speakers(scores: Mapping[str, Sequence[float]], systems: Sequence[str], metric: str, figure: Any) -> None:
    axes, (name, scale) = figure.subplots(), SCALES[metric]
    for system, values in scores.items():
        style = series_style(systems, system) | ({} if len(values) <= 40 else {"marker": None})
        places = np.linspace(0, 100, len(values))
        axes.plot(places, scale * np.array(values), **style, markersize=3.5, linewidth=1.3)
    axes.set(xlabel="speakers from the worst to the best, %", ylabel=name)


def _genders(systems: Systems) -> Found:
    """Scores by gender, with the deviation over runs."""
    genders = tuple(dict.fromkeys(gender for found in systems.values() for gender in found.genders))
    panels = []
    for metric in SPEAKER_METRICS:
        if any(f"{metric}.{gender}" in found.scores for gender in genders for found in systems.values()):
            panels.append(Panel(f"{NAMES[metric]} by gender", partial(_draw_genders, systems, genders, metric)))
    caption = "Scores over the utterances of each gender: mean over runs, and their standard deviation (n − 1)."
    return "genders", caption, True, panels


def _draw_genders(systems: Systems, genders: Sequence[str], metric: str, figure: Any) -> None:
    axes, (name, scale) = figure.subplots(), SCALES[metric]
    for index, (system, found) in enumerate(systems.items()):
        aside = (index - (len(systems) - 1) / 2) * min(0.15, 0.7 / len(systems))
        style = series_style(tuple(systems), system)
        for place, gender in enumerate(genders):
            score = found.scores.get(f"{metric}.{gender}")
            if score is None:
                continue
            axes.plot([place + aside], [scale * score.mean], linestyle="none", markersize=5, **style)
            if np.isfinite(score.std):
                ends = scale * np.array([score.mean - score.std, score.mean + score.std])
                axes.vlines(place + aside, *ends, color=style["color"], linewidth=1.3)
    axes.set_xticks(range(len(genders)), genders)
    axes.set_xlim(-0.6, len(genders) - 0.4)
    axes.set_ylabel(name)
    axes.grid(axis="x", visible=False)


def _reliability(systems: Systems) -> Found:
    """Accuracy against confidence; Guo et al. 2017, Fig. 1."""
    bins = {
        system: [row for row in found.reliability if row["utterances"]]
        for system, found in systems.items()
        if found.reliability
    }
    panel = Panel("Calibration", partial(_draw_reliability, bins, tuple(systems)), PANEL[1] + 1.0)
    caption = (
        "Share of right answers among the utterances whose first hypothesis has a probability around a value; dashed: "
        "calibrated; below: how many utterances there are (all runs together; bins as in Guo et al. 2017)."
    )
    return "reliability", caption, True, [panel] if bins else []


def _draw_reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]], systems: Sequence[str], figure: Any) -> None:
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
