"""Agreement of predicted distributions with those of the graders: divergences, entropies, EMO-SUPERB's macro-F1.

All measures are in bits (logarithms to base 2) and over all classes that the head has learnt. Rows are divided by their
sums first, since label tables round the graders' shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.checks import Floats, checked_rows
from s3prl_emotion.metrics.dimension_scores import pearson
from s3prl_emotion.metrics.metric import Metric

KL_FLOOR = 1e-6  # lower probabilities count as this one, so that no class costs more than 20 bits
TIE = 1e-6  # shares that exceed 1/K by less equal it: float32, or a table with six digits
DECIMALS = 9  # values equal to so many decimals are ties; below, the order of a summation would decide


def agreement(graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Compute how far the predicted distributions of a split agree with those of its graders.

    Args:
        graders: shares of the graders, ``[N, K]``, N >= 1, rows sum to 1
        probabilities: predicted distributions, ``[N, K]``, same order of classes

    Returns:
        plain numbers and dicts, ready for JSON: ``utterances``; the means ``JS`` and ``KL`` of :func:`js_divergence`
        and :func:`kl_divergence`; ``KL_floored``, the number of utterances with a class that graders chose and whose
        probability is below :data:`KL_FLOOR`; the mean ``entropy`` of ``graders`` and ``model``; and
        :func:`entropy_correlation`

    Raises:
        LabelError: shapes that do not fit, or rows that are no distributions
    """
    share, guess = _distributions(graders, probabilities)
    floored = ((share > 0) & (guess < KL_FLOOR)).any(axis=1)
    return {
        "utterances": len(share),
        **{metric.name: metric.of_split(share, guess) for metric in METRICS if metric.of_split is not None},
        "KL_floored": int(floored.sum()),
        "entropy": {"graders": float(entropy(share).mean()), "model": float(entropy(guess).mean())},
        "entropy_correlation": entropy_correlation(share, guess),
    }


def js_divergence(graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]]) -> Floats:
    """Return the Jensen-Shannon divergence (not its square root, the distance) of each utterance; Lin 1991.

    ``JS = (KL(p || m) + KL(q || m)) / 2`` with ``m = (p + q) / 2``

    Args:
        graders: ``[N, K]``
        probabilities: ``[N, K]``

    Returns:
        ``[N]`` in bits, in [0, 1]: 0 where both are equal, 1 where they share no class

    Raises:
        LabelError: shapes that do not fit, or rows that are no distributions

    Example:
        >>> js_divergence(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])).tolist()
        [1.0, 0.0]
    """
    from scipy.special import rel_entr

    share, guess = _distributions(graders, probabilities)
    # scipy.spatial.distance.jensenshannon takes the root, which is NaN where rounding leaves -1e-17 for equal rows.
    middle = np.maximum((share + guess) / 2, np.finfo(float).tiny)
    total = (rel_entr(share, middle) + rel_entr(guess, middle)).sum(axis=1)
    return np.clip(total / (2 * np.log(2)), 0.0, 1.0)


def kl_divergence(graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]]) -> Floats:
    """Return the Kullback-Leibler divergence ``KL(graders || model) = Σ_k p_k log2(p_k / q_k)`` of each utterance.

    It would be infinite where the model gives 0 to a class that a grader chose. Probabilities below :data:`KL_FLOOR`
    therefore count as this value, without rescaling the row, which limits the divergence to ``log2(1 / KL_FLOOR)``,
    19.93 bits. Values that this makes negative are set to 0.

    Args:
        graders: ``[N, K]``
        probabilities: ``[N, K]``

    Returns:
        ``[N]`` in bits, in [0, 19.94)

    Raises:
        LabelError: shapes that do not fit, or rows that are no distributions

    Example:
        >>> kl_divergence(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]])).tolist()
        [2.0]
    """
    from scipy.special import rel_entr

    share, guess = _distributions(graders, probabilities)
    return np.maximum(rel_entr(share, np.maximum(guess, KL_FLOOR)).sum(axis=1) / np.log(2), 0.0)


def entropy(rows: NDArray[np.floating[Any]]) -> Floats:
    """Return the Shannon entropy of distributions ``[N, K]``: ``[N]`` in bits, in [0, log2 K]."""
    from scipy import stats

    return np.asarray(stats.entropy(np.asarray(rows, dtype=np.float64), base=2, axis=1), dtype=np.float64)


def entropy_correlation(
    graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]]
) -> dict[str, float | None]:
    """Correlate the entropies of graders and model: whether the model is unsure where the graders disagree.

    Args:
        graders: ``[N, K]``
        probabilities: ``[N, K]``

    Returns:
        ``Pearson`` and ``Spearman`` in [-1, 1]; ``None`` for a single utterance, and where an entropy is the same for
        all utterances, as that of consensus classes is

    Raises:
        LabelError: shapes that do not fit, or rows that are no distributions
    """
    share, guess = (entropy(rows).round(DECIMALS) for rows in _distributions(graders, probabilities))
    return {"Pearson": pearson(share, guess), "Spearman": rank_correlation(share, guess)}


def rank_correlation(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> float | None:
    """Return Spearman's correlation of ``[N]`` with ``[N]``; values that are equal to nine decimals are ties.

    Returns:
        in [-1, 1]; ``None`` for fewer than two values or where one is constant

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
        1.0
    """
    from scipy import stats

    ranks = [stats.rankdata(np.round(values, DECIMALS)) for values in (first, second)]
    return pearson(*ranks) if len(ranks[0]) > 1 else None


def threshold_f1(
    graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]], classes: Sequence[str]
) -> dict[str, Any]:
    """Compute EMO-SUPERB's macro-F1 over the whole split; Wu et al. 2024, "EMO-SUPERB: An in-depth look at SER".

    An utterance may have several emotions: a class is true if its share of the graders exceeds 1/K, and predicted if
    its probability does. The score is the mean over the classes of F1 on these two binary matrices, scikit-learn's
    ``f1_score(average="macro", zero_division=0)``. Where the paper leaves a choice:

    - K counts all classes that the head has learnt, and all utterances count, also those without consensus.
    - A share of exactly 1/K, or at most 1e-6 above it, does not exceed it. So only a row that is the same for all
      classes has no class; it is right where the other row has none either. Such rows are counted.
    - A class that is neither true nor predicted in the split counts as 0 in the mean, scikit-learn's default. It is
      listed in ``absent``, and its own F1 is ``None``.

    Args:
        graders: ``[N, K]``, N >= 1, K >= 2
        probabilities: ``[N, K]``
        classes: names, ``[K]``

    Returns:
        ready for JSON: ``utterances``, ``threshold`` (1/K), ``macro_f1`` in [0, 1], ``F1`` by class, ``absent``, and
        ``without_class``, the number of rows of ``graders`` and of ``model`` with nothing above 1/K

    Raises:
        LabelError: shapes that do not fit, rows that are no distributions, or fewer than two classes
    """
    from sklearn.metrics import f1_score

    share, guess = _distributions(graders, probabilities)
    if share.shape[1] != len(classes) or len(classes) < 2:
        raise LabelError(
            f"graders: {share.shape[1]} columns for {len(classes)} classes; give one for each of two or more classes"
        )
    limit = 1 / len(classes)
    true, predicted = share > limit + TIE, guess > limit + TIE
    scores: list[float] = f1_score(true.astype(int), predicted.astype(int), average=None, zero_division=0).tolist()
    known: list[bool] = np.any(true | predicted, axis=0).tolist()
    return {
        "utterances": len(share),
        "threshold": limit,
        "macro_f1": float(np.mean(scores)),
        "F1": {name: score if there else None for name, score, there in zip(classes, scores, known, strict=True)},
        "absent": [name for name, there in zip(classes, known, strict=True) if not there],
        "without_class": {
            "graders": int((~true.any(axis=1)).sum()),
            "model": int((~predicted.any(axis=1)).sum()),
        },
    }


def _distributions(
    graders: NDArray[np.floating[Any]], probabilities: NDArray[np.floating[Any]]
) -> tuple[Floats, Floats]:
    """Validate both and divide their rows by their sums."""
    share, guess = checked_rows(graders, "grader shares"), checked_rows(probabilities, "probabilities")
    if share.shape != guess.shape:
        raise LabelError(
            f"grader shares {list(share.shape)} and probabilities {list(guess.shape)} must have the same shape [N, K]"
        )
    return share / share.sum(axis=1, keepdims=True), guess / guess.sum(axis=1, keepdims=True)


METRICS = (
    Metric("JS", "graders", "JS", unit="bits", better="lower", path=("agreement", "JS"),
           of_split=lambda graders, probabilities: float(js_divergence(graders, probabilities).mean())),
    Metric("KL", "graders", "KL", unit="bits", better="lower", high=-math.log2(KL_FLOOR), path=("agreement", "KL"),
           of_split=lambda graders, probabilities: float(kl_divergence(graders, probabilities).mean())),
    Metric("entropy.graders", "graders", "graders' entropy", unit="bits", better="neither", high=math.inf,
           path=("agreement", "entropy", "graders")),
    Metric("entropy.model", "graders", "model's entropy", unit="bits", better="neither", high=math.inf,
           path=("agreement", "entropy", "model")),
    Metric("entropy_correlation.Pearson", "graders", "entropies: Pearson", low=-1.0,
           path=("agreement", "entropy_correlation", "Pearson")),
    Metric("entropy_correlation.Spearman", "graders", "entropies: Spearman", low=-1.0,
           path=("agreement", "entropy_correlation", "Spearman")),
    Metric("threshold_F1", "graders", "macro-F1 above 1/K", percent=True, path=("threshold_F1", "macro_f1")),
)  # fmt: skip
