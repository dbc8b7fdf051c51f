"""What is fitted to the training split rather than learnt: standardisation without outliers, and the linear SVC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.loading.class_balance import class_weights

from .model import LIMIT

ABSENT = -1e4  # decision value of a class that the training split lacks: its probability is 0
ITERATIONS = 10_000
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Standard:
    """Mean ``[D]`` and standard deviation ``[D]`` of features, and which utterances are no outliers, ``[U]``."""

    location: Rows
    scale: Rows
    kept: NDArray[np.bool_]


def standardisation(rows: Rows) -> Standard:
    """Outliers by the z-score ("Evaluation": -10 > z > 10), then mean and standard deviation of the others.

    Args:
        rows: features of the training split, ``[U, D]``, U >= 1, finite

    Returns:
        population moments; a feature that does not vary has standard deviation 1, so that it becomes 0
    """
    spread = rows.std(axis=0)
    scores = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    kept = (np.abs(scores) <= LIMIT).all(axis=1)
    location, spread = rows[kept].mean(axis=0), rows[kept].std(axis=0)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(location))  # else it is the rounding of the mean
    return Standard(location, np.where(varies, spread, 1.0), kept)


def fit_svc(
    latents: Rows, classes: Sequence[int], num_classes: int, balance: str = "none", cost: float = 1.0
) -> tuple[Rows, Rows]:
    """Fit scikit-learn's linear SVC, one class against the others; nothing is drawn.

    Args:
        latents: of the training split, ``[U, E]``, finite
        classes: indices, ``[U]``
        num_classes: K
        balance: ``datarc.class_weights``
        cost: C of the SVC

    Returns:
        coefficients ``[K, E]`` and intercepts ``[K]``; of a class that does not occur 0 and :data:`ABSENT`

    Raises:
        LabelError: fewer than two classes
    """
    from sklearn.svm import LinearSVC

    found = sorted(set(classes))
    if len(found) < 2:
        raise LabelError("the SVC needs utterances of two classes or more")
    weights = None
    if balance != "none":
        weights = dict(enumerate(class_weights(classes, num_classes, balance).tolist()))
    svc = LinearSVC(dual=False, C=cost, class_weight=weights, max_iter=ITERATIONS, random_state=0)
    svc.fit(latents, list(classes))
    slopes, offsets = (svc.coef_, svc.intercept_) if len(found) > 2 else _both(svc.coef_, svc.intercept_)
    coefficients, intercepts = np.zeros((num_classes, latents.shape[1])), np.full(num_classes, ABSENT)
    coefficients[found], intercepts[found] = slopes, offsets
    return coefficients, intercepts


def _both(slopes: Rows, offsets: Rows) -> tuple[Rows, Rows]:
    """Of two classes scikit-learn keeps the second's decision value; the first's is its negative."""
    return np.concatenate([-slopes, slopes]), np.concatenate([-offsets, offsets])
