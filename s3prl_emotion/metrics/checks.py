"""Checks of what metrics of classes are computed from, once, where it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s3prl_emotion.errors import LabelError

NO_CLASS = -1  # index of an utterance without a class, e.g. without consensus; any negative index is read as this
SUM_TOLERANCE = 1e-3  # how far a row of probabilities or grader shares may sum from 1, as in label tables
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def checked_rows(rows: ArrayLike, what: str, classes: int | None = None) -> Floats:
    """Distributions over classes, checked but not changed.

    Args:
        rows: ``[N, K]``, N >= 1
        what: of the rows, for the message, e.g. ``probabilities``
        classes: K, where known

    Returns:
        ``[N, K]`` in float64

    Raises:
        LabelError: another shape, a value that is negative or not finite, or a row that does not sum to 1
    """
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:  # rows of different lengths, or words
        raise LabelError(f"{what}: no table of numbers ({error}); give one row an utterance") from error
    if values.ndim != 2 or 0 in values.shape or classes not in (None, values.shape[1]):
        width = "K" if classes is None else classes
        raise LabelError(f"{what}: shape {list(values.shape)}, expected [N, {width}], a column for each class, N >= 1")
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


def checked_truth(truth: Sequence[int] | NDArray[Any], shape: tuple[int, ...], none: bool = False) -> Places:
    """Class indices, checked.

    Args:
        truth: ``[N]``
        shape: of the probabilities, N and K
        none: whether negative values are allowed, for utterances without a class

    Returns:
        ``[N]``, negative values as :data:`NO_CLASS`

    Raises:
        LabelError: another length, or a value that is no class index
    """
    values, (utterances, classes) = np.asarray(truth), shape
    if values.shape != (utterances,):
        raise LabelError(
            f"true classes: shape {list(values.shape)} for {utterances} utterances; give one index for each"
        )
    if values.dtype.kind not in "iu":
        raise LabelError(f"true classes: {values.dtype.name} values; give class indices, which are whole numbers")
    values = values.astype(np.int64)
    wrong = (values >= classes) | ((values < 0) & (not none))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        allowed = f"0 to {classes - 1}{', or negative where there is none' if none else ''}"
        raise LabelError(f"true class of utterance {row} is {values[row]}; expected {allowed}")
    return np.maximum(values, NO_CLASS)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse classes that are named twice: scores by class would be lost.

    Raises:
        LabelError: a class is named twice
    """
    twice = sorted({name for name in classes if list(classes).count(name) > 1}, key=str)
    if twice:
        raise LabelError(f"classes: {twice[0]!r} is named twice; name each once")


def check_groups(utterances: int, **groups: Sequence[str | None] | None) -> None:
    """Refuse speakers or genders that do not belong to the utterances one by one.

    Raises:
        LabelError: another length
    """
    for name, values in groups.items():
        if values is not None and len(values) != utterances:
            raise LabelError(f"{name}: {len(values)} for {utterances} utterances; give one for each, None if unknown")
