"""Find classes that are one class in two spellings, misspelt, or no class at all, as ``#N/A``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.class_names import NO_CLASS
from s3prl_emotion.corpora.table_values import no_values, spelt_apart
from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

logger = logging.getLogger(__name__)

RARER = 20  # a misspelt class has at most one utterance for so many of its neighbour
ALIKE = 0.66  # difflib's ratio: one other letter in a name of three, or two letters swapped


def misspelt(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the classes that look like misspellings of another that is far more frequent.

    Args:
        counts: utterances of each class

    Returns:
        the frequent class, by the rare one

    Example:
        >>> misspelt({"angry": 300, "angy": 1, "sad": 200})
        {'angy': 'angry'}
    """
    found = {}
    for name, count in counts.items():
        frequent = [other for other, number in counts.items() if number >= RARER * count and other not in NO_CLASS]
        frequent = [other for other in frequent if other.casefold() != name.casefold()]  # refused elsewhere
        close = difflib.get_close_matches(name, frequent, n=1, cutoff=ALIKE) if name not in NO_CLASS else []
        if close:
            found[name] = close[0]
    return found


def refuse_classes_apart(present: Iterable[str], chosen: Iterable[str], path: Path) -> None:
    """Raise if a class that is learnt is there in two spellings, which would be two classes, or one and rows left out.

    Args:
        present: classes of the table, after merging
        chosen: the classes to learn

    Raises:
        LabelError: names both spellings
    """
    wanted = set(chosen)
    for group in spelt_apart({*present, *wanted} - NO_CLASS):
        if wanted & set(group):
            both = " and ".join(map(shown, group))
            raise LabelError(
                f"{path}: EmoClass: {both} differ in letter case alone; write them alike, or join them with "
                f"datarc.merge: {{{group[0]}: {group[1]}}}"
            )


def warn_of_classes(classes: pd.Series, path: Path) -> None:
    """Warn of classes that look misspelt, or like a missing value.

    Args:
        classes: ``EmoClass`` of all rows, after merging
        path: the table's path, for messages
    """
    counts = {str(name): int(count) for name, count in classes.value_counts().items()}
    for rare, frequent in misspelt(counts).items():
        logger.warning(
            "%s: EmoClass %s (%d rows) is spelt nearly as %s (%d rows); if it is a misspelling, correct it, or set "
            "datarc.merge: {%s: %s}",
            *(path, shown(rare), counts[rare], shown(frequent), counts[frequent], rare, frequent),
        )
    warn_of_no_values(classes, path)


def warn_of_no_values(column: pd.Series, path: Path) -> None:
    """Warn of values that spreadsheets or programs write where there is none, and which count as names here."""
    for value, count in no_values(column).items():
        logger.warning(
            "%s: %s is %s in %d rows, which looks like a missing value but counts as a name; empty the cells, or "
            "remove the rows",
            *(path, column.name, shown(value), count),
        )
