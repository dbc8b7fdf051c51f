"""One table over all upstreams, systems and test splits, ranked within each split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from s3prl_emotion.report import tables
from s3prl_emotion.report.made import Made, Track
from s3prl_emotion.report.scores import Analysis, Row, Score

RANKED_BY = ("UAR", "mean_CCC", "WA", "macro_f1")  # the first of those that most systems have


@dataclass(frozen=True)
class Entry:
    """A system on an upstream and a split; ``rank`` is none where it lacks the metric that ranks."""

    upstream: str
    split: str
    system: str
    head: str
    track: Track
    row: Row
    rank: int | None = None

    def score(self, metric: str) -> Score | None:
        """Its score, or nothing where the metric is not there or not defined."""
        score = self.row.scores.get(metric)
        return score if score is not None and math.isfinite(score.mean) else None


@dataclass(frozen=True)
class Leaderboard:
    """Entries by split, best first; ``ranked_by`` names the metric of each split, higher is better for all."""

    entries: tuple[Entry, ...]
    metrics: tuple[str, ...]
    splits: tuple[str, ...]
    ranked_by: dict[str, str]

    @property
    def upstreams(self) -> list[str]:
        """In the order of the study, without the empty one."""
        return sorted({entry.upstream for entry in self.entries if entry.upstream})

    @property
    def heads(self) -> list[str]:
        """Of all entries."""
        return sorted({entry.head for entry in self.entries if entry.head})

    @property
    def has_tracks(self) -> bool:
        """Whether SUPERB's tracks say anything here."""
        return any(entry.track.name for entry in self.entries)


def leaderboard(analysis: Analysis, made: dict[tuple[str, str], Made]) -> Leaderboard:
    """Rank the systems of a study.

    Args:
        analysis: of the study
        made: what was run, by upstream and system
    """
    metrics: dict[str, None] = {}
    entries: list[Entry] = []
    ranked_by: dict[str, str] = {}
    splits = tuple(dict.fromkeys(part.split for part in analysis.parts))
    for split in splits:
        parts = [part for part in analysis.parts if part.split == split]
        metrics |= dict.fromkeys(name for part in parts for name in tables.main_metrics(part))
        here = [
            Entry(part.upstream, split, row.system, ", ".join(about.heads), about.track, row)
            for part in parts
            for row in part.rows
            if row.runs and (about := made.get((part.upstream, row.system))) is not None
        ]
        metric = _ranking_metric(here)
        if metric is not None:
            ranked_by[split] = metric
        entries += _ranked(here, metric)
    return Leaderboard(tuple(entries), tuple(metrics), splits, ranked_by)


def leaderboard_tables(board: Leaderboard) -> list[tables.Table]:
    """A plain table for each split."""
    shown = [name for name in ("upstream", "head", "track") if _told(board, name)]
    titles = {"track": "SUPERB track"}
    found = []
    for split in board.splits:
        entries = [entry for entry in board.entries if entry.split == split]
        metrics = [name for name in board.metrics if any(entry.score(name) for entry in entries)]
        header = ["rank", "system", *(titles.get(name, name) for name in shown), "runs", "parameters"]
        rows = [
            [
                tables.NONE if entry.rank is None else str(entry.rank),
                entry.system,
                *(_words(entry, name) for name in shown),
                str(entry.row.runs),
                tables.count(entry.row.num_parameters),
                *(tables.score_words(entry.row, metric) for metric in metrics),
            ]
            for entry in entries
        ]
        found.append(tables.Table(f"leaderboard, {split}", [*header, *map(tables.label, metrics)], rows))
    return found


def _told(board: Leaderboard, column: str) -> bool:
    return {"upstream": bool(board.upstreams), "head": bool(board.heads), "track": board.has_tracks}[column]


def _words(entry: Entry, column: str) -> str:
    words = {"upstream": entry.upstream, "head": entry.head, "track": entry.track.name}
    return words[column] or tables.NONE


def _ranking_metric(entries: Sequence[Entry]) -> str | None:
    counts = {name: sum(entry.score(name) is not None for entry in entries) for name in RANKED_BY}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def _ranked(entries: Sequence[Entry], metric: str | None) -> list[Entry]:
    """Best first, equals share a rank, those without the metric last."""
    if metric is None:
        return list(entries)
    means = {index: score.mean for index, entry in enumerate(entries) if (score := entry.score(metric)) is not None}
    ordered = sorted(range(len(entries)), key=lambda index: -means.get(index, -math.inf))
    ranks = {index: 1 + sum(other > mean for other in means.values()) for index, mean in means.items()}
    return [replace(entries[index], rank=ranks.get(index)) for index in ordered]
