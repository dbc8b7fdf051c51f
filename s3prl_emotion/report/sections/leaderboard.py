"""The leaderboard: all systems on all upstreams, ranked within each test split."""

from __future__ import annotations

from collections.abc import Iterator

from s3prl_emotion.metrics.registry import label
from s3prl_emotion.report.computing.leaderboard import Entry, Leaderboard
from s3prl_emotion.report.sections.base import Place, Section
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.words import NONE, count, score_words

COLUMN_TITLES = {"track": "SUPERB track"}


class LeaderboardSection(Section):
    """The leaderboard, which sorts and filters on the page."""

    title = "Leaderboard"
    template = "leaderboard.html.jinja"
    anchor = "leaderboard"
    link = title
    always = True

    @property
    def ranked_by(self) -> str:
        """The metrics that rank the splits, for readers."""
        names = (label(metric).removesuffix(", %") for metric in self.results.board.ranked_by.values())
        return " and ".join(dict.fromkeys(names)) or "nothing"

    def lead(self, place: Place) -> str:
        """Return which metrics rank the systems."""
        return f"Ranked by {self.ranked_by} within each test split." if self.results.board.entries else ""

    def tables(self, place: Place) -> Iterator[Table]:
        """Yield a table for each split."""
        board = self.results.board
        shown = [column for column in ("upstream", "head", "track") if _has(board, column)]
        for name in board.boards:
            entries = [entry for entry in board.entries if entry.board == name]
            metrics = [metric for metric in board.metrics if any(entry.score(metric) for entry in entries)]
            header = ["rank", "system", *(COLUMN_TITLES.get(column, column) for column in shown), "runs", "parameters"]
            rows = [
                [
                    NONE if entry.rank is None else str(entry.rank),
                    entry.system,
                    *(_cell(entry, column) for column in shown),
                    str(entry.row.runs),
                    count(entry.row.num_parameters),
                    *(score_words(entry.row, metric) for metric in metrics),
                ]
                for entry in entries
            ]
            yield Table(f"leaderboard, {name}", [*header, *map(label, metrics)], rows)


def _has(board: Leaderboard, column: str) -> bool:
    return {"upstream": bool(board.upstreams), "head": bool(board.heads), "track": board.has_tracks}[column]


def _cell(entry: Entry, column: str) -> str:
    words = {"upstream": entry.upstream, "head": entry.head, "track": entry.track.name}
    return words[column] or NONE
