"""Check that the folds of a submission come from one system: the same recipe except for the fold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.submit.sources import FoldRun

ABOUT = ("head", "seed", "upstream", "stored_features", "classes", "config")
FOLD_KEY = "config.downstream_expert.datarc.test_fold"
EXACT = (None, "float32")  # a store in float32 gives the same features as no store


def check_agreement(runs: Mapping[str, FoldRun]) -> None:
    """Raise an error if two folds differ in recipe, upstream or seed.

    Paths may hold the name of the fold, as those of a benchmark's step that is prepared for each fold do.

    Args:
        runs: runs by fold, at least one

    Raises:
        UsageError: two folds differ; the message has the key and both values
    """
    first, *others = runs
    expected = dict(_described(first, runs[first]))
    for fold in others:
        described = dict(_described(fold, runs[fold]))
        for key in [*expected, *(key for key in described if key not in expected)]:
            value, other = described.get(key), expected.get(key)
            if value != other:
                raise UsageError(
                    f"{runs[fold].expdir}: {key} is {value!r} in {fold}, {other!r} in {first}; all folds of a "
                    "submission must be made with the same recipe, upstream and seed"
                )


def _described(fold: str, run: FoldRun) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of what must be equal in all folds."""
    for name in ABOUT:
        value = run.metrics.get(name)
        if name == "stored_features" and value in EXACT:
            value = None
        for key, item in _leaves(name, value):
            if key != FOLD_KEY:
                yield key, item if key.startswith("upstream") else _without_fold(item, fold, run)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a list is one value."""
    if isinstance(value, dict) and value:
        for name in sorted(value):
            yield from _leaves(f"{key}.{name}", value[name])
    else:
        yield key, value


def _without_fold(value: Any, fold: str, run: FoldRun) -> Any:
    """Return a text with the fold's name replaced, and any other value as it is."""
    if not isinstance(value, str):
        return value
    if value == run.data.get("labels"):  # EMO-SUPERB has a label table for each fold
        value = re.sub(rf"(?<!\d){re.escape(fold.removeprefix('fold'))}(?=\.csv)", "{fold}", value)
    return re.sub(rf"(?<![^\W_]){re.escape(fold)}(?![^\W_])", "{fold}", value)
