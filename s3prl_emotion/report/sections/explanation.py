"""How to read the report: what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator

from s3prl_emotion.report.computing.scores import Analysis
from s3prl_emotion.report.reading.without_dev import checkpoint_words
from s3prl_emotion.report.sections.base import Section


class HowToRead(Section):
    """What the numbers of the report mean, and where the published ones are from."""

    title = "How to read this"
    template = "explanation.html.jinja"
    anchor = "reading"
    link = title
    appendix = True
    always = True


def statements(analysis: Analysis) -> Iterator[str]:
    """Yield sentences that say what the numbers mean."""
    folds = {run.key for run in analysis.study.runs}
    checkpoint = checkpoint_words(analysis.study.runs)
    yield (
        f"A score is the mean over runs (folds and seeds), each with its {checkpoint}; ± is the standard "
        "deviation over runs (n − 1)."
        if len(folds) > 1
        else f"A score is that of one run with its {checkpoint}."
    )
    yield (
        "Brackets hold a 95 % interval of the score over the test predictions of all folds together (“pooled”; mean "
        f"over seeds): a bootstrap that draws whole speakers ({analysis.resamples:,} times), widened for small numbers "
        "of speakers. It says how the score would vary with other speakers, not with other training runs."
    )
    if analysis.comparisons:
        yield (
            f"Differences are to the baseline, “{analysis.study.baseline}”, on the same utterances{_apart(analysis)}; "
            "p-values are of a "
            "paired, two-sided permutation test that swaps whole speakers, corrected by Holm's method over the "
            f"{analysis.comparisons} comparisons of this report; * marks those below 0.05."
        )
    if any(name.startswith("CCC") for part in analysis.parts for name in part.metrics):
        yield "CCC uses population moments. MSE is on the corpus's scale."
    if any("UAR" in part.metrics for part in analysis.parts):
        yield "UA (UAR) is the mean recall over the classes, WA the share of correct utterances."


def _apart(analysis: Analysis) -> str:
    """Return what the differences of speaker-dependent systems are to."""
    return " (of speaker-dependent systems to the speaker-dependent one)" if analysis.study.speaker_dependent else ""
