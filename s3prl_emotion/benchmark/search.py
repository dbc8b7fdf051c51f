"""The search for a learning rate: which of the rates that were tried is best on dev."""

from __future__ import annotations

import importlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from s3prl_emotion.benchmark.plan import Choice, Run
from s3prl_emotion.errors import TrainingError

NAME = "search.jsonl"  # lines as in results.jsonl, of runs that are no results


def metric_of(run: Run, named: str | None) -> str:
    """By what a run's training on dev is judged: what the matrix names, else what picks its best checkpoint."""
    from s3prl_emotion import host

    host.register()
    expert = importlib.import_module(f"s3prl.downstream.{run.head}.expert").DownstreamExpert
    return str(named or run.config["downstream_expert"].get("best_metric") or expert.metrics[0])


def score_of(metrics: Mapping[str, Any], metric: str) -> float | None:
    """A dev score from a run's metrics; ``joint`` is the mean of UAR and mean CCC."""
    parts = [metrics.get(name) for name in (("UAR", "mean_CCC") if metric == "joint" else (metric,))]
    values = [float(part) for part in parts if part is not None]
    known = len(values) == len(parts) and all(math.isfinite(value) for value in values)
    return sum(values) / len(values) if known else None


def choose(trials: Sequence[Run], lines: Mapping[str, dict[str, Any]], metric: str) -> Choice:
    """Pick the learning rate that is best on dev.

    Args:
        trials: runs of the search, every rate on the same folds and seeds
        lines: of those that were finished; the others failed
        metric: that is compared, averaged over folds and seeds

    Raises:
        TrainingError: no rate could be trained
    """
    scores: dict[float, list[float | None]] = defaultdict(list)
    for trial in trials:
        line = lines.get(trial.cell.id)
        score = None if line is None else score_of(line["splits"]["dev"]["metrics"], metric)
        scores[trial.cell.rate or 0.0].append(score)
    tried = {rate: _mean(values) for rate, values in scores.items()}
    best = max((score for score in tried.values() if score is not None), default=None)
    if best is None:
        raise TrainingError(
            f"the search for its learning rate: none of {', '.join(map(str, tried))} could be trained or has a "
            f"{metric} on dev"
        )
    return Choice(min(rate for rate, score in tried.items() if score == best), metric, tried)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean, or ``None`` where a fold or seed has no score: others would be favoured or not by which one it is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None
