"""Choose the learning rate with the best score on dev."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from s3prl_emotion.benchmark.plan import Choice, Run
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.metrics import registry


def metric_of(run: Run, metric: str | None) -> str:
    """Return the dev metric that ranks learning rates: the matrix's ``search.metric``, or else ``best_metric``."""
    from s3prl_emotion import host

    host.register()
    expert = host.expert_class(run.head)
    return str(metric or run.config["downstream_expert"].get("best_metric") or expert.selection_metrics[0])


def choose(trials: Sequence[Run], lines: Mapping[str, dict[str, Any]], metric: str) -> Choice:
    """Choose the learning rate with the best dev score, which of a loss is the lowest; of equal ones the lowest rate.

    Args:
        trials: runs of the search, every rate on the same folds and seeds
        lines: result lines of the finished trials by their id; the others failed
        metric: name of the metric, averaged over folds and seeds

    Raises:
        TrainingError: no rate could be trained
    """
    scores: dict[float, list[float | None]] = defaultdict(list)
    for trial in trials:
        line = lines.get(trial.cell.id)
        dev = None if line is None else line["splits"].get("dev")
        score = None if dev is None else registry.score(dev["metrics"], metric)
        scores[trial.cell.rate or 0.0].append(score)
    tried = {rate: _mean(values) for rate, values in scores.items()}
    best_of = min if registry.lower_is_better(metric) else max
    best = best_of((score for score in tried.values() if score is not None), default=None)
    if best is None:
        raise TrainingError(
            f"the search for its learning rate: none of {', '.join(map(str, tried))} could be trained or has a "
            f"{metric} on dev"
        )
    return Choice(min(rate for rate, score in tried.items() if score == best), metric, tried)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; ``None`` where a fold or seed has no score, since rates must be compared on the same ones."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None
