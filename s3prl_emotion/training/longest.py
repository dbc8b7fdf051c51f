"""Check before a run that its longest audio fits into the memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from s3prl_emotion.audio import SAMPLE_RATE, header
from s3prl_emotion.corpora import Utterance
from s3prl_emotion.errors import AudioError

HEADERS = 4  # of a split's largest files are read: the length of every file would cost a pass over the corpus


def check_longest(runner: Any, splits: Iterable[str]) -> None:
    """Refuse a run whose largest files do not fit; files that are not among them are checked when they are computed.

    Args:
        runner: the :class:`~s3prl_emotion.training.runner.SuiteRunner`
        splits: to train on and to evaluate

    Raises:
        AudioError: names the file, its duration, what it needs and what to do
    """
    expert = runner.downstream.model
    if expert.corpus is None or runner.args.feature_store is not None:  # the store may hold them all
        return
    for split in dict.fromkeys(splits):
        trains = split == expert.train_split and runner.args.mode == "train"
        limit = expert.data.max_duration if trains or expert.data.cut_eval else None
        slowest = expert.data.augment.slowest if trains and expert.data.augment is not None else 1.0
        with torch.set_grad_enabled(trains and runner.upstream.trainable):
            for utterance, samples in _longest(expert.corpus.split(split)):
                samples = math.ceil(samples / slowest)
                cut = samples if limit is None else min(samples, max(1, round(limit * SAMPLE_RATE)))
                runner.memory.check(cut, utterance.place)


def _longest(utterances: Sequence[Utterance]) -> Iterator[tuple[Utterance, int]]:
    """Yield the largest files, with their number of samples at 16 kHz by their headers, and the longest segment."""
    sized = []
    parts = {item.part.seconds: item for item in utterances if item.part is not None}
    if parts:
        yield parts[max(parts)], round(max(parts) * SAMPLE_RATE)
    for utterance in utterances:
        if utterance.part is not None:
            continue
        try:
            sized.append((utterance.path.stat().st_size, utterance.name, utterance))
        except OSError:  # which reading it reports
            continue
    for _, _, utterance in sorted(sized, key=lambda item: item[:2], reverse=True)[:HEADERS]:
        try:
            yield utterance, header(utterance.path).samples
        except AudioError:  # likewise
            continue
