"""Write metrics' names, numbers and scores as readers see them."""

from __future__ import annotations

import math

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.metrics.registry import digits, scale
from s3prl_emotion.report.computing.scores import Difference, Row, Score

NONE = "–"
MINUS = "−"
SMALLEST_P = 0.001


def number(value: float | None, metric: str, signed: bool = False) -> str:
    """Return a value as text, with the digits of its metric: one decimal of a percentage, else three."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{scale(metric) * value:.{digits(metric)}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    text = text.replace("-", MINUS)
    return f"+{text}" if signed and float(text.replace(MINUS, "-")) > 0 else text


def interval(low: float, high: float, metric: str, signed: bool = False) -> str:
    """Return ``[low, high]``, or nothing where there is no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, metric, signed)}, {number(high, metric, signed)}]"


def p_value(value: float) -> str:
    """Return a p-value as text: ``p = 0.031``, ``p < 0.001``."""
    if not math.isfinite(value):
        return ""
    return f"p < {SMALLEST_P}" if value < SMALLEST_P else f"p = {value:.3f}"


def count(value: float | None) -> str:
    """Return a number of parameters as text: ``1.65 M``."""
    if value is None:
        return NONE
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Return a duration as text: ``3 h 07 min``, ``4 min 05 s``, ``41 s``."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def spread(score: Score) -> str:
    """Return ``mean ± std``."""
    std = f" ± {number(score.std, score.metric)}" if math.isfinite(score.std) else ""
    return number(score.mean, score.metric) + std


def published(theirs: PublishedNumber, metric: str) -> str:
    """Return a published number with what its source prints beside it: ``58.0 ± 1.2 (56.8 to 59.1)``."""
    std = "" if theirs.std is None else f" ± {number(theirs.std, metric)}"
    return number(theirs.value, metric) + std + _extent(theirs.min, theirs.max, metric)


def beside_published(score: Score) -> str:
    """Return our score with the same statistics as the published one: mean, spread over runs, and range.

    The range is that of the seeds' means over folds where there are several seeds, else that of the runs.
    """
    theirs = score.published
    if theirs is None:
        return spread(score)
    mean = number(score.mean, score.metric) if theirs.std is None else spread(score)
    seeds = score.by_seed
    lowest, highest = (score.lowest, score.highest) if seeds is None else (seeds.low, seeds.high)
    low, high = (None if theirs.min is None else lowest), (None if theirs.max is None else highest)
    return mean + _extent(low, high, score.metric)


def _extent(low: float | None, high: float | None, metric: str) -> str:
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f" (min {number(low, metric)})" if high is None else f" (max {number(high, metric)})"
    return f" ({number(low, metric)} to {number(high, metric)})"


def pooled(score: Score) -> str:
    """Return the interval, after the pooled score if that is not the mean over runs: ``pooled 0.738 [0.7, 0.77]``."""
    bounds = interval(score.low, score.high, score.metric)
    value = number(score.pooled, score.metric)
    same = value == number(score.mean, score.metric)
    return bounds if same or not bounds else f"pooled {value} {bounds}"


def difference(gap: Difference | None, metric: str) -> str:
    """Return a difference with its interval: ``+0.012 [−0.01, +0.03]``."""
    if gap is None:
        return ""
    return f"{number(gap.value, metric, True)} {interval(gap.low, gap.high, metric, True)}".strip()


def score_words(row: Row, metric: str) -> str:
    """Return ``mean ± std [low, high]`` of a system's metric."""
    score = row.scores.get(metric)
    return NONE if score is None else ", ".join(filter(None, [spread(score), pooled(score)])).replace(", [", " [")
