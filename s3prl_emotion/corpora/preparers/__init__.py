"""Corpora to label tables: one module a corpus, found by name.

Each module's docstring has the corpus's licence, source, official split, expected counts, known faults and citation,
and :data:`PREPARER` reads it. What they find goes through :mod:`~s3prl_emotion.corpora.preparers.writing`, which
checks it.
"""

from __future__ import annotations

import importlib

from s3prl_emotion.corpora.preparers.base import Preparer
from s3prl_emotion.errors import UsageError, nearest

NAMES = (
    "iemocap", "msp-podcast", "msp-improv", "crema-d", "cmu-mosei", "ravdess", "emodb", "savee", "cafe", "urdu",
    "aesdd", "tess", "shemo", "generic",
)  # fmt: skip


def preparer(name: str) -> Preparer:
    """The preparer of a corpus.

    Raises:
        UsageError: no such corpus
    """
    if name not in NAMES:
        raise UsageError(f"no corpus {name!r}{nearest(name, NAMES)}; s3prl-emotion prepare --list shows them")
    found = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").PREPARER
    if not isinstance(found, Preparer):
        raise TypeError(f"{name}: PREPARER is not a Preparer")
    return found
