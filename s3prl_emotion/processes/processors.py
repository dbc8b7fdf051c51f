"""Count the processors that this process may use, and compare numbers of worker processes with them."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from s3prl_emotion.errors import EmotionError, UsageError

logger = logging.getLogger(__name__)
MOST_EACH = 4  # workers for each processor: more wait for each other, and each takes some 0.5 GB
ALWAYS_ALLOWED = 8  # workers, on machines with one or two processors: shipped recipes have 4
CGROUP = Path("/sys/fs/cgroup")


def processors(cgroup: Path = CGROUP) -> int:
    """Return how many processors this process may use: at least 1, by its affinity and its container's quota.

    Args:
        cgroup: folder in which Linux describes the container (version 2, or version 1 in its folder ``cpu``)
    """
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    allowed = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def check_workers(
    count: int, where: str, each: int = MOST_EACH, failure: type[EmotionError] = UsageError, fix: str = ""
) -> None:
    """Refuse far more workers than processors, and warn of more than one for each.

    Args:
        count: processes or threads that this process would start
        where: the flag or the recipe's key
        each: most workers for each processor
        failure: class of the error
        fix: how to set it where ``where`` does not say that, for the messages

    Raises:
        EmotionError: ``failure``: a negative number, or more than ``each`` for each processor
    """
    if count < 0:
        raise failure(f"{where} {count}: must be 0 or more")
    known = processors()
    how = f"this process may use {known} processor{'' if known == 1 else 's'}"
    most = max(ALWAYS_ALLOWED, each * known)
    if count > most:
        raise failure(f"{where} {count}: {how}; give {known}, or at most {most}{fix}")
    if count > known and each == MOST_EACH:
        logger.warning("%s %d: %s; more workers than that take memory and time%s", where, count, how, fix)


def _quota(cgroup: Path) -> float | None:
    """Return the container's quota in processors, ``None`` without one."""
    for quota, period in (
        (_words(cgroup / "cpu.max")[:1], _words(cgroup / "cpu.max")[1:]),
        (_words(cgroup / "cpu" / "cpu.cfs_quota_us"), _words(cgroup / "cpu" / "cpu.cfs_period_us")),
    ):
        if len(quota) == len(period) == 1 and quota[0].isdigit() and period[0].isdigit() and int(period[0]):
            return int(quota[0]) / int(period[0])
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:  # another version of cgroups, or another system
        return []
