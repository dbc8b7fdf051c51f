"""Compute all metrics of a split for heads that estimate dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.dimension_scores import squared_error
from s3prl_emotion.metrics.metric import Metric

BIN_WIDTH = 1.0  # one Likert score on the corpus's scale
HEADLINE = next(metric for metric in registry.of_kind("dimensions") if metric.headline)  # of speakers and genders
Vector = NDArray[np.float64]


def dimensional_metrics(
    truth: NDArray[np.floating[Any]],
    prediction: NDArray[np.floating[Any]],
    names: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    bin_width: float = BIN_WIDTH,
) -> dict[str, Any]:
    """Compute all metrics of a split, once over the whole of it; Mitra et al. 2024, eq. 5, Table 2, Fig. 4.

    Args:
        truth: ``[U, D]``, U >= 1, on the corpus's scale
        prediction: ``[U, D]``, on the same scale; metrics of values that are not finite are ``None``
        names: names of the dimensions, ``[D]``, e.g. ``EmoAct``
        speakers: speaker of each utterance, ``[U]``, ``None`` or ``Unknown`` where nobody knows
        genders: gender of each utterance, ``[U]``, ``None`` where unknown
        bin_width: width of the label bins, see :func:`error_per_bin`

    Returns:
        plain numbers, lists and dicts, ready for JSON: ``utterances``; the metrics of dimensions, ``CCC``,
        ``Pearson``, ``MSE``, by dimension, and their means ``mean_CCC``, ``mean_Pearson``, ``mean_MSE`` over the
        dimensions where they are defined; ``MSE_per_bin`` by dimension; with speakers and genders ``per_speaker`` and
        ``per_gender`` (``utterances``, ``CCC`` by dimension, ``mean_CCC``). What is not defined is ``None``.

    Raises:
        LabelError: shapes that do not fit, no utterance, or a true value that is not finite
    """
    true, guess = _checked(truth, prediction, names, speakers, genders)
    result: dict[str, Any] = {"utterances": len(true)}
    for metric in registry.of_kind("dimensions"):
        result |= _by_dimension(metric, true, guess, names)
    result["MSE_per_bin"] = {
        name: error_per_bin(true[:, column], guess[:, column], bin_width) for column, name in enumerate(names)
    }
    known = None if speakers is None else [known_speaker(name) for name in speakers]
    for key, groups in (("per_speaker", known), ("per_gender", genders)):
        if groups is not None and any(groups):
            result[key] = _by_group(true, guess, names, groups)
    return result


def error_per_bin(truth: Vector, prediction: Vector, width: float = BIN_WIDTH) -> list[dict[str, Any]]:
    """Compute the mean squared error in bins of the true value; Mitra et al. 2024, Fig. 4.

    The paper bins by 7-point Likert score without naming the edges. Here bins are centred on the multiples of
    ``width``: with width 1, the bin of score 3 holds 2.5 <= truth < 3.5.

    Args:
        truth: ``[U]``, finite
        prediction: ``[U]``
        width: > 0, on the corpus's scale

    Returns:
        the bins that hold utterances, lowest first, each with ``centre``, ``utterances`` and ``MSE``

    Example:
        >>> error_per_bin(np.array([2.5, 3.0, 4.0]), np.array([2.5, 4.0, 4.0]))
        [{'centre': 3.0, 'utterances': 2, 'MSE': 0.5}, {'centre': 4.0, 'utterances': 1, 'MSE': 0.0}]
    """
    bins = np.floor(truth / width + 0.5)
    result = []
    for bin_ in np.unique(bins):
        inside = bins == bin_
        mse = squared_error(truth[inside], prediction[inside])
        result.append({"centre": float(bin_ * width), "utterances": int(inside.sum()), "MSE": mse})
    return result


def _by_dimension(
    metric: Metric, truth: NDArray[np.float64], prediction: NDArray[np.float64], names: Sequence[str]
) -> dict[str, Any]:
    """Return a metric of each dimension, and its mean over the dimensions where it is defined."""
    if metric.of_split is None:
        return {}
    values = {name: metric.of_split(truth[:, column], prediction[:, column]) for column, name in enumerate(names)}
    defined = [value for value in values.values() if value is not None]
    return {metric.name: values, metric.mean.name: float(np.mean(defined)) if defined else None}


def _by_group(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], names: Sequence[str], groups: Sequence[str | None]
) -> dict[str, Any]:
    result = {}
    for group in sorted({name for name in groups if name}):
        inside = np.array([name == group for name in groups])
        result[group] = {
            "utterances": int(inside.sum()),
            **_by_dimension(HEADLINE, truth[inside], prediction[inside], names),
        }
    return result


def _checked(
    truth: NDArray[np.floating[Any]],
    prediction: NDArray[np.floating[Any]],
    names: Sequence[str],
    *groups: Sequence[str | None] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Validate truth and prediction and return them in float64."""
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
            f"dimensional metrics: the true {names[column]} of utterance {row} is {true[row, column]}; leave out"
            " utterances without labels"
        )
    return true, guess
