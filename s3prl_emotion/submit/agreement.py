"""Folds of one submission must be of one system: the same recipe but for the fold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.submit.sources import FoldRun

ABOUT = ("head", "seed", "upstream", "stored_features", "classes", "config")
FOLD_KEY = "config.downstream_expert.datarc.test_fold"
EXACT = (None, "float32")  # features from a store in float32 are those without one


def check_agreement(runs: Mapping[str, FoldRun]) -> None:
    """Refuse folds that were not made alike.

    Places may name the fold itself, as a step of a benchmark does that is prepared for each fold.

    Args:
        runs: by fold, at least one

    Raises:
        UsageError: names the key and both values
    """
    first, *others = runs
    expected = dict(_described(first, runs[first]))
    for fold in others:
        found = dict(_described(fold, runs[fold]))
        for key in [*expected, *(key for key in found if key not in expected)]:
            ours, theirs = found.get(key), expected.get(key)
            if ours != theirs:
                raise UsageError(
                    f"{runs[fold].expdir}: {key} is {ours!r} in {fold}, {theirs!r} in {first}; all folds of a "
                    "submission must be made with the same recipe, upstream and seed"
                )


def _described(fold: str, run: FoldRun) -> Iterator[tuple[str, Any]]:
    for name in ABOUT:
        value = run.metrics.get(name)
        if name == "stored_features" and value in EXACT:
            value = None
        for key, item in _leaves(name, value):
            if key != FOLD_KEY:
                yield key, item if key.startswith("upstream") else _without_fold(item, fold, run)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values by dotted key; a list is one value."""
    if isinstance(value, dict) and value:
        for name in sorted(value):
            yield from _leaves(f"{key}.{name}", value[name])
    else:
        yield key, value


def _without_fold(value: Any, fold: str, run: FoldRun) -> Any:
    if not isinstance(value, str):
        return value
    if value == run.data.get("labels"):  # EMO-SUPERB has a label table for each fold
        value = re.sub(rf"(?<!\d){re.escape(fold.removeprefix('fold'))}(?=\.csv)", "{fold}", value)
    return re.sub(rf"(?<![^\W_]){re.escape(fold)}(?![^\W_])", "{fold}", value)
