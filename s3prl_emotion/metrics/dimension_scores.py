"""CCC, Pearson's correlation and the mean squared error of a dimension, over utterances or from sums of them.

Every speaker's sums are a row, ``[6]``, and any set of speakers is a sum of rows, so that resampling needs no
utterances. Sums lose digits where the mean is large against the spread; the value of a whole split is therefore
computed from the utterances themselves. Both use the same equations and population moments (÷ n).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.metric import Array, Metric

MOMENTS = 6  # columns of dimension_sums
NOTHING = 1e-12  # a variance below this share of the second moment is rounding


def dimension_sums(
    truth: NDArray[np.floating[Any]], prediction: NDArray[np.floating[Any]], clusters: NDArray[np.integer], count: int
) -> Array:
    """Sum up each speaker's utterances: n, truth, prediction, truth², prediction², truth x prediction.

    Both are moved by the first true value, which changes none of the metrics and keeps the squares small. Systems with
    the same truth are moved alike, so that their rows can be mixed.

    Args:
        truth: ``[U]``, U >= 1
        prediction: ``[U]``
        clusters: index of each utterance's speaker, ``[U]``
        count: of speakers, G

    Returns:
        ``[G, 6]``

    Raises:
        LabelError: shapes that do not fit, or no utterance
    """
    true, guess = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if true.ndim != 1 or not len(true) or not true.shape == guess.shape == np.shape(clusters):
        raise LabelError(
            f"truth {list(true.shape)}, prediction {list(guess.shape)} and speakers {list(np.shape(clusters))} must be "
            "equally long and hold at least one utterance"
        )
    true, guess = true - true[0], guess - true[0]
    columns = (np.ones_like(true), true, guess, true * true, guess * guess, true * guess)
    return np.stack([np.bincount(clusters, column, count) for column in columns], axis=1)


def concordance(truth: Array, prediction: Array) -> float | None:
    """Return the concordance correlation coefficient of a split; Mitra et al. 2024, eq. 5.

    ``CCC = 2 σxy / (σx² + σy² + (μx - μy)²)`` with population moments (÷ n).

    Args:
        truth: ``[U]``
        prediction: ``[U]``

    Returns:
        in [-1, 1]; 0 where one is constant, or both at different values; ``None`` where both are the same constant, for
        fewer than two utterances, and where a value is not finite

    Example:
        >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]))  # σxy 1, σ² 2/3 and 2, means 2 and 3
        0.5454545454545454
    """
    if len(truth) < 2:
        return None
    if _constant(truth) or _constant(prediction):  # otherwise the rounding of the means would decide
        return None if _constant(truth) and _constant(prediction) and truth[0] == prediction[0] else 0.0
    with np.errstate(all="ignore"):  # predictions that are not finite
        means = np.mean(prediction), np.mean(truth)
        guess, true = prediction - means[0], truth - means[1]
        squares = np.dot(guess, guess) + np.dot(true, true)
        return _plain(_ccc(np.dot(guess, true), squares, means[0] - means[1], len(truth)))


def concordance_of_sums(sums: Array) -> Array:
    """Return CCC as :func:`concordance` does, from sums ``[..., 6]``: ``[...]``, NaN where both are the same constant.

    Of a single utterance it is 0, or NaN where the prediction is right.
    """
    means, variances, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _ccc(covariance, variances.sum(axis=0), means[0] - means[1])


def pearson(truth: Array, prediction: Array) -> float | None:
    """Return Pearson's correlation of a split: ``σxy / (σx σy)``.

    Args:
        truth: ``[U]``
        prediction: ``[U]``

    Returns:
        in [-1, 1]; ``None`` where one is constant, for fewer than two utterances, and where a value is not finite

    Example:
        >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])), 6)
        0.866025
    """
    if len(truth) < 2 or _constant(truth) or _constant(prediction):
        return None
    with np.errstate(all="ignore"):  # a spread that underflows
        return _plain(np.corrcoef(prediction, truth)[0][1])


def pearson_of_sums(sums: Array) -> Array:
    """Return Pearson's correlation from sums ``[..., 6]``: ``[...]``, NaN where one is constant."""
    _, variances, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(variances[0] * variances[1])


def squared_error(truth: Array, prediction: Array) -> float | None:
    """Return the mean squared error of a split, on the square of the corpus's scale.

    Args:
        truth: ``[U]``, U >= 1
        prediction: ``[U]``

    Returns:
        at least 0; ``None`` where a value is not finite

    Example:
        >>> squared_error(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]))
        1.6666666666666667
    """
    return _plain(np.square(truth - prediction).mean())


def squared_error_of_sums(sums: Array) -> Array:
    """Return the mean squared error from sums ``[..., 6]``: ``[...]``, NaN without utterances."""
    count, _, _, squares, guesses, products = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum(squares + guesses - 2 * products, 0) / count


def _ccc(covariance: Any, variances: Any, gap: Any, count: int = 1) -> Any:
    """Return eq. 5 from the covariance, the sum of both variances and the difference of the means.

    The first two may both be ``count`` times as large, as sums of products are.
    """
    return 2 * covariance / (variances + count * gap**2)


def _moments(sums: Array) -> tuple[Array, Array, Array]:
    """Return means ``[2, ...]``, variances ``[2, ...]`` and covariance ``[...]`` of truth and prediction, over n."""
    count = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([sums[..., 1], sums[..., 2]]) / count
        squares = np.stack([sums[..., 3], sums[..., 4]]) / count
        variances = squares - means**2
        variances = np.where(variances <= NOTHING * squares, 0.0, variances)
        covariance = sums[..., 5] / count - means[0] * means[1]
    return means, variances, np.where((variances == 0).any(axis=0), 0.0, covariance)


def _constant(values: Array) -> bool:
    return bool((values == values[0]).all())


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


METRICS = (
    Metric("CCC", "dimensions", "CCC", low=-1.0, of_split=concordance, from_sums=concordance_of_sums, priority=2,
           headline=True, tested=True),
    Metric("Pearson", "dimensions", "Pearson", low=-1.0, of_split=pearson, from_sums=pearson_of_sums, main=False),
    Metric("MSE", "dimensions", "MSE", better="lower", high=math.inf, of_split=squared_error,
           from_sums=squared_error_of_sums, main=False),
)  # fmt: skip
