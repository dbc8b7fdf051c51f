"""Figures of a report, drawn once for the page (panels without legend, in the page's colours) and once as files.

The page's panels are SVG whose colours are CSS variables, so that they follow the page into the dark; text stays text.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_emotion.benchmark.expansion import slug
from s3prl_emotion.report.analysis import Analysis, Part
from s3prl_emotion.report.tables import PERCENT, label, main_metrics

INK, GRID = "#1b1b1f", "#d9d9de"
SERIES = ("#0b62a4", "#c2500a", "#11795a", "#8a3ea0", "#a87400", "#c0305f", "#3f6fd8", "#5b6b0f")
MARKERS = "osD^vPX*"
GLYPHS = "●■◆▲▼✚✖★"
NOISY = re.compile(r"(.+)_(\d+(?:\.\d+)?)dB")
PANEL = (3.5, 2.7)  # inches
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "s3prl-emotion", "font.size": 9, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "grid.color": GRID,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "axes.titlesize": 9.5, "legend.frameon": False, "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One diagram: ``draw`` fills a matplotlib figure."""

    title: str
    draw: Callable[[Any], None]
    height: float = PANEL[1]


@dataclass(frozen=True)
class Figure:
    """Panels beside each other, with what they show; ``split`` is empty where they compare splits."""

    name: str
    split: str
    caption: str
    systems: tuple[str, ...]
    panels: tuple[Panel, ...]


def figures_of(analysis: Analysis, upstream: str) -> list[Figure]:
    """All figures of an upstream: robustness over splits, then scores and errors of each."""
    parts = analysis.of(upstream)
    systems = tuple(analysis.study.systems)
    found = _robustness(parts, systems, slug(upstream) if upstream else "")
    for part in parts:
        stem = "-".join(filter(None, [slug(upstream) if upstream else "", slug(part.split)]))
        found += [*_scores(part, systems, stem, analysis.study.baseline), *_bins(part, systems, stem)]
    return found


def svg_panels(figure: Figure, prefix: str) -> Iterator[tuple[str, str]]:
    """Title and SVG of each panel, for the page; ``prefix`` keeps ids apart."""
    for number, panel in enumerate(figure.panels):
        with _style_of_page():
            drawn = _new_figure((PANEL[0], panel.height))
            panel.draw(drawn)
            svg = _svg(drawn)
        yield panel.title, _for_page(svg, f"{prefix}{number}-")


def write_figure(figure: Figure, folder: Path) -> Path:
    """Write all panels with their legend as ``NAME.svg``."""
    from s3prl_emotion.results import write_text

    with _style_of_page():
        text = _svg(_all_panels(figure))
    path = folder / f"{figure.name}.svg"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _all_panels(figure: Figure) -> Any:
    count = len(figure.panels)
    drawn = _new_figure((PANEL[0] * count, max(panel.height for panel in figure.panels) + 0.5))
    handles: dict[str, Any] = {}
    for panel, place in zip(figure.panels, np.atleast_1d(drawn.subfigures(1, count)), strict=True):
        place.suptitle(panel.title, fontsize=9.5)
        panel.draw(place)
        for axes in place.axes:
            handles |= {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))
    return drawn


def glyph(systems: Sequence[str], system: str) -> tuple[str, int]:
    """A system's mark and the number of its colour."""
    index = list(systems).index(system)
    return GLYPHS[index % len(GLYPHS)], index % len(SERIES)


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
        score, style = row.scores[metric], _style(systems, row.system)
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
            [item["centre"] for item in bins], errors, **_style(systems, row.system), markersize=4, linewidth=1.4
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
        places, style = np.arange(len(parts)) + aside, _style(systems, system)
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


def _style(systems: Sequence[str], system: str) -> dict[str, Any]:
    index = list(systems).index(system)
    return {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)], "label": system}


def _new_figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure as Drawn

    return Drawn(figsize=size, layout="constrained")


def _style_of_page() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Type", "Format"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


def _for_page(svg: str, prefix: str) -> str:
    """Cut an SVG to what a page needs: no declarations, ids of its own, colours that the page rules, its width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="([\d.]+)pt" height="[\d.]+pt"', r'\1 role="img"', svg, count=1)
    svg = re.sub(r"xlink:href", "href", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # the page's own font; older matplotlib
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    for index, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{index})")
    return svg.strip()
