"""Rank all systems on all upstreams within each test split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from s3prl_emotion.corpora.protocol import SPEAKER_DEPENDENT
from s3prl_emotion.metrics.registry import ranking
from s3prl_emotion.report.computing.scores import Analysis, Row, Score
from s3prl_emotion.report.reading.provenance import Provenance
from s3prl_emotion.report.superb_track import Track


@dataclass(frozen=True)
class Entry:
    """A system on an upstream and a split; ``rank`` is ``None`` where it lacks the metric that ranks.

    Attributes:
        board: the list that ranks it, named after the split; speaker-dependent systems have lists of their own
    """

    upstream: str
    split: str
    system: str
    head: str
    track: Track
    row: Row
    board: str
    rank: int | None = None

    def score(self, metric: str) -> Score | None:
        """Return the score of a metric, or ``None`` where it is missing or not defined."""
        score = self.row.scores.get(metric)
        return score if score is not None and math.isfinite(score.mean) else None


@dataclass(frozen=True)
class Leaderboard:
    """Entries by list, best first; ``ranked_by`` names the metric that ranks each of the lists, ``boards``."""

    entries: tuple[Entry, ...]
    metrics: tuple[str, ...]
    boards: tuple[str, ...]
    ranked_by: dict[str, str]

    @property
    def upstreams(self) -> list[str]:
        """Names of the upstreams, sorted; empty where the study has none."""
        return sorted({entry.upstream for entry in self.entries if entry.upstream})

    @property
    def heads(self) -> list[str]:
        """Names of the heads, sorted."""
        return sorted({entry.head for entry in self.entries if entry.head})

    @property
    def has_tracks(self) -> bool:
        """Whether any entry belongs to a track of SUPERB."""
        return any(entry.track.name for entry in self.entries)


def leaderboard(analysis: Analysis, provenance: Mapping[tuple[str, str], Provenance]) -> Leaderboard:
    """Rank the systems of a study within each split, the speaker-dependent ones apart.

    Args:
        analysis: the scores of the study
        provenance: what was run, by upstream and system
    """
    metrics: dict[str, None] = {}
    entries: list[Entry] = []
    ranked_by: dict[str, str] = {}
    boards: list[str] = []
    for split, is_dependent in product(dict.fromkeys(part.split for part in analysis.parts), (False, True)):
        parts = [part for part in analysis.parts if part.split == split]
        metrics |= dict.fromkeys(name for part in parts for name in part.main_metrics)
        board = f"{split}, {SPEAKER_DEPENDENT}" if is_dependent else split
        here = [
            Entry(part.upstream, split, row.system, ", ".join(about.heads), about.track, row, board)
            for part in parts
            for row in part.rows
            if row.runs and (about := provenance.get((part.upstream, row.system))) is not None
            and (row.system in analysis.study.speaker_dependent) == is_dependent
        ]  # fmt: skip
        metric = _ranking_metric(here)
        if metric is not None:
            ranked_by[board] = metric
        boards += [board] if here else []
        entries += _ranked(here, metric)
    return Leaderboard(tuple(entries), tuple(metrics), tuple(boards), ranked_by)


def _ranking_metric(entries: Sequence[Entry]) -> str | None:
    """Return the first of the ranking metrics that most entries have."""
    counts = {name: sum(entry.score(name) is not None for entry in entries) for name in ranking()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def _ranked(entries: Sequence[Entry], metric: str | None) -> list[Entry]:
    """Return the entries best first, equal scores with the same rank, those without the metric last."""
    if metric is None:
        return list(entries)
    means = {index: score.mean for index, entry in enumerate(entries) if (score := entry.score(metric)) is not None}
    ordered = sorted(range(len(entries)), key=lambda index: -means.get(index, -math.inf))
    ranks = {index: 1 + sum(other > mean for other in means.values()) for index, mean in means.items()}
    return [replace(entries[index], rank=ranks.get(index)) for index in ordered]
