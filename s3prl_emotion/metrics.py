"""Metrics of categorical emotion recognition, each computed once over a whole split.

WA, UAR, F1, recall and confusion are audmetric's. UAR (also UA) is the mean recall over the classes that occur in the
truth, so that a class without test utterances does not count as recalled at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BEST = (1, 2, 3)
PA_UAR_THRESHOLDS = (50, 75)  # percent
CALIBRATION_BINS = 15


def categorical_metrics(
    truth: Sequence[int],
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """All metrics of a split.

    Args:
        truth: class index of each utterance, ``[N]``, N >= 1
        probabilities: of each class, ``[N, K]``, rows sum to 1
        classes: names, ``[K]``
        speakers: of each utterance, where known
        genders: of each utterance, where known

    Returns:
        plain numbers, lists and dicts, ready for JSON: ``WA``, ``UAR``, ``macro_f1`` in [0, 1], ``recall`` by class
        (``None`` where the class does not occur), ``confusion`` (rows truth, columns prediction), ``n_best``, ``ECE``,
        and ``per_speaker``, ``per_gender``, ``paUAR`` where speakers and genders are known
    """
    import audmetric  # deferred: it brings pandas and scipy along, which take a second to import

    predicted = probabilities.argmax(axis=1).tolist()
    present = sorted(set(truth))
    everything = list(range(len(classes)))
    recall = audmetric.recall_per_class(truth, predicted, labels=everything)
    fscore = audmetric.fscore_per_class(truth, predicted, labels=everything)
    result: dict[str, Any] = {
        "utterances": len(truth),
        "WA": float(audmetric.accuracy(truth, predicted)),
        "UAR": unweighted_average_recall(truth, predicted),
        "macro_f1": float(np.mean([fscore[index] for index in present])),
        "recall": {name: recall[index] if index in present else None for index, name in enumerate(classes)},
        "confusion": audmetric.confusion_matrix(truth, predicted, labels=everything),
        "n_best": {str(n): n_best(truth, probabilities, n) for n in N_BEST if n < len(classes)},
        "ECE": expected_calibration_error(truth, probabilities),
    }
    if speakers is not None and any(speakers):
        result["per_speaker"] = _by_group(truth, predicted, speakers)
        uars = [entry["UAR"] for entry in result["per_speaker"].values()]
        result["paUAR"] = {
            str(limit): float(np.mean([round(100 * uar, 6) > limit for uar in uars])) for limit in PA_UAR_THRESHOLDS
        }
    if genders is not None and any(genders):
        result["per_gender"] = _by_group(truth, predicted, genders)
    return result


def unweighted_average_recall(truth: Sequence[int], predicted: Sequence[int]) -> float:
    """Mean recall over the classes that occur in ``truth``, in [0, 1]."""
    import audmetric

    recall = audmetric.recall_per_class(truth, predicted)  # given ``labels``, it ignores predictions outside them
    return float(np.mean([recall[label] for label in sorted(set(truth))]))


def n_best(truth: Sequence[int], probabilities: NDArray[np.floating[Any]], n: int) -> dict[str, float]:
    """Accuracy and UAR when the true class among the ``n`` most probable ones counts as a hit."""
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    true = np.asarray(truth)
    hits = (ranked == true[:, None]).any(axis=1)
    recalls = [hits[true == label].mean() for label in sorted(set(truth))]
    return {"accuracy": float(hits.mean()), "UAR": float(np.mean(recalls))}


def expected_calibration_error(
    truth: Sequence[int], probabilities: NDArray[np.floating[Any]], bins: int = CALIBRATION_BINS
) -> float:
    """ECE over equal-width bins of confidence; Guo et al. 2017, "On calibration of modern neural networks", eq. 3.

    Returns:
        utterance-weighted mean of ``|accuracy - confidence|`` over the bins, in [0, 1]
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(truth)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(correct[place == bin_].sum() - confidence[place == bin_].sum()) for bin_ in range(bins)]
    return float(np.sum(gaps) / len(confidence))


def _by_group(truth: Sequence[int], predicted: Sequence[int], groups: Sequence[str | None]) -> dict[str, Any]:
    result = {}
    for group in sorted({name for name in groups if name}):
        inside = [index for index, name in enumerate(groups) if name == group]
        true, guess = [truth[index] for index in inside], [predicted[index] for index in inside]
        result[group] = {
            "utterances": len(inside),
            "WA": float(np.mean(np.equal(true, guess))),
            "UAR": unweighted_average_recall(true, guess),
        }
    return result
