"""Evaluate one split: run the head on its batches, in all processes, and let it log and write the results."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from s3prl.utility.helper import is_leader_process

from s3prl_emotion.distributed import everyones, rank, world
from s3prl_emotion.files.progress import progress
from s3prl_emotion.processes import ending

Records = dict[str, list[Any]]


class AbandonedError(Exception):
    """A signal ended the training while it evaluated."""


def evaluate_split(runner: Any, split: str, writer: Any, step: int, **options: Any) -> list[str]:
    """Evaluate a split with the current weights; training continues as if it had not been evaluated.

    Args:
        runner: the :class:`~s3prl_emotion.training.runner.SuiteRunner`
        split: dev, test, …
        writer: tensorboard writer
        step: training step
        options: for :meth:`~s3prl_emotion.experts.base.EmotionExpert.log_records`; stock tasks do not take them

    Returns:
        names under which the head wants the current weights saved

    Raises:
        AbandonedError: a signal asks this process, or another of the training, to end
    """
    was_training = any(entry.model.training for entry in runner.all_entries)
    for entry in runner.all_entries:
        entry.model.eval()
    expert = runner.downstream.model
    if runner.is_suite:
        expert.before_evaluation()
    loader = expert.get_dataloader(split)
    if runner.seen is not None:
        runner.seen.check(split)
    batches = _count_batches(runner, loader)
    last = batches if runner.evaluates_alone else batches - 1  # the host evaluates one batch more than the ratio says
    records: Records = defaultdict(list)
    of_batches: list[Records] = []
    may_abandon = world() == 1 or not runner.evaluates_alone  # else the others wait for the leader to evaluate
    for batch_id, (waveforms, *others) in enumerate(
        progress(loader, split, "batches", total=batches, leave=False, hidden=rank() > 0)
    ):
        if batch_id > last or (may_abandon and ending.is_asked()):
            break
        if not runner.evaluates_alone:
            records = defaultdict(list)
        with torch.no_grad():
            expert(split, runner.features(waveforms, others), *others, records=records, batch_id=batch_id)
        of_batches.append(records)
    asked = [may_abandon and ending.is_asked()]
    if not runner.evaluates_alone:
        shares = everyones((ending.is_asked(), of_batches))
        asked, records = [share[0] for share in shares], _merged([share[1] for share in shares])
    if any(asked):
        raise AbandonedError
    if runner.seen is not None:
        runner.seen.check(split)  # again, now that all of its audio was read
    names = None
    if runner.is_suite:
        expert.provenance["layer_weights"] = runner.featurizer.model.layer_weights()
    if is_leader_process():
        names = expert.log_records(
            split,
            records=records,
            logger=writer,
            global_step=step,
            batch_ids=list(range(len(of_batches))),
            total_batch_num=len(loader),
            **(options if runner.is_suite else {}),
        )
    if was_training:
        runner.set_modes()
    return names if isinstance(names, list) else []


def _count_batches(runner: Any, loader: Any) -> int:
    """Return how many of this process's batches to evaluate: its share of ``evaluate_ratio`` of all batches."""
    ratio = float(runner.config["runner"].get("evaluate_ratio", 1))
    if runner.evaluates_alone:  # the leader has them all
        return round(len(loader) * ratio)
    together = getattr(loader, "all_batches", None)
    if together is None:  # a loader of a head's own
        together = sum(everyones(len(loader)))
    return len(range(rank(), round(together * ratio), world()))


def _merged(shares: list[list[Records]]) -> Records:
    """Return the records of a split in its own order; ``shares`` has the batches of each process, which take turns."""
    merged: Records = defaultdict(list)
    for turn in range(len(shares[0])):
        for share in shares:
            for name, values in share[turn].items() if turn < len(share) else ():
                merged[name] += values
    return merged
