"""Write all scores of a report as one long CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from s3prl_emotion.errors import visible
from s3prl_emotion.report.computing.ensembles import Ensemble
from s3prl_emotion.report.computing.scores import Analysis, Part, Row, Score

COLUMNS = (
    "upstream", "split", "system", "metric", "runs", "mean", "std", "min", "max", "pooled", "low", "high", "utterances",
    "speakers", "baseline", "difference", "difference_low", "difference_high", "p_value", "p_holm", "exact",
    "published", "published_source", "mean_less_published", "num_parameters", "relative_parameters",
    "head", "track", "rank", "published_std", "published_min", "published_max",
    "seeds", "seed_std", "seed_min", "seed_max", "ensemble",
)  # fmt: skip


def csv_text(
    analysis: Analysis,
    details: Mapping[tuple[str, str], Mapping[str, Sequence[Score]]],
    ranked: Mapping[tuple[str, str, str], Mapping[str, Any]],
    ensembles: Mapping[tuple[str, str], Sequence[Ensemble]],
) -> str:
    """Return all scores as CSV, one a line, in full precision and as shares.

    Args:
        analysis: the main scores
        details: further scores by upstream and split, then by system
        ranked: head, track and rank by upstream, split and system
        ensembles: by upstream and split; their rows follow those of the split, and alone have a number of members in
            the column ``ensemble``
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in analysis.parts:
        for row in part.rows:
            about = ranked.get((part.upstream, part.split, row.system), {})
            for score in [*row.scores.values(), *details[part.upstream, part.split][row.system]]:
                writer.writerow({**_row(analysis, part, row, score), **about})
        for item in ensembles.get((part.upstream, part.split), ()):
            for score in item.row.scores.values():
                own = {"utterances": item.utterances, "ensemble": item.members}
                writer.writerow({**_row(analysis, part, item.row, score), **own})
    return text.getvalue()


def _row(analysis: Analysis, part: Part, row: Row, score: Score) -> dict[str, Any]:
    gap, theirs = score.difference, score.published
    values: dict[str, Any] = {
        "upstream": part.upstream, "split": part.split, "system": row.system, "metric": score.metric,
        "runs": score.runs, "mean": score.mean, "std": score.std, "min": score.lowest, "max": score.highest,
        "pooled": score.pooled, "low": score.low, "high": score.high, "utterances": part.utterances,
        "speakers": part.speakers, "num_parameters": row.num_parameters, "relative_parameters": row.relative_size,
    }  # fmt: skip
    if score.by_seed is not None:
        found = score.by_seed
        values |= {
            "seeds": found.seeds, "seed_std": found.std, "seed_min": found.low, "seed_max": found.high
        }  # fmt: skip
    if gap is not None:
        values |= {
            "baseline": analysis.study.baseline_of(row.system), "difference": gap.value, "difference_low": gap.low,
            "difference_high": gap.high, "p_value": gap.p_value, "p_holm": gap.p_holm, "exact": gap.exact,
        }  # fmt: skip
    if theirs is not None:
        less = score.mean - theirs.value
        values |= {
            "published": theirs.value, "published_source": theirs.source, "mean_less_published": less,
            "published_std": theirs.std, "published_min": theirs.min, "published_max": theirs.max,
        }  # fmt: skip
    return {name: "" if value is None or value != value else _cell(value) for name, value in values.items()}


def _cell(value: Any) -> Any:
    """Return a cell without control characters of names, which people see in a terminal."""
    return visible(value) if isinstance(value, str) else value
