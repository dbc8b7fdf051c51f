"""Figures of a report's scores: with intervals, by label bin, over signal-to-noise ratios."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.expansion import slug
from s3prl_emotion.report.drawing import INK, PANEL, Figure, Panel, series_style
from s3prl_emotion.report.scores import Analysis, Part
from s3prl_emotion.report.tables import PERCENT, label, main_metrics

NOISY = re.compile(r"(.+)_(\d+(?:\.\d+)?)dB")


def figures_of(analysis: Analysis, upstream: str) -> list[Figure]:
    """All figures of an upstream: robustness over splits, then scores and errors of each."""
    parts = analysis.of(upstream)
    systems = tuple(analysis.study.systems)
    found = _robustness(parts, systems, slug(upstream) if upstream else "")
    for part in parts:
        stem = "-".join(filter(None, [slug(upstream) if upstream else "", slug(part.split)]))
        found += [*_scores(part, systems, stem, analysis.study.baseline), *_bins(part, systems, stem)]
    return found


def _scores(part: Part, systems: Sequence[str], stem: str, baseline: str | None) -> list[Figure]:
    metrics = _drawn(part)
    if not metrics:
        return []
    height = 0.75 + 0.34 * len(part.rows)
    panels = [Panel(label(name), partial(_draw_scores, part, name, systems, baseline), height) for name in metrics]
    caption = "Scores of all folds' predictions together, with 95 % intervals over speakers; dotted: the baseline."
    return [Figure(f"{stem}-scores", part.split, caption, tuple(systems), tuple(panels))]


def _draw_scores(part: Part, metric: str, systems: Sequence[str], baseline: str | None, figure: Any) -> None:
    axes, scale = figure.subplots(), 100 if metric in PERCENT else 1
    for place, row in enumerate(reversed(part.rows)):
        value = _pooled(row, metric) * scale
        if not np.isfinite(value):
            continue
        score, style = row.scores[metric], series_style(systems, row.system)
        if np.isfinite(score.low) and np.isfinite(score.high):
            axes.plot([score.low * scale, score.high * scale], [place, place], color=style["color"], linewidth=1.6)
        axes.plot([value], [place], linestyle="none", markersize=5.5, **style)
        if row.system == baseline:
            axes.axvline(value, color=INK, linestyle=":", linewidth=0.9)
    axes.set_yticks(range(len(part.rows)), ["\n".join(textwrap.wrap(row.system, 20)) for row in reversed(part.rows)])
    axes.set_ylim(-0.6, len(part.rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _bins(part: Part, systems: Sequence[str], stem: str) -> list[Figure]:
    names = dict.fromkeys(name for row in part.rows for name in row.bins)
    panels = [Panel(label(f"MSE.{name}"), partial(_draw_bins, part, name, systems), PANEL[1] + 0.4) for name in names]
    caption = (
        "Mean squared error of utterances by their true value, and how many there are of each "
        "(as Mitra et al. 2024, Fig. 4)."
    )
    return [Figure(f"{stem}-mse_per_bin", part.split, caption, tuple(systems), tuple(panels))] if panels else []


def _draw_bins(part: Part, name: str, systems: Sequence[str], figure: Any) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts: dict[float, int] = {}
    for row in part.rows:
        bins = row.bins.get(name, [])
        errors = [np.nan if item["MSE"] is None else item["MSE"] for item in bins]
        upper.plot(
            [item["centre"] for item in bins], errors, **series_style(systems, row.system), markersize=4, linewidth=1.4
        )
        counts |= {item["centre"]: item["utterances"] for item in bins}
    upper.set_ylim(bottom=0)
    upper.set_ylabel("MSE")
    width = 0.7 * min(np.diff(sorted(counts)), default=1.0)
    lower.bar(list(counts), list(counts.values()), width=width, color=INK, alpha=0.35)
    lower.set(xlabel=label(f"true.{name}"), ylabel="utterances")
    lower.grid(axis="x", visible=False)


def _robustness(parts: Sequence[Part], systems: Sequence[str], stem: str) -> list[Figure]:
    """Scores over signal-to-noise ratios, where there are degraded copies of a split."""
    found = []
    for clean in dict.fromkeys(match.group(1) for part in parts if (match := NOISY.fullmatch(part.split))):
        levels = {part.split: part for part in parts if part.split == clean or _base(part.split) == clean}
        if len(levels) < 2:
            continue
        ordered = sorted(levels.values(), key=lambda part: -_ratio(part.split))
        metrics = _drawn(ordered[0])
        panels = [Panel(label(name), partial(_draw_robustness, ordered, name, systems)) for name in metrics]
        caption = f"{clean} and its noisy copies: scores with 95 % intervals over speakers."
        name = "-".join(filter(None, [stem, slug(clean), "robustness"]))
        found += [Figure(name, "", caption, tuple(systems), tuple(panels))] if panels else []
    return found


def _draw_robustness(parts: Sequence[Part], metric: str, systems: Sequence[str], figure: Any) -> None:
    axes, scale = figure.subplots(), 100 if metric in PERCENT else 1
    for index, system in enumerate(systems):
        rows = [next(row for row in part.rows if row.system == system) for part in parts]
        values = np.array([_pooled(row, metric) for row in rows]) * scale
        if not np.isfinite(values).any():
            continue
        bounds = np.array([[row.scores[metric].low, row.scores[metric].high] if metric in row.scores else [np.nan] * 2
                           for row in rows]) * scale  # fmt: skip
        aside = (index - (len(systems) - 1) / 2) * min(0.12, 0.6 / len(systems))  # intervals must not hide each other
        places, style = np.arange(len(parts)) + aside, series_style(systems, system)
        axes.plot(places, values, **style, markersize=4, linewidth=1.4)
        axes.vlines(places, bounds[:, 0], bounds[:, 1], color=style["color"], linewidth=1)
    words = ["clean" if _base(part.split) is None else f"{_ratio(part.split):g} dB" for part in parts]
    axes.set_xticks(range(len(parts)), words)
    axes.set_xlabel("signal-to-noise ratio")
    axes.grid(axis="x", visible=False)


def _base(split: str) -> str | None:
    match = NOISY.fullmatch(split)
    return match.group(1) if match else None


def _ratio(split: str) -> float:
    match = NOISY.fullmatch(split)
    return float(match.group(2)) if match else float("inf")


def _drawn(part: Part) -> list[str]:
    """Main metrics that have a value; means over dimensions stand in the table."""
    metrics = [name for name in main_metrics(part) if not name.startswith("mean_")]
    return [name for name in metrics if any(np.isfinite(_pooled(row, name)) for row in part.rows)]


def _pooled(row: Any, metric: str) -> float:
    """The pooled score, or the mean over runs where there are no predictions."""
    score = row.scores.get(metric)
    if score is None:
        return float("nan")
    return score.pooled if np.isfinite(score.pooled) else score.mean
