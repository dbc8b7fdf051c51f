"""Choose what saliency is for: dimensions, and classes by the share of the graders who chose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from s3prl_emotion.corpora import DIMENSIONS, Needs
from s3prl_emotion.corpora.fingerprint import TARGETS
from s3prl_emotion.errors import UsageError, nearest

ALL = "all"
BY_COLUMN = dict(zip(DIMENSIONS, TARGETS, strict=True))
Words = Sequence[str] | None


def labels_for(words: Words, learnt: Needs | None) -> Needs:
    """Return the labels that utterances must have, so that the rows are those that training uses.

    Args:
        words: of ``--targets``; ``None`` for the three dimensions
        learnt: labels that the head needs; ``None`` without a head

    Raises:
        UsageError: ``all`` beside other targets
    """
    base = learnt or Needs(classes=False)
    if words is None:
        return replace(base, dimensions=True)
    if ALL in words and len(words) > 1:
        raise UsageError(f"--targets {' '.join(words)}: {ALL} is every dimension and class; leave the others out")
    dimensions = any(_name(word) in TARGETS for word in words) or (learnt is None and ALL in words)
    classes = any(_name(word) not in TARGETS for word in words)
    return replace(base, dimensions=base.dimensions or dimensions, shares=base.shares or (learnt is None and classes))


def targets_of(words: Words, classes: Sequence[str], dimensions: bool) -> tuple[str, ...]:
    """Return the targets' names as a saliency file holds them, in the order given.

    Args:
        words: of ``--targets``; ``None`` for the three dimensions
        classes: of the corpus, by name
        dimensions: whether ``all`` holds the three dimensions

    Raises:
        UsageError: no such target, or one that is named twice
    """
    if words is None:
        return tuple(TARGETS)
    if list(words) == [ALL]:
        return (*(TARGETS if dimensions else ()), *classes)
    names = tuple(_name(word) for word in words)
    for word, name in zip(words, names, strict=True):
        if name not in TARGETS and name not in classes:
            there = ", ".join([*DIMENSIONS, *classes])
            hint = nearest(word, [*BY_COLUMN, *TARGETS, *classes])
            raise UsageError(f"--targets {word}: no such target{hint}; there are {there}")
        if names.count(name) > 1:
            raise UsageError(f"--targets {word}: is named twice")
    return names


def _name(word: str) -> str:
    """Return ``valence`` for ``EmoVal``; any other word names itself."""
    return BY_COLUMN.get(word, word)
