"""WA, UAR and macro-F1, each computed from counts of the true and the predicted classes.

Every speaker's counts are a row, ``[3 C]``: hits of each class, how often each is true, how often each is predicted.
Any set of utterances, be it a speaker, a resample or the whole split, is a sum of rows, and a score is a function of
that sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.metric import Array, Metric

Indices = Sequence[int] | NDArray[np.integer]


def class_counts(truth: Indices, prediction: Indices, clusters: NDArray[np.integer], count: int, classes: int) -> Array:
    """Count hits, true and predicted classes of each speaker, or of any other groups of utterances.

    Args:
        truth: class indices, ``[U]``, U >= 1
        prediction: class indices, ``[U]``
        clusters: index of each utterance's speaker, ``[U]``
        count: of speakers, G
        classes: C

    Returns:
        ``[G, 3 C]``: hits of each class, then how often it is true, then how often it is predicted

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


def accuracy(counts: Array) -> Array:
    """Return WA, the share of correct utterances: ``Σ hits / Σ true``.

    Args:
        counts: ``[..., 3 C]``, see :func:`class_counts`

    Returns:
        ``[...]`` in [0, 1]; NaN without utterances

    Example:
        >>> float(accuracy(np.array([2.0, 1.0, 3.0, 1.0, 2.0, 2.0])))  # 3 of 4 are correct
        0.75
    """
    hits, true, _ = _parts(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits.sum(axis=-1) / true.sum(axis=-1)


def unweighted_recall(counts: Array) -> Array:
    """Return UAR (or UA), the mean of ``hits / true`` over the classes that occur in the truth.

    A class without test utterances does not count as recalled at 0.

    Args:
        counts: ``[..., 3 C]``, see :func:`class_counts`

    Returns:
        ``[...]`` in [0, 1]; NaN without utterances

    Example:
        >>> float(unweighted_recall(np.array([1.0, 1.0, 0.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0])))  # recalls 1/2 and 1
        0.75
    """
    hits, true, _ = _parts(counts)
    return _mean_over_present(hits, true, true)


def macro_f1(counts: Array) -> Array:
    """Return the mean of ``F1 = 2 hits / (true + predicted)`` over the classes that occur in the truth.

    Args:
        counts: ``[..., 3 C]``, see :func:`class_counts`

    Returns:
        ``[...]`` in [0, 1]; NaN without utterances

    Example:
        >>> float(macro_f1(np.array([2.0, 1.0, 2.0, 2.0, 3.0, 1.0])))  # F1 of 4/5 and 2/3
        0.7333333333333334
    """
    hits, true, guessed = _parts(counts)
    return _mean_over_present(2 * hits, true + guessed, true)


def whole_split(score: Callable[[Array], Array]) -> Callable[[Indices, Indices], float]:
    """Return the form of a score that takes class indices ``[U]`` of a whole split, truth and prediction.

    The classes that do not occur in the truth are taken out first: they change no score, but would change the order in
    which numpy adds nine or more, and with it the last digit.
    """

    def of_split(truth: Indices, prediction: Indices) -> float:
        true, guess = np.asarray(truth), np.asarray(prediction)
        classes = 1 + int(max(true.max(initial=0), guess.max(initial=0)))
        table = class_counts(true, guess, np.zeros(len(true), dtype=np.int64), 1, classes).reshape(3, classes)
        return float(score(table[:, table[1] > 0].ravel()))

    return of_split


def _f1_of_split(counts: Array) -> Array:
    """Return macro-F1 of one split as metrics files have always held it: from precision and recall.

    It equals :func:`macro_f1` up to rounding; the last digit of written files depends on it.
    """
    hits, true, guessed = _parts(counts)
    with np.errstate(invalid="ignore"):  # a class that is never predicted
        precision, recall = hits / guessed, hits / true
        return np.asarray(np.where(hits > 0, (2 * precision * recall) / (precision + recall), 0.0).mean())


def _parts(counts: Array) -> tuple[Array, Array, Array]:
    classes = counts.shape[-1] // 3
    return counts[..., :classes], counts[..., classes : 2 * classes], counts[..., 2 * classes :]


def _mean_over_present(above: Array, below: Array, present: Array) -> Array:
    there = present > 0
    shares = np.divide(above, below, out=np.zeros_like(above), where=there)
    with np.errstate(invalid="ignore", divide="ignore"):
        return shares.sum(axis=-1) / there.sum(axis=-1)


unweighted_average_recall = whole_split(unweighted_recall)
"""UAR of a split, from class indices ``[U]``: truth, prediction."""

METRICS = (
    Metric("WA", "classes", "WA", percent=True, of_split=whole_split(accuracy), from_sums=accuracy, priority=3,
           tested=True),
    Metric("UAR", "classes", "UA (UAR)", short="UAR", percent=True, of_split=unweighted_average_recall,
           from_sums=unweighted_recall, priority=1, headline=True, tested=True),
    Metric("macro_f1", "classes", "macro-F1", percent=True, of_split=whole_split(_f1_of_split), from_sums=macro_f1,
           priority=4),
)  # fmt: skip
