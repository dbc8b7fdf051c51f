"""Metrics of dimensional emotion, each computed once over a whole split.

CCC (population moments), Pearson's correlation and the mean squared error are audmetric's. A value that is not defined
is ``None``: correlations of fewer than two utterances; Pearson's of a constant; CCC where truth and prediction are the
same constant. CCC with one constant, or two that differ, is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError

BIN_WIDTH = 1.0  # on the corpus's scale: one Likert score
Vector = NDArray[np.float64]


def dimensional_metrics(
    truth: NDArray[np.floating[Any]],
    prediction: NDArray[np.floating[Any]],
    names: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    bin_width: float = BIN_WIDTH,
) -> dict[str, Any]:
    """All metrics of a split, Mitra et al. 2024, eq. 5, Table 2, Fig. 4.

    Args:
        truth: ``[U, D]``, U >= 1, on the corpus's scale
        prediction: ``[U, D]``, same scale; where it is not finite, what depends on it is ``None``
        names: of the dimensions, ``[D]``, e.g. ``EmoAct``
        speakers: of each utterance, where known
        genders: of each utterance, where known
        bin_width: of the label bins, see :func:`error_per_bin`

    Returns:
        plain numbers, lists and dicts, ready for JSON: ``utterances``; ``CCC``, ``Pearson``, ``MSE`` by dimension, and
        ``mean_CCC``, ``mean_Pearson``, ``mean_MSE`` over the dimensions where they are defined; ``MSE_per_bin`` by
        dimension; ``per_speaker``, ``per_gender`` (``utterances``, ``CCC`` by dimension, ``mean_CCC``), where known

    Raises:
        LabelError: shapes that do not fit, no utterance, or a truth that is not finite
    """
    true, guess = _checked(truth, prediction, names, speakers, genders)
    result: dict[str, Any] = {"utterances": len(true)}
    for name, measure in (("CCC", concordance), ("Pearson", pearson), ("MSE", squared_error)):
        result |= _by_dimension(name, measure, true, guess, names)
    result["MSE_per_bin"] = {
        name: error_per_bin(true[:, column], guess[:, column], bin_width) for column, name in enumerate(names)
    }
    for key, groups in (("per_speaker", speakers), ("per_gender", genders)):
        if groups is not None and any(groups):
            result[key] = _by_group(true, guess, names, groups)
    return result


def concordance(truth: Vector, prediction: Vector) -> float | None:
    """CCC of ``[U]`` with ``[U]``, Mitra et al. 2024, eq. 5; population moments."""
    import audmetric  # deferred: it brings pandas and scipy along, which take a second to import

    if len(truth) > 1 and (_constant(truth) or _constant(prediction)):  # else rounding of the means decides
        return None if _constant(truth) and _constant(prediction) and truth[0] == prediction[0] else 0.0
    return _plain(audmetric.concordance_cc(truth, prediction))


def pearson(truth: Vector, prediction: Vector) -> float | None:
    """Pearson's correlation of ``[U]`` with ``[U]``."""
    import audmetric

    if len(truth) < 2 or _constant(truth) or _constant(prediction):
        return None
    with np.errstate(all="ignore"):  # a spread that underflows
        return _plain(audmetric.pearson_cc(truth, prediction))


def squared_error(truth: Vector, prediction: Vector) -> float | None:
    """Mean squared error of ``[U]`` against ``[U]``."""
    import audmetric

    return _plain(audmetric.mean_squared_error(truth, prediction))


def error_per_bin(truth: Vector, prediction: Vector, width: float = BIN_WIDTH) -> list[dict[str, Any]]:
    """MSE of the utterances whose true value lies in each bin, Mitra et al. 2024, Fig. 4.

    The paper bins by 7-point Likert score and leaves the edges open: here bins are centred on the multiples of
    ``width``, so that with width 1 the bin of score 3 holds 2.5 <= truth < 3.5.

    Args:
        truth: ``[U]``, finite
        prediction: ``[U]``
        width: > 0, on the corpus's scale

    Returns:
        the bins that hold utterances, lowest first, each with ``centre``, ``utterances`` and ``MSE``
    """
    places = np.floor(truth / width + 0.5)
    result = []
    for place in np.unique(places):
        inside = places == place
        mse = squared_error(truth[inside], prediction[inside])
        result.append({"centre": float(place * width), "utterances": int(inside.sum()), "MSE": mse})
    return result


def _by_dimension(
    key: str,
    measure: Callable[[Vector, Vector], float | None],
    truth: NDArray[np.float64],
    prediction: NDArray[np.float64],
    names: Sequence[str],
) -> dict[str, Any]:
    """``key`` by dimension and its mean over the dimensions where it is defined."""
    values = {name: measure(truth[:, column], prediction[:, column]) for column, name in enumerate(names)}
    defined = [value for value in values.values() if value is not None]
    return {key: values, f"mean_{key}": float(np.mean(defined)) if defined else None}


def _by_group(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], names: Sequence[str], groups: Sequence[str | None]
) -> dict[str, Any]:
    result = {}
    for group in sorted({name for name in groups if name}):
        inside = np.array([name == group for name in groups])
        result[group] = {
            "utterances": int(inside.sum()),
            **_by_dimension("CCC", concordance, truth[inside], prediction[inside], names),
        }
    return result


def _checked(
    truth: NDArray[np.floating[Any]],
    prediction: NDArray[np.floating[Any]],
    names: Sequence[str],
    *groups: Sequence[str | None] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Truth and prediction in float64, checked."""
    true, guess = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if true.ndim != 2 or true.shape != guess.shape or true.shape[1] != len(names) or len(true) == 0:
        raise LabelError(
            f"dimensional metrics: truth {list(true.shape)} and prediction {list(guess.shape)} must both be"
            f" [U, {len(names)}] with U >= 1, one column for each of {', '.join(names)}"
        )
    for group in groups:
        if group is not None and len(group) != len(true):
            raise LabelError(f"dimensional metrics: {len(group)} speakers or genders for {len(true)} utterances")
    if not np.isfinite(true).all():
        row, column = np.argwhere(~np.isfinite(true))[0].tolist()
        raise LabelError(
            f"dimensional metrics: the true {names[column]} of utterance {row} is {true[row, column]}; leave utterances"
            " without labels out"
        )
    return true, guess


def _constant(values: Vector) -> bool:
    return bool((values == values[0]).all())


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
