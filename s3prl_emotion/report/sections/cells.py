"""Cells and column titles of the tables that show details of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3prl_emotion.metrics.groups import PA_UAR_THRESHOLDS
from s3prl_emotion.metrics.registry import label
from s3prl_emotion.report.computing.details import SplitDetails
from s3prl_emotion.report.words import NONE, spread

Systems = Mapping[str, SplitDetails]
PASSED = tuple(f"paUAR-{limit}" for limit in sorted(PA_UAR_THRESHOLDS))


def cell(details: SplitDetails, name: str) -> str:
    """Return ``mean ± std`` of a value, and over how many runs where some lack it."""
    score = details.scores.get(name)
    if score is None:
        return NONE
    return spread(score) + (f" ({score.runs} of {details.runs} runs)" if score.runs < details.runs else "")


def cells(details: SplitDetails, names: Sequence[str]) -> list[str]:
    """Return the cells of several values."""
    return [cell(details, name) for name in names]


def any_has(systems: Systems, name: str) -> bool:
    """Return whether any system has a value."""
    return any(name in details.scores for details in systems.values())


def column_title(name: str) -> str:
    """Return a column's title: ``UAR, %``, ``paUAR-50, %``, ``worst speaker's mean CCC``."""
    kind, _, rest = name.partition(".")
    if rest.endswith(" speaker"):
        return f"{rest}'s {column_title(kind)}"
    return label(kind, short=True)


def genders_of(systems: Systems) -> list[str]:
    """Return the genders that occur, in the order in which they occur."""
    return list(dict.fromkeys(gender for details in systems.values() for gender in details.genders))
