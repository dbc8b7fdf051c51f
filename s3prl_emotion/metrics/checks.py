"""Validate the inputs of the metrics of classes: distributions, class indices, groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s3prl_emotion.errors import LabelError

NO_CLASS = -1  # index of an utterance without a class, e.g. without consensus; all negative indices mean the same
SUM_TOLERANCE = 1e-3  # largest distance of a row's sum from 1; label tables round grader shares
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def checked_rows(rows: ArrayLike, what: str, classes: int | None = None) -> Floats:
    """Validate distributions over classes and return them unchanged.

    Args:
        rows: ``[N, K]``, N >= 1
        what: name of the rows in messages, e.g. ``probabilities``
        classes: K, where it is known

    Returns:
        ``[N, K]`` in float64

    Raises:
        LabelError: another shape, a value that is negative or not finite, or a row that does not sum to 1
    """
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:  # rows of different lengths, or words
        raise LabelError(f"{what}: not a table of numbers ({error}); give one row for each utterance") from error
    if values.ndim != 2 or 0 in values.shape or classes not in (None, values.shape[1]):
        width = "K" if classes is None else classes
        raise LabelError(
            f"{what}: shape {list(values.shape)}, expected [N, {width}] with N >= 1, one column for each class"
        )
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        value = values[row, column]
        raise LabelError(f"{what}: class {column} of utterance {row} is {value}; give finite values of at least 0")
    off = np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE
    if off.any():
        row = int(np.flatnonzero(off)[0])
        total = values[row].sum()
        raise LabelError(f"{what}: the row of utterance {row} sums to {total:.6g}, not to 1; give distributions")
    return values


def checked_truth(truth: Sequence[int] | NDArray[Any], shape: tuple[int, ...], none: bool = False) -> Indices:
    """Validate class indices.

    Args:
        truth: ``[N]``
        shape: shape of the probabilities, ``(N, K)``
        none: allow negative values, which stand for utterances without a class

    Returns:
        ``[N]`` in int64, negative values as :data:`NO_CLASS`

    Raises:
        LabelError: another length, or a value that is no class index
    """
    values, (utterances, classes) = np.asarray(truth), shape
    if values.shape != (utterances,):
        raise LabelError(
            f"true classes: shape {list(values.shape)} for {utterances} utterances; give one index for each"
        )
    if values.dtype.kind not in "iu":
        raise LabelError(f"true classes: {values.dtype.name} values; give class indices (whole numbers)")
    values = values.astype(np.int64)
    wrong = (values >= classes) | ((values < 0) & (not none))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        allowed = f"0 to {classes - 1}{', or negative where there is none' if none else ''}"
        raise LabelError(f"true class of utterance {row} is {values[row]}; expected {allowed}")
    return np.maximum(values, NO_CLASS)


def check_classes(classes: Sequence[str]) -> None:
    """Raise an error if a class is named twice, since scores are stored by name.

    Raises:
        LabelError: a class is named twice
    """
    twice = sorted({name for name in classes if list(classes).count(name) > 1}, key=str)
    if twice:
        raise LabelError(f"classes: {twice[0]!r} is named twice; name each once")


def check_groups(utterances: int, **groups: Sequence[str | None] | None) -> None:
    """Raise an error unless there is one speaker, or gender, for each utterance.

    Raises:
        LabelError: another length
    """
    for name, values in groups.items():
        if values is not None and len(values) != utterances:
            raise LabelError(
                f"{name}: {len(values)} for {utterances} utterances; give one for each, None where it is unknown"
            )
