"""Scores as text: how each metric is shown, plain tables for Markdown and LaTeX, and the long table as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_emotion.report.scores import Analysis, Difference, Part, Row, Score, is_tested

NONE = "–"
MINUS = "−"
DIMENSION_NAMES = {"EmoAct": "activation", "EmoVal": "valence", "EmoDom": "dominance"}
LABELS = {"UAR": "UA (UAR), %", "WA": "WA, %", "macro_f1": "macro-F1, %"}
PERCENT = {"UAR", "WA", "macro_f1", "relative_size", "ECE", "threshold_F1", "paUAR-50", "paUAR-75"}
SMALLEST_P = 0.001

CSV_COLUMNS = (
    "upstream", "split", "system", "metric", "runs", "mean", "std", "min", "max", "pooled", "low", "high", "utterances",
    "speakers", "baseline", "difference", "difference_low", "difference_high", "p_value", "p_holm", "exact",
    "published", "published_source", "mean_less_published", "num_parameters", "relative_parameters",
    "head", "track", "rank",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of plain words."""

    title: str
    header: list[str]
    rows: list[list[str]]


def label(metric: str) -> str:
    """A metric's name for readers: ``CCC valence``."""
    kind, _, dimension = metric.partition(".")
    if dimension:
        return f"{kind} {DIMENSION_NAMES.get(dimension, dimension)}"
    return LABELS.get(metric, metric.replace("mean_", "mean "))


def number(value: float | None, metric: str, signed: bool = False) -> str:
    """A value as readers see it: shares in percent with one decimal, others with three."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{100 * value:.1f}" if metric.partition(".")[0] in PERCENT else f"{value:.3f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    text = text.replace("-", MINUS)
    return f"+{text}" if signed and float(text.replace(MINUS, "-")) > 0 else text


def interval(low: float, high: float, metric: str, signed: bool = False) -> str:
    """``[low, high]``, or nothing where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, metric, signed)}, {number(high, metric, signed)}]"


def p_value(value: float) -> str:
    """``p = 0.031``, ``p < 0.001``."""
    if not math.isfinite(value):
        return ""
    return f"p < {SMALLEST_P}" if value < SMALLEST_P else f"p = {value:.3f}"


def count(value: float | None) -> str:
    """A number of parameters: ``1.65 M``."""
    if value is None:
        return NONE
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def spread(score: Score) -> str:
    """``mean ± std``."""
    std = f" ± {number(score.std, score.metric)}" if math.isfinite(score.std) else ""
    return number(score.mean, score.metric) + std


def pooled(score: Score) -> str:
    """The interval, behind the pooled score where that is not the mean over runs: ``pooled 0.738 [0.7, 0.77]``."""
    bounds = interval(score.low, score.high, score.metric)
    value = number(score.pooled, score.metric)
    same = value == number(score.mean, score.metric)
    return bounds if same or not bounds else f"pooled {value} {bounds}"


def difference(found: Difference | None, metric: str) -> str:
    """``+0.012 [−0.01, +0.03]``."""
    if found is None:
        return ""
    return f"{number(found.value, metric, True)} {interval(found.low, found.high, metric, True)}".strip()


def main_metrics(part: Part) -> list[str]:
    """CCC, and what classes are scored by."""
    return [name for name in part.metrics if "CCC" in name or name in LABELS]


def other_metrics(part: Part) -> list[str]:
    """MSE and Pearson."""
    return [name for name in part.metrics if name not in main_metrics(part)]


def score_tables(part: Part) -> list[Table]:
    """Scores with spread and interval: the main metrics, then the others."""
    tables = []
    for title, metrics in (("scores", main_metrics(part)), ("errors and correlations", other_metrics(part))):
        header = ["system", "runs", *map(label, metrics)]
        rows = [[row.system, str(row.runs), *(score_words(row, name) for name in metrics)] for row in part.rows]
        if metrics and title == "scores":
            header[2:2] = ["parameters", "size, %"]
            for row, words in zip(part.rows, rows, strict=True):
                words[2:2] = [count(row.num_parameters), number(row.relative_size, "relative_size")]
        tables += [Table(title, header, rows)] if metrics else []
    return tables


def difference_table(part: Part, baseline: str | None) -> Table | None:
    """Differences to the baseline with p-values corrected by Holm, or nothing."""
    metrics = [name for name in main_metrics(part) if is_tested(name)]
    rows = [row for row in part.rows if any(row.scores[name].difference for name in metrics if name in row.scores)]
    if not rows:
        return None
    words = [[row.system, *(_with_p(row, name) for name in metrics)] for row in rows]
    return Table(f"difference to {baseline}", ["system", *map(label, metrics)], words)


def published_table(part: Part) -> Table | None:
    """Ours, published, difference, one number a row, or nothing."""
    rows = []
    for row in part.rows:
        for name, score in row.scores.items():
            if score.published is not None:
                theirs = score.published.value
                numbers = [number(score.mean, name), number(theirs, name), number(score.mean - theirs, name, True)]
                rows.append([row.system, label(name), *numbers, score.published.source])
        if row.published_size is not None:
            ours, theirs = row.relative_size, row.published_size.value
            gap = None if ours is None else ours - theirs
            numbers = [
                number(ours, "relative_size"),
                number(theirs, "relative_size"),
                number(gap, "relative_size", True),
            ]
            rows.append([row.system, "size, %", *numbers, row.published_size.source])
    header = ["system", "metric", "ours", "published", "difference", "source"]
    return Table("published numbers", header, rows) if rows else None


def tables_of(part: Part, baseline: str | None) -> list[Table]:
    """All tables of a part."""
    found = [*score_tables(part), difference_table(part, baseline), published_table(part)]
    return [table for table in found if table is not None]


def csv_text(
    analysis: Analysis,
    details: Mapping[tuple[str, str], Sequence[tuple[str, Score]]],
    ranked: Mapping[tuple[str, str, str], Mapping[str, Any]],
) -> str:
    """All scores, one a line, in full precision and as shares.

    Args:
        analysis: main scores
        details: further scores by upstream and split, each with its system
        ranked: head, track and rank by upstream, split and system
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in analysis.parts:
        for row in part.rows:
            others = [score for system, score in details.get((part.upstream, part.split), ()) if system == row.system]
            for score in [*row.scores.values(), *others]:
                about = ranked.get((part.upstream, part.split, row.system), {})
                writer.writerow({**_csv_row(analysis, part, row, score), **about})
    return text.getvalue()


def _csv_row(analysis: Analysis, part: Part, row: Row, score: Score) -> dict[str, Any]:
    found, theirs = score.difference, score.published
    values: dict[str, Any] = {
        "upstream": part.upstream, "split": part.split, "system": row.system, "metric": score.metric,
        "runs": score.runs, "mean": score.mean, "std": score.std, "min": score.lowest, "max": score.highest,
        "pooled": score.pooled, "low": score.low, "high": score.high, "utterances": part.utterances,
        "speakers": part.speakers, "num_parameters": row.num_parameters, "relative_parameters": row.relative_size,
    }  # fmt: skip
    if found is not None:
        values |= {
            "baseline": analysis.study.baseline, "difference": found.value, "difference_low": found.low,
            "difference_high": found.high, "p_value": found.p_value, "p_holm": found.p_holm, "exact": found.exact,
        }  # fmt: skip
    if theirs is not None:
        gap = score.mean - theirs.value
        values |= {"published": theirs.value, "published_source": theirs.source, "mean_less_published": gap}
    return {name: "" if value is None or value != value else value for name, value in values.items()}


def score_words(row: Row, metric: str) -> str:
    """``mean ± std [low, high]`` of a row's metric."""
    score = row.scores.get(metric)
    return NONE if score is None else ", ".join(filter(None, [spread(score), pooled(score)])).replace(", [", " [")


def _with_p(row: Row, metric: str) -> str:
    found = row.scores[metric].difference if metric in row.scores else None
    if found is None:
        return NONE
    return f"{difference(found, metric)}, {p_value(found.p_holm)}{' *' if found.significant else ''}"
