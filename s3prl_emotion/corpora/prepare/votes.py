"""Turn the votes and ratings of single graders into a consensus, shares, means and spreads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from s3prl_emotion.corpora.class_names import NO_AGREEMENT
from s3prl_emotion.corpora.prepare.preparer import Clip, Levels


def shares_of(votes: Iterable[str], classes: Sequence[str]) -> dict[str, float]:
    """Return the share of the votes for each class; votes for other classes are not counted.

    Returns:
        a distribution over ``classes``, or an empty one if there is no vote for any of them
    """
    counts = Counter(vote for vote in votes if vote in classes)
    total = sum(counts.values())
    return {name: counts[name] / total for name in classes} if total else {}


def plurality(shares: Mapping[str, float]) -> str:
    """Return the class with the most votes, or ``no agreement`` if two or more classes tie."""
    top = max(shares.values(), default=0.0)
    best = [name for name, share in shares.items() if share == top]
    return best[0] if len(best) == 1 else NO_AGREEMENT


def mean_and_spread(levels: Sequence[Levels]) -> tuple[Levels, Levels]:
    """Return the mean and the population standard deviation (÷n) of the graders' levels; ``None`` without any."""
    means: list[float | None] = []
    spreads: list[float | None] = []
    for column in zip(*levels, strict=True) if levels else ((), (), ()):
        known = [level for level in column if level is not None]
        mean = sum(known) / len(known) if known else None
        means.append(mean)
        spreads.append(None if mean is None else (sum((level - mean) ** 2 for level in known) / len(known)) ** 0.5)
    return (means[0], means[1], means[2]), (spreads[0], spreads[1], spreads[2])


def smoothed(shares: Mapping[str, float], amount: float) -> dict[str, float]:
    """Smooth shares as EMO-SUPERB does: a share of 1 becomes ``1 - amount``, 0 becomes ``amount / (classes - 1)``."""
    rest = amount / (len(shares) - 1) if len(shares) > 1 else 0.0
    return {name: share * (1 - amount) + (1 - share) * rest for name, share in shares.items()}


def without_shares(clips: Iterable[Clip]) -> list[Clip]:
    """Remove the shares of all clips, for corpora with gaps: a label table has shares for every row or for none."""
    return [replace(clip, shares={}) for clip in clips]
