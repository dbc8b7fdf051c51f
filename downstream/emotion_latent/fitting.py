"""Fit the standardisation, without outliers, and the linear SVC to the training split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.experts.standardizer import Rows, moments
from s3prl_emotion.loading.class_balance import class_weights
from s3prl_emotion.recipe import EFFECTIVE_BETA

from .model import ABSENT, LIMIT, alphabetical_ranks

ITERATIONS = 10_000


@dataclass(frozen=True)
class Standard:
    """Mean ``[D]`` and standard deviation ``[D]`` of features, and a mask ``[U]`` of the utterances that are kept."""

    location: Rows
    scale: Rows
    kept: NDArray[np.bool_]


def standardisation(rows: Rows, limit: float = LIMIT) -> Standard:
    """Find outliers by the z-score ("Evaluation": -10 > z > 10), then mean and standard deviation of the others.

    Args:
        rows: features of the training split, ``[U, D]``, U >= 1, finite
        limit: of the z-score

    Returns:
        population moments; a constant feature has standard deviation 1, so that it becomes 0
    """
    spread = rows.std(axis=0)
    scores = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    kept = (np.abs(scores) <= limit).all(axis=1)
    return Standard(*moments(rows[kept]), kept)


def fit_svc(
    latents: Rows,
    classes: Sequence[int],
    num_classes: int,
    balance: str = "none",
    cost: float = 1.0,
    beta: float = EFFECTIVE_BETA,
) -> tuple[Rows, Rows]:
    """Fit scikit-learn's linear SVC, one class against the others; deterministic.

    Args:
        latents: of the training split, ``[U, E]``, finite
        classes: indices, ``[U]``
        num_classes: K
        balance: ``datarc.class_weights``
        cost: C of the SVC
        beta: ``datarc.class_weights_beta``

    Returns:
        coefficients ``[K, E]`` and intercepts ``[K]``; 0 and :data:`ABSENT` for a class that does not occur

    Raises:
        LabelError: fewer than two classes
    """
    from sklearn.svm import LinearSVC

    present, weights = _present(classes), _weights(classes, num_classes, balance, beta)
    svc = LinearSVC(dual=False, C=cost, class_weight=weights, max_iter=ITERATIONS, random_state=0)
    svc.fit(latents, list(classes))
    slopes, offsets = (svc.coef_, svc.intercept_) if len(present) > 2 else _both(svc.coef_, svc.intercept_)
    coefficients, intercepts = np.zeros((num_classes, latents.shape[1])), np.full(num_classes, ABSENT)
    coefficients[present], intercepts[present] = slopes, offsets
    return coefficients, intercepts


def fit_pairs(
    latents: Rows,
    classes: Sequence[int],
    names: Sequence[str],
    balance: str = "none",
    cost: float = 1.0,
    beta: float = EFFECTIVE_BETA,
) -> tuple[Rows, Rows, Rows]:
    """Fit scikit-learn's ``SVC`` with a linear kernel to each two classes; deterministic.

    Its loss is the hinge, its intercept is not penalised, and its time grows with the square of the utterances. Classes
    are in alphabetical order, as where it is fitted to names, so that the order of ``datarc.classes`` changes nothing.

    Args:
        latents: of the training split, ``[U, E]``, finite
        classes: indices, ``[U]``
        names: of the classes, K
        balance: ``datarc.class_weights``
        cost: C of the SVC
        beta: ``datarc.class_weights_beta``

    Returns:
        coefficients ``[P, E]`` and intercepts ``[P]`` of the pairs of :class:`.model.PairVotes`, in which a class that
        does not occur loses; and whether each class occurs, ``[K]``

    Raises:
        LabelError: fewer than two classes
    """
    from sklearn.svm import SVC

    ranks = alphabetical_ranks(names)
    targets = [ranks[label] for label in classes]
    present, weights = _present(targets), _weights(targets, len(names), balance, beta)
    svc = SVC(kernel="linear", C=cost, class_weight=weights)
    svc.fit(latents, targets)
    slopes, offsets = np.asarray(svc.coef_), np.asarray(svc.intercept_)
    if len(present) == 2:  # here a positive value is for the second class
        slopes, offsets = -slopes, -offsets
    pairs = list(combinations(range(len(names)), 2))
    coefficients = np.zeros((len(pairs), latents.shape[1]))
    intercepts = np.array([float(one in present) - float(other in present) for one, other in pairs])
    fitted = [pairs.index(pair) for pair in combinations(present, 2)]
    coefficients[fitted], intercepts[fitted] = slopes, offsets
    return coefficients, intercepts, np.isin(ranks, present).astype(np.float64)


def _present(classes: Sequence[int]) -> list[int]:
    present = sorted(set(classes))
    if len(present) < 2:
        raise LabelError("the SVC needs utterances of two classes or more")
    return present


def _weights(classes: Sequence[int], num_classes: int, balance: str, beta: float) -> dict[int, float] | None:
    if balance == "none":
        return None
    return dict(enumerate(class_weights(classes, num_classes, balance, beta).tolist()))


def _both(slopes: Rows, offsets: Rows) -> tuple[Rows, Rows]:
    """Return both classes' values: of two classes scikit-learn keeps only the second's; the first's is its negative."""
    return np.concatenate([-slopes, slopes]), np.concatenate([-offsets, offsets])
