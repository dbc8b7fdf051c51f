"""Turn what a head recorded of a split into curves, lines of ``log.log`` and result files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch

from s3prl_emotion.corpora.protocol import DISJOINT
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.experts import attention_files
from s3prl_emotion.figures import embeddings
from s3prl_emotion.files.outputs import append
from s3prl_emotion.files.writing import REMEDY
from s3prl_emotion.metrics import results
from s3prl_emotion.metrics.registry import LOSS, lower_is_better

logger = logging.getLogger(__name__)
UNDEFINED = torch.finfo(torch.float32).min  # an undefined score is worse than any other, but better than no evaluation
Records = dict[str, list[Any]]  # by name, what a head keeps of every utterance or batch of a split


def log_split(
    expert: Any,
    split: str,
    records: Records,
    writer: Any,
    step: int,
    checkpoint: str | None,
    keep_log: bool,
) -> list[str]:
    """Log a split's curves; if it was evaluated, also write its results and find out whether dev is the best so far.

    ``expert`` is the :class:`~s3prl_emotion.experts.base.EmotionExpert`; the other arguments and the return value are
    those of its ``log_records``.
    """
    metrics = {} if expert.is_training_on(split) else write_split(expert, split, records, step, checkpoint)
    if not keep_log:
        return []
    curves = expert.curves(records)
    loss = results.float32_mean(records["loss"])
    if metrics and expert.best_metric == LOSS:
        loss = metrics[LOSS]
    for name, value in {**curves, "loss": loss}.items():
        if not math.isnan(value):  # undefined for this split
            writer.add_scalar(f"emotion-{expert.fold}/{split}-{name}", value, global_step=step)
    lines = [f"{split} at step {step}: {next(iter(curves.values()))}\n"]
    best = []
    if split == "dev":
        score = expert.selection_score(curves, metrics)
        defined = score is not None and math.isfinite(score)
        # compared in the buffer's float32, where an equal score is not better than its own rounding
        sign = -1 if lower_is_better(expert.best_metric) else 1
        rank = expert.best_score.new_tensor(sign * score if defined else UNDEFINED)
        if rank > expert.best_score:
            expert.best_score.fill_(rank)
            best.append(f"{split}-best.ckpt")
            if defined:
                lines.append(f"New best on {split} at step {step}: {score}\n")
            else:
                logger.warning("dev at step %d: %s is undefined; it is the best so far", step, expert.best_metric)
    if expert.corpus and expert.corpus.protocol.note is not None and not expert.is_training_on(split):
        lines.append(f"{split}: {expert.corpus.protocol.note}\n")
    if expert.corpus and expert.corpus.partition is not None and not expert.is_training_on(split):
        lines.append(f"{split}: {expert.corpus.partition}\n")
    if split in expert.overlaps and expert.overlaps[split].note is not None:
        lines.append(f"{split}: {expert.overlaps[split].note}\n")
    append(expert.expdir / "log.log", "".join(lines), TrainingError, REMEDY)
    return best


def write_split(expert: Any, split: str, records: Records, step: int, checkpoint: str | None) -> dict[str, Any]:
    """Write the result files of an evaluated split, its utterances in the order of the records.

    Returns:
        the split's metrics, and its ``loss``
    """
    utterances = expert.corpus.split(split) if expert.corpus else ()
    by_name = {utterance.name: utterance for utterance in utterances}
    made_by = {"split": split, "fold": expert.fold, "step": step, "checkpoint": checkpoint, "classes": expert.classes}
    made_by |= expert.provenance | results.model_size(expert.model)
    made_by["loss"] = expert.split_loss(records)
    if expert.corpus and expert.corpus.protocol != DISJOINT:
        made_by["protocol"] = expert.corpus.protocol.to_metrics()
    if expert.corpus and expert.corpus.partition is not None:
        made_by["partition"] = {"note": expert.corpus.partition}
    overlap = expert.overlaps.get(split)
    if overlap is not None and (overlap.note or overlap.duplicates):
        made_by["seen"] = overlap.to_metrics()
    metrics = expert.write_results([by_name[name] for name in records["name"]], records, made_by)
    if records.get("embedding"):
        embeddings.save(expert.expdir, f"{split}_{expert.fold}", records["name"], records["embedding"])
    if records.get("attention"):
        weights = dict(zip(records["name"], records["attention"], strict=True))
        attention_files.save(Path(str(expert.attention_dir)), f"{split}_{expert.fold}", weights)
    return {**metrics, LOSS: made_by["loss"]}
