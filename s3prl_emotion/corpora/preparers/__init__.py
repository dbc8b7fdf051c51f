"""The published corpora that ``s3prl-emotion prepare`` reads: one module each, found by its file name.

The docstring of each module has the corpus's licence, source, official split, expected counts, known faults and
citation. Its :data:`PREPARER` declares how the corpus is read.
"""

from __future__ import annotations

import importlib
import pkgutil

from s3prl_emotion.corpora.prepare.preparer import Preparer
from s3prl_emotion.errors import UsageError, nearest

GENERIC = "generic"  # any corpus; listed last


def corpus_names() -> tuple[str, ...]:
    """Return the names of all corpora: the modules of this package."""
    names = (module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(names, key=lambda name: (name == GENERIC, name)))


def preparer(name: str) -> Preparer:
    """Return the preparer of a corpus.

    Raises:
        UsageError: no such corpus
    """
    known = corpus_names()
    if name not in known:
        raise UsageError(f"no corpus {name!r}{nearest(name, known)}; s3prl-emotion prepare --list shows them")
    declared = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").PREPARER
    if not isinstance(declared, Preparer):
        raise TypeError(f"{name}: PREPARER is not a Preparer")
    return declared


def all_preparers() -> list[Preparer]:
    """Return the preparers of all corpora."""
    return [preparer(name) for name in corpus_names()]
