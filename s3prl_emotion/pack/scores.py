"""Read the scores of a checkpoint from the files of its experiment, with their intervals over speakers."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.statistics import cluster_bootstrap
from s3prl_emotion.metrics.stored import read_metrics
from s3prl_emotion.report.computing.pooled import Measures, Pool
from s3prl_emotion.report.computing.scores import flat_metrics
from s3prl_emotion.report.reading.predictions import read_predictions
from s3prl_emotion.report.reading.study import RunResult

logger = logging.getLogger(__name__)
SUFFIX = "_metrics.json"


def scores_of(checkpoint: Path, step: int | None) -> list[dict[str, Any]]:
    """Return the scores of every split that a checkpoint was evaluated on.

    Args:
        checkpoint: its file; the results of its experiment lie beside it
        step: its training step, which the results must have too

    Returns:
        for each split: ``split``, ``fold``, ``utterances``, ``speakers``, what has to be said about it (``notes``), and
        ``scores``: by metric its ``value``, and ``low`` and ``high`` of its 95 % interval where there is one
    """
    found = []
    for path in sorted(checkpoint.parent.glob(f"*{SUFFIX}")):
        metrics = read_metrics(path)
        if metrics.get("checkpoint") == checkpoint.name and metrics.get("step") == step:
            found.append(_of_split(path, metrics))
    return found


def _of_split(path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in flat_metrics(metrics).items() if math.isfinite(value)}
    scores: dict[str, dict[str, float]] = {name: {"value": value} for name, value in values.items()}
    notes = [note for key in ("protocol", "seen") if (note := (metrics.get(key) or {}).get("note"))]
    speakers = None
    try:
        file = path.with_name(f"{path.name.removesuffix(SUFFIX)}_predictions.csv")
        read = read_predictions(file, metrics.get("evaluated_classes"))
    except LabelError as error:
        logger.warning("no intervals for %s: %s", path.name, error)
    else:
        pool = Pool([(RunResult("", "", str(metrics.get("fold")), metrics.get("seed"), {}), read)])
        measures = Measures(1, pool.dimensions, len(pool.classes))
        intervals = cluster_bootstrap(pool.sums(pool.classes), measures)
        speakers, notes = len(pool.clusters) - pool.clusters.unknown, [*notes, *pool.clusters.warnings]
        for name, low, high in zip(measures.names, intervals.low.tolist(), intervals.high.tolist(), strict=True):
            if name in scores and math.isfinite(low) and math.isfinite(high):
                scores[name] |= {"low": low, "high": high}
    return {
        "split": metrics.get("split"),
        "fold": metrics.get("fold"),
        "utterances": metrics.get("utterances") or metrics.get("dimension_utterances"),
        "speakers": speakers,
        "notes": notes,
        "scores": scores,
    }
