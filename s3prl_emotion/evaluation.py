"""From the records of an evaluated split to its metrics and files, once for the whole split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_emotion import attention, results
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.errors import TrainingError

logger = logging.getLogger(__name__)


def write_evaluation(
    folder: Path,
    utterances: Sequence[Utterance],
    records: dict[str, list[Any]],
    made_by: dict[str, Any],
    attention_dir: str | None = None,
) -> dict[str, Any]:
    """Compute the metrics of a split and write its predictions, metrics and attention weights.

    Args:
        folder: experiment directory
        utterances: of the split, in any order
        records: ``name``, ``probability [U, K]``, ``loss``, ``batch_size``, and ``attention`` where it is exported
        made_by: split, fold, step, checkpoint, classes, and what else the metrics file is to hold
        attention_dir: where attention weights go

    Returns:
        the metrics

    Raises:
        TrainingError: the head's output is not finite, or a file cannot be written
    """
    from s3prl_emotion.metrics import categorical_metrics

    split, step, classes = made_by["split"], made_by["step"], made_by["classes"]
    known = {utterance.name: utterance for utterance in utterances}
    evaluated = [known[name] for name in records["name"]]
    probabilities = np.asarray(records["probability"])
    if not np.isfinite(probabilities).all():
        raise TrainingError(f"{split} at step {step}: the head's output is not finite; lower optimizer.lr")
    metrics = categorical_metrics(
        [utterance.label for utterance in evaluated],
        probabilities,
        classes,
        [utterance.speaker for utterance in evaluated],
        [utterance.gender for utterance in evaluated],
    )
    metrics["loss"] = float(np.average(records["loss"], weights=records["batch_size"]))
    stem = f"{split}_{made_by['fold']}"
    results.write_predictions(folder, stem, evaluated, probabilities, classes)
    first = {key: made_by[key] for key in ("split", "fold", "step", "checkpoint", "classes")}
    results.write_metrics(folder, stem, first | metrics | made_by)
    if records.get("attention"):
        weights = dict(zip(records["name"], records["attention"], strict=True))
        attention.save(Path(str(attention_dir)), stem, weights)
    logger.info("%s at step %d: WA %.4f, UAR %.4f", split, step, metrics["WA"], metrics["UAR"])
    return metrics
