"""Name the systems of a study that had no dev split (``datarc.valid_ratio: 0``), whose last checkpoint counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s3prl_emotion.corpora.protocol import NO_DEV_NOTE, lacks_dev


def systems_without_dev(runs: Sequence[Any]) -> list[str]:
    """Return the names of systems with a run that had no dev split, in the order of the runs.

    Args:
        runs: :class:`~s3prl_emotion.report.reading.study.RunResult`, whose module imports this one
    """
    found = (run.system for run in runs if any(lacks_dev(split.metrics) for split in run.splits.values()))
    return list(dict.fromkeys(found))


def dev_warnings(runs: Sequence[Any]) -> list[str]:
    """Return what a report says at its top about systems without a dev split; nothing if there are none."""
    found = systems_without_dev(runs)
    return [f"{', '.join(found)}: {NO_DEV_NOTE}."] if found else []


def checkpoint_words(runs: Sequence[Any]) -> str:
    """Return which checkpoints the scores of a study are of."""
    without = systems_without_dev(runs)
    if not without:
        return "best dev checkpoint"
    if len(without) == len({run.system for run in runs}):
        return "last checkpoint, since there is no dev split"
    return f"best dev checkpoint (of {', '.join(without)}: with the last checkpoint, without a dev split)"
