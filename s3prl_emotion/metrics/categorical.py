"""Metrics of categorical emotion recognition, each computed once over a whole split.

WA, UAR, F1, recall and confusion are audmetric's. UAR (also UA) is the mean recall over the classes that occur in the
truth, so that a class without test utterances does not count as recalled at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics.calibration import CALIBRATION_BINS, expected_calibration_error, reliability_table
from s3prl_emotion.metrics.checks import Places, check_groups, checked_rows, checked_truth
from s3prl_emotion.metrics.groups import N_BEST, PA_UAR_THRESHOLDS, group_places, pa_uar, score_groups

__all__ = [
    "CALIBRATION_BINS",
    "N_BEST",
    "PA_UAR_THRESHOLDS",
    "categorical_metrics",
    "expected_calibration_error",
    "n_best",
    "unweighted_average_recall",
]


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
        ``reliability``, and ``per_speaker``, ``per_gender``, ``paUAR`` where speakers and genders are known

    Raises:
        LabelError: shapes or class indices that do not fit, or rows that are no distributions
    """
    import audmetric  # deferred: it brings pandas and scipy along, which take a second to import

    true = checked_truth(truth, checked_rows(probabilities, "probabilities", len(classes)).shape)
    check_groups(len(true), speakers=speakers, genders=genders)
    best = np.asarray(probabilities).argmax(axis=1)
    truth, predicted = true.tolist(), best.tolist()
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
        "reliability": reliability_table(truth, probabilities),
    }
    if speakers is not None and any(speakers):
        result["per_speaker"] = _by_group(true, best, speakers, len(classes))
        result["paUAR"] = pa_uar(entry["UAR"] for entry in result["per_speaker"].values())
    if genders is not None and any(genders):
        result["per_gender"] = _by_group(true, best, genders, len(classes))
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


def _by_group(truth: Places, predicted: Places, groups: Sequence[str | None], classes: int) -> dict[str, Any]:
    names, place = group_places(groups)
    scores = score_groups(truth, predicted, place, len(names), classes)
    return {
        name: {"utterances": int(count), "WA": float(accuracy), "UAR": float(uar)}
        for name, count, accuracy, uar in zip(names, scores.utterances, scores.accuracy, scores.uar, strict=True)
    }
