"""Score the five folds, and write the submission, the report and ``superb.json``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.writing import write_bytes, write_json
from s3prl_emotion.report import Analysis, Score, analyse, load_study, write_report
from s3prl_emotion.report.reading.searches import Search, rate_words
from s3prl_emotion.submit.sources import Wanted, find_runs
from s3prl_emotion.submit.superb import SuperbSubmission, superb_submission
from s3prl_emotion.superb.leaderboard import METRIC, Comparison, compare, published
from s3prl_emotion.superb.protocol import SYSTEM

ARCHIVE, PAGE, SCORES = "predict.zip", "report.html", "superb.json"
TRACKS = {
    "constrained": "SUPERB's own downstream, with a frozen upstream; its leaderboard compares such scores",
    "less constrained": "the upstream is frozen, but the training is not SUPERB's; say so beside the score",
    "unconstrained": "the upstream was trained too: not comparable with frozen upstreams",
}


@dataclass(frozen=True)
class Outcome:
    """What the five folds came to.

    Attributes:
        upstream: name in tables
        search: the learning rates that were tried, and the best
        submission: the folds with their accuracies, and SUPERB's track
        score: accuracy: mean and standard deviation over the folds (n - 1), 95 % interval over speakers
        speakers: number of speakers that the interval resamples
        leaderboard: SUPERB's published accuracies beside ours
        warnings: the report's
    """

    upstream: str
    search: Search
    submission: SuperbSubmission
    score: Score
    speakers: int
    leaderboard: tuple[Comparison, ...]
    warnings: tuple[str, ...]


def write_outcome(folder: Path, meta_data: Path) -> Outcome:
    """Read the finished runs of a directory, and write ``predict.zip``, the report and ``superb.json`` into it.

    Raises:
        UsageError: a run is missing or damaged, or a file cannot be written
        LabelError: predictions and lists differ
    """
    submission = superb_submission(find_runs([folder], {}, Wanted()), meta_data)
    analysis = analyse(load_study([folder]))
    outcome = _outcome(analysis, submission)
    write_bytes(folder / ARCHIVE, submission.archive(), UsageError)
    write_report(analysis, folder)
    write_json(folder / SCORES, as_json(outcome), UsageError)
    return outcome


def lines(outcome: Outcome, folder: Path) -> Iterator[str]:
    """Yield the lines that the command prints."""
    search, score = outcome.search, outcome.score
    tried = ", ".join(f"{rate_words(rate)}: {_percent(value)}" for rate, value in search.tried.items())
    yield f"learning rate: {rate_words(search.chosen)}, the best of {len(search.tried)} on dev of fold1 ({tried})"
    for fold in outcome.submission.folds:
        yield f"{fold.fold}: {fold.utterances} utterances, accuracy {_percent(fold.accuracy)}"
    yield (
        f"{outcome.upstream}: accuracy {_percent(score.mean)}, mean of the five folds; standard deviation over folds "
        f"{_percent(score.std)}{_interval(outcome)}"
    )
    yield from _board(outcome)
    track = outcome.submission.track
    yield f"SUPERB track: {track.name}: {TRACKS.get(track.name, 'not known')} ({track.reason})"
    for note in (*outcome.submission.notes, *outcome.warnings):
        yield f"note: {note}"
    yield f"{folder / ARCHIVE}: the submission"
    yield str(folder / PAGE)
    yield str(folder / SCORES)


def _board(outcome: Outcome) -> Iterator[str]:
    """Yield the leaderboard with our score in its place."""
    other = "; of IEMOCAP, so not comparable with the score of these lists" if outcome.submission.notes else ""
    yield f"published: {published()[0].source}{other}"
    ours = f"  > {outcome.upstream}: {_percent(outcome.score.mean)}"
    higher = [item for item in outcome.leaderboard if item.published > outcome.score.mean]
    yield from map(_row, higher)
    yield ours
    yield from map(_row, outcome.leaderboard[len(higher) :])


def _row(item: Comparison) -> str:
    side = "higher" if item.difference >= 0 else "lower"
    place = f"; it is {item.place}" if item.place else ""
    note = f" ({item.note})" if item.note else ""
    return (
        f"    {item.upstream}: {_percent(item.published)}; ours is {abs(100 * item.difference):.2f} {side}{place}{note}"
    )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as ``superb.json`` holds it: accuracies from 0 to 1, ``None`` where there is no value."""
    score = outcome.score
    return {
        "upstream": outcome.upstream,
        "learning_rate": outcome.search.chosen,
        "search": {rate_words(rate): value for rate, value in outcome.search.tried.items()},
        "folds": {
            fold.fold: {"utterances": fold.utterances, "accuracy": fold.accuracy} for fold in outcome.submission.folds
        },
        "mean": score.mean,
        "std": _finite(score.std),
        "interval": [_finite(score.low), _finite(score.high)],
        "speakers": outcome.speakers,
        "track": asdict(outcome.submission.track),
        "published": {"source": published()[0].source, "accuracies": [asdict(item) for item in outcome.leaderboard]},
        "notes": [*outcome.submission.notes, *outcome.warnings],
    }


def _outcome(analysis: Analysis, submission: SuperbSubmission) -> Outcome:
    study = analysis.study
    (part,) = analysis.parts
    score = next(row for row in part.rows if row.system == SYSTEM).scores[METRIC]
    warnings = (*study.warnings, *part.warnings)
    (search,) = study.searches
    return Outcome(part.upstream, search, submission, score, part.speakers, tuple(compare(score)), warnings)


def _percent(value: float | None) -> str:
    return "failed" if value is None else f"{100 * value:.2f} %"


def _interval(outcome: Outcome) -> str:
    score = outcome.score
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return ""
    bounds = f"[{100 * score.low:.2f}, {100 * score.high:.2f}] %"
    return f"; 95 % interval {bounds} (all folds together, {outcome.speakers} speakers resampled)"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
