"""Metrics from sums over utterances, so that drawing speakers anew needs the speakers' sums and no utterance.

Each speaker is a row of sums; any selection of speakers is a sum of rows, and :data:`METRICS` maps sums to a metric.
Definitions are those of :mod:`s3prl_emotion.metrics.dimensional` and :mod:`s3prl_emotion.metrics.categorical`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError

Array = NDArray[np.float64]
Metric = Callable[[Array], Array]
MOMENTS = 6  # columns of dimensional sums
NOTHING = 1e-12  # share of the second moment under which a variance is rounding


def dimensional_sums(
    truth: NDArray[np.floating[Any]], prediction: NDArray[np.floating[Any]], clusters: NDArray[np.integer], count: int
) -> Array:
    """Moments of each speaker: n, truth, prediction, truth², prediction², truth x prediction.

    Both are moved by the first true value, which changes none of the metrics and keeps the squares small; systems with
    the same truth are moved alike, so that their rows can be mixed.

    Args:
        truth: ``[U]``, U >= 1
        prediction: ``[U]``
        clusters: index of each utterance's speaker, ``[U]``
        count: of speakers, K

    Returns:
        ``[K, 6]``

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


def confusion_sums(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], clusters: NDArray[np.integer], count: int, classes: int
) -> Array:
    """Counts of each speaker: hits of each class, then how often it is true, then how often it is predicted.

    Args:
        truth: class indices ``[U]``, U >= 1
        prediction: class indices ``[U]``
        clusters: index of each utterance's speaker, ``[U]``
        count: of speakers, K
        classes: C

    Returns:
        ``[K, 3 C]``

    Raises:
        LabelError: shapes that do not fit, or no utterance
    """
    true, guess, cluster = np.asarray(truth), np.asarray(prediction), np.asarray(clusters)
    if true.ndim != 1 or not len(true) or not true.shape == guess.shape == cluster.shape:
        raise LabelError(
            f"truth {list(true.shape)}, prediction {list(guess.shape)} and speakers {list(cluster.shape)} must be "
            "equally long and hold at least one utterance"
        )
    hit = true == guess
    tables = [(true[hit], cluster[hit]), (true, cluster), (guess, cluster)]
    counts = [np.bincount(where * classes + what, minlength=count * classes) for what, where in tables]
    return np.concatenate([table.reshape(count, classes) for table in counts], axis=1).astype(np.float64)


def concordance(sums: Array) -> Array:
    """CCC (population moments) from ``[..., 6]``, Mitra et al. 2024, eq. 5; NaN where both are the same constant."""
    means, variances, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * covariance / (variances.sum(axis=0) + (means[0] - means[1]) ** 2)


def pearson(sums: Array) -> Array:
    """Pearson's correlation, from ``[..., 6]``. NaN where one is constant."""
    _, variances, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(variances[0] * variances[1])


def squared_error(sums: Array) -> Array:
    """Mean squared error, from ``[..., 6]``."""
    count, _, _, squares, guesses, products = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum(squares + guesses - 2 * products, 0) / count


def accuracy(sums: Array) -> Array:
    """WA: share of hits, from ``[..., 3 C]``."""
    hits, true, _ = _counts(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits.sum(axis=-1) / true.sum(axis=-1)


def unweighted_recall(sums: Array) -> Array:
    """UAR: mean recall over the classes that occur in the truth, from ``[..., 3 C]``."""
    hits, true, _ = _counts(sums)
    return _mean_over_present(hits, true, true)


def macro_f1(sums: Array) -> Array:
    """Mean F1 over the classes that occur in the truth, from ``[..., 3 C]``."""
    hits, true, guessed = _counts(sums)
    return _mean_over_present(2 * hits, true + guessed, true)


DIMENSIONAL: dict[str, Metric] = {"CCC": concordance, "Pearson": pearson, "MSE": squared_error}
CATEGORICAL: dict[str, Metric] = {"UAR": unweighted_recall, "WA": accuracy, "macro_f1": macro_f1}
METRICS: dict[str, Metric] = DIMENSIONAL | CATEGORICAL


def _moments(sums: Array) -> tuple[Array, Array, Array]:
    """Means ``[2, ...]``, variances ``[2, ...]`` and covariance ``[...]`` of truth and prediction, each over n."""
    count = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([sums[..., 1], sums[..., 2]]) / count
        squares = np.stack([sums[..., 3], sums[..., 4]]) / count
        variances = squares - means**2
        variances = np.where(variances <= NOTHING * squares, 0.0, variances)
        covariance = sums[..., 5] / count - means[0] * means[1]
    return means, variances, np.where((variances == 0).any(axis=0), 0.0, covariance)


def _counts(sums: Array) -> tuple[Array, Array, Array]:
    classes = sums.shape[-1] // 3
    return sums[..., :classes], sums[..., classes : 2 * classes], sums[..., 2 * classes :]


def _mean_over_present(above: Array, below: Array, present: Array) -> Array:
    there = present > 0
    shares = np.divide(above, below, out=np.zeros_like(above), where=there)
    with np.errstate(invalid="ignore", divide="ignore"):
        return shares.sum(axis=-1) / there.sum(axis=-1)
