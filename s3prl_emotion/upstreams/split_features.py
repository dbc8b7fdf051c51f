"""Compute features of a whole split, averaged over frames, which some heads fit before training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.distributed import everyones, rank, world
from s3prl_emotion.files.progress import progress
from s3prl_emotion.masking import pad_features
from s3prl_emotion.rng import own_seed


def pooled_features(runner: Any, split: str) -> tuple[list[str], Tensor]:
    """Compute the features of a split as evaluation does, without changing training or its random draws.

    Args:
        runner: the :class:`~s3prl_emotion.training.runner.SuiteRunner`, on the suite's own path
        split: train, dev, …

    Returns:
        names ``[U]`` in the split's order, and means over frames ``[U, D]``, float32 on the CPU; each process computes
        a share and returns all

    Raises:
        AudioError: the upstream fails on an utterance or returns no frame
    """
    models = [entry.model for entry in runner.all_entries]
    was_training = [model.training for model in models]
    for model in models:
        model.eval()
    mine: list[tuple[list[str], list[Tensor]]] = []
    with own_seed(runner.args.seed), torch.no_grad():
        loader = runner.downstream.model.get_dataloader(split)
        for waveforms, *others in progress(loader, f"features of {split}", "batches", leave=False, hidden=rank() > 0):
            features = runner.features(waveforms, others)
            pad_features(features, others[-1])  # checks that each has a frame
            mine.append((list(others[-1]), [feature.mean(dim=0).float().cpu() for feature in features]))
    for model, training in zip(models, was_training, strict=True):
        model.train(training)
    shares = everyones(mine)
    batches = [shares[turn % world()][turn // world()] for turn in range(sum(map(len, shares)))]
    return [name for names, _ in batches for name in names], torch.stack([row for _, rows in batches for row in rows])
