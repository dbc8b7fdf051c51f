"""What frames a report's parts: the leaderboard ahead, published results and what was run behind."""

from __future__ import annotations

from typing import Any

from s3prl_emotion.report import tables
from s3prl_emotion.report.leaderboard import leaderboard, leaderboard_tables
from s3prl_emotion.report.literature import for_orientation, groups
from s3prl_emotion.report.made import Made, duration, what_was_run
from s3prl_emotion.report.scores import Analysis

SHORT = 12  # letters of a hash that tell it from others
MADE = (
    "upstream", "head", "runs", "folds", "seeds", "time, all", "time, median run", "upstream's options", "features",
    "recipe's hash", "revision", "host",
)  # fmt: skip
CORPORA = {
    "iemocap": "IEMOCAP", "meta_data": "IEMOCAP", "podcast": "MSP-Podcast", "improv": "MSP-IMPROV", "emodb": "EMO-DB",
    "emo-db": "EMO-DB",
}  # fmt: skip


def overview(analysis: Analysis) -> dict[str, Any]:
    """What the templates of leaderboard, published results and runs are given."""
    study = analysis.study
    made = what_was_run(study)
    board = leaderboard(analysis, made)
    heads = sorted({head for part in made.values() for head in part.heads})
    results, corpora = for_orientation(heads), corpora_of(made)
    return {
        "board": board,
        "board_tables": leaderboard_tables(board),
        "ranked_by": " and ".join(dict.fromkeys(map(_ranking, board.ranked_by.values()))) or "nothing",
        "ranked": {
            (entry.upstream, entry.split, entry.system): {
                "head": entry.head,
                "track": entry.track.name,
                "rank": entry.rank,
            }
            for entry in board.entries
        },
        "made": made,
        "made_header": MADE,
        "made_row": made_row,
        "made_table": tables.Table(
            "what was run", ["system", *MADE], [[part.system, *made_row(part)] for part in made.values()]
        ),
        "run_versions": _versions(made),
        "published_for_orientation": groups(results, corpora),
        "orientation": {"corpora": corpora, "superb": any(result.paper.head is None for result in results)},
    }


def corpora_of(made: dict[tuple[str, str], Made]) -> list[str]:
    """Corpora that the recipes name, by the names of their folders and label tables; none where that does not tell."""
    found: dict[str, None] = {}
    for part in made.values():
        data = (part.recipe.get("downstream_expert") or {}).get("datarc") or {}
        for entry in [data, *(data.get("corpora") or {}).values()]:
            words = f"{entry.get('root')} {entry.get('labels')}".lower()
            if entry.get("labels") == "demo":
                found["the built-in demo corpus"] = None
            found |= dict.fromkeys(name for word, name in CORPORA.items() if word in words)
    return list(found)


def made_row(part: Made) -> list[str]:
    """Cells of :data:`MADE`."""
    cells = [
        part.upstream, ", ".join(part.heads), str(part.runs), ", ".join(part.folds), ", ".join(part.seeds),
        duration(part.total), duration(part.median), "; ".join(part.options),
        f"store, {part.stored}" if part.stored else "computed", _hashes(part.hashes), _hashes(part.revisions),
        ", ".join(part.hosts),
    ]  # fmt: skip
    return [cell or tables.NONE for cell in cells]


def _ranking(metric: str) -> str:
    return tables.label(metric).removesuffix(", %")


def _hashes(values: tuple[str, ...], most: int = 3) -> str:
    """Beginnings of the first few; a revision's ``+`` (files differ from it) is kept."""
    words = [value[:SHORT] + ("+" if value.endswith("+") else "") for value in values[:most]]
    return ", ".join(words) + (f" and {len(values) - most} more" if len(values) > most else "")


def _versions(made: dict[tuple[str, str], Made]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for part in made.values() for name in part.versions)
    return {name: sorted({value for part in made.values() for value in part.versions.get(name, ())}) for name in names}
