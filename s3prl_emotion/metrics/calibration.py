"""Calibration error and reliability: whether predictions with a probability of 70 % are right in 70 % of the cases.

Guo et al. 2017, "On calibration of modern neural networks", section 2. Confidence is the probability of the most
probable class; bin m of M bins of equal width holds ``(m - 1) / M < confidence <= m / M``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics.checks import checked_rows, checked_truth
from s3prl_emotion.metrics.metric import Metric

CALIBRATION_BINS = 15


def expected_calibration_error(
    truth: Sequence[int] | NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    bins: int = CALIBRATION_BINS,
) -> float:
    """Return the expected calibration error (ECE) over bins of confidence; Guo et al. 2017, eq. 3.

    ``ECE = Σ_m |B_m| / N · |accuracy(B_m) - confidence(B_m)|``

    Args:
        truth: class index of each utterance, ``[N]``, N >= 1
        probabilities: probability of each class, ``[N, K]``, rows sum to 1
        bins: M >= 1

    Returns:
        in [0, 1]

    Raises:
        LabelError: shapes or class indices that do not fit, or rows that are no distributions

    Example:
        >>> round(expected_calibration_error([0, 1], np.array([[0.9, 0.1], [0.6, 0.4]]), bins=2), 6)
        0.25
    """
    confidence, correct, bin_of = _binned(truth, probabilities, bins)
    gaps = [abs(correct[bin_of == bin_].sum() - confidence[bin_of == bin_].sum()) for bin_ in range(bins)]
    return float(np.sum(gaps) / len(confidence))


def reliability_table(
    truth: Sequence[int] | NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    bins: int = CALIBRATION_BINS,
) -> list[dict[str, Any]]:
    """Return accuracy and confidence by bin, for a reliability diagram; Guo et al. 2017, Fig. 1, eqs. 1-2.

    Args:
        truth: class index of each utterance, ``[N]``, N >= 1
        probabilities: probability of each class, ``[N, K]``, rows sum to 1
        bins: M >= 1

    Returns:
        every bin, lowest confidence first: ``from`` and ``to`` (its edges), ``utterances``, and the means
        ``confidence`` and ``accuracy`` in [0, 1], both ``None`` for an empty bin

    Raises:
        LabelError: shapes or class indices that do not fit, or rows that are no distributions
    """
    confidence, correct, bin_of = _binned(truth, probabilities, bins)
    table = []
    for bin_ in range(bins):
        inside = bin_of == bin_
        count = int(inside.sum())
        table.append({
            "from": bin_ / bins,
            "to": (bin_ + 1) / bins,
            "utterances": count,
            "confidence": float(confidence[inside].mean()) if count else None,
            "accuracy": float(correct[inside].mean()) if count else None,
        })  # fmt: skip
    return table


def _binned(
    truth: Sequence[int] | NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return the confidence, whether the prediction is right, and the bin of each utterance, ``[N]`` each."""
    rows = checked_rows(probabilities, "probabilities")
    true = checked_truth(truth, rows.shape)
    confidence = rows.max(axis=1)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return confidence, rows.argmax(axis=1) == true, bin_of


METRICS = (Metric("ECE", "probabilities", "ECE", percent=True, better="lower", of_split=expected_calibration_error),)
