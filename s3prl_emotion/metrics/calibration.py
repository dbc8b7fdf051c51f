"""Calibration: whether a class that is given 70 % is right in 70 % of the cases. Bins of equal width over confidence.

Guo et al. 2017, "On calibration of modern neural networks", section 2. Confidence is the probability of the most
probable class; bin m of M holds ``(m - 1) / M < confidence <= m / M``.
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
    """ECE over equal-width bins of confidence; Guo et al. 2017, eq. 3.

    Returns:
        utterance-weighted mean of ``|accuracy - confidence|`` over the bins, in [0, 1]

    Raises:
        LabelError: see :func:`reliability_table`
    """
    confidence, correct, place = _binned(truth, probabilities, bins)
    gaps = [abs(correct[place == bin_].sum() - confidence[place == bin_].sum()) for bin_ in range(bins)]
    return float(np.sum(gaps) / len(confidence))


def reliability_table(
    truth: Sequence[int] | NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    bins: int = CALIBRATION_BINS,
) -> list[dict[str, Any]]:
    """What a reliability diagram shows; Guo et al. 2017, Fig. 1, eqs. 1-2.

    Args:
        truth: class index of each utterance, ``[N]``, N >= 1
        probabilities: of each class, ``[N, K]``, rows sum to 1
        bins: M >= 1

    Returns:
        every bin, lowest confidence first: ``from`` and ``to`` (its edges), ``utterances``, and ``confidence`` and
        ``accuracy``, their means in the bin, in [0, 1]; both are ``None`` where the bin is empty

    Raises:
        LabelError: shapes or class indices that do not fit, or rows that are no distributions
    """
    confidence, correct, place = _binned(truth, probabilities, bins)
    table = []
    for bin_ in range(bins):
        inside = place == bin_
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
    """Confidence, whether the most probable class is right, and the bin of each utterance; ``[N]`` each."""
    rows = checked_rows(probabilities, "probabilities")
    true = checked_truth(truth, rows.shape)
    confidence = rows.max(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return confidence, rows.argmax(axis=1) == true, place


METRICS = (Metric("ECE", "probabilities", "ECE", percent=True, better="lower", of_split=expected_calibration_error),)
