"""Refuse to evaluate what the weights were trained on, and keep in checkpoints what that was."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import numpy as np

from s3prl_emotion.corpora.seen import (
    KEY,
    NOT_KNOWN,
    SEEN_SPLITS,
    Hashes,
    Overlap,
    Seen,
    TrainingData,
    overlap_of,
    read_seen,
)
from s3prl_emotion.distributed import everyones
from s3prl_emotion.errors import CheckpointError, LabelError

logger = logging.getLogger(__name__)


class SeenData:
    """What a run's weights have seen: the training data of its checkpoint, of this training, or of both.

    Args:
        runner: the :class:`~s3prl_emotion.training.runner.SuiteRunner`, of one of the suite's heads

    Raises:
        CheckpointError: the checkpoint's record is damaged
    """

    def __init__(self, runner: Any) -> None:
        args = runner.args
        self.expert, self.evaluated = runner.downstream.model, runner.evaluated_splits
        self.trains, self.allowed = args.mode == "train", bool(getattr(args, "allow_seen", False))
        self.resumes = self.trains and bool(args.past_exp)
        self.checkpoint = args.init_ckpt if runner.init_ckpt else None
        self.of_checkpoint = read_seen(runner.init_ckpt, args.init_ckpt) if runner.init_ckpt else Seen()
        if not self.of_checkpoint.is_complete:
            logger.warning("%s: %s", self.checkpoint, NOT_KNOWN)
        self.warned: set[Overlap] = set()
        self.checked: dict[str, list[int]] = {}  # by split, how many waveforms were read when it was last checked

    def before_training(self) -> None:
        """Check the training split of a resumed run, and by their names the splits that will be evaluated.

        Raises:
            CheckpointError: the run resumes with another training split
            LabelError: a split that is evaluated holds what is trained on
        """
        if self.resumes and self.of_checkpoint.traces:
            before, now = self.of_checkpoint.train_names(), self._now({}).train_names()
            if not np.array_equal(before, now):
                new, gone = len(np.setdiff1d(now, before)), len(np.setdiff1d(before, now))
                raise CheckpointError(
                    f"{self.checkpoint}: was trained on another train split ({new} utterances are new, {gone} are "
                    "gone); resume with its own labels and fold, or start from it with -i"
                )
        for split in self.evaluated:
            self.check(split)

    def check(self, split: str) -> None:
        """Refuse a split that holds what was trained on, as far as audio was read; all processes call it together.

        Raises:
            LabelError: names how much of it was trained on, and what to do
        """
        if self._is_trained_on(split) or self.expert.corpus is None or not (self.trains or self.checkpoint):
            return
        wanted = (*self._seen_splits(), split) if self.trains else (split,)
        hashes = self._hashes(wanted)
        read = [int(np.count_nonzero(values)) for values in hashes.values()]
        if self.checked.get(split) == read:
            return
        seen = self._now(hashes) if self.trains else self.of_checkpoint
        overlap = overlap_of(seen, self.expert.corpus, split, hashes[split])
        if overlap.is_seen and not self.allowed:
            raise LabelError(f"split {split!r}: {self._refusal(overlap)}")
        self.expert.overlaps[split], self.checked[split] = overlap, read
        if overlap not in self.warned:
            self.warned.add(overlap)
            self._warn(overlap)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; all processes call it together."""
        if self.expert.corpus is None:
            return {}
        return {KEY: self._now(self._hashes(self._seen_splits())).to_state()}

    @cached_property
    def data(self) -> TrainingData:
        """What this run trains on."""
        return TrainingData(self.expert.corpus, self.expert.train_split)

    def _seen_splits(self) -> tuple[str, ...]:
        """Return the splits that a training sees."""
        return tuple(self.expert.corpus.existing((self.expert.train_split, "dev")))

    def _is_trained_on(self, split: str) -> bool:
        return split in (self.expert.train_split, *SEEN_SPLITS)

    def _now(self, hashes: dict[str, Hashes]) -> Seen:
        """Return what the weights of this training have seen, with what they started from."""
        earlier = self.of_checkpoint
        own = self.data.seen(hashes, earlier if self.resumes else None)
        if self.resumes:  # its own part is replaced by the same with more waveforms
            earlier = Seen(tuple(trace for trace in earlier.traces if not trace.is_own), earlier.is_complete)
        return own.joined(earlier)

    def _hashes(self, splits: tuple[str, ...]) -> dict[str, Hashes]:
        """Return the hash of each waveform that any process has read."""
        own = {split: self.expert.loaders.waveform_hashes(split) for split in splits}
        every = everyones(own)
        return {split: _first_read([part[split] for part in every]) for split in splits}

    def _refusal(self, overlap: Overlap) -> str:
        who = f"{self.checkpoint} was" if self.checkpoint and not self.trains else "this run is"
        if self.checkpoint and self.trains:
            who = f"{self.checkpoint} was, or this run is,"
        return (
            f"{who} trained on {overlap.counts} ({overlap.examples}); evaluate the fold that was held "
            "out or other data, or give --allow_seen, which every output then says"
        )

    def _warn(self, overlap: Overlap) -> None:
        if overlap.is_seen:
            logger.warning("split %r: %s", overlap.split, overlap.note)
        if overlap.duplicates:
            logger.warning(
                "split %r: %d of its %d utterances sound as one that was trained on under another name; "
                "s3prl-emotion audit lists such duplicates",
                overlap.split, overlap.duplicates, overlap.total,
            )  # fmt: skip


def _first_read(parts: list[Hashes]) -> Hashes:
    """Return for each utterance the hash of the first process that has read it."""
    hashes = parts[0]
    for part in parts[1:]:
        hashes = np.where(hashes == 0, part, hashes)
    return hashes
