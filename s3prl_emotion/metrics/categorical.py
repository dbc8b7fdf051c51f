"""Compute all metrics of a split for heads that learn classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.calibration import reliability_table
from s3prl_emotion.metrics.checks import Indices, check_groups, checked_rows, checked_truth
from s3prl_emotion.metrics.groups import (
    N_BEST,
    N_BEST_KEYS,
    group_indices,
    n_best_predictions,
    pa_uar,
    score_groups,
)

# metrics of speakers, genders and n-best
MAIN = tuple(metric for metric in registry.of_kind("classes") if metric.tested and metric.from_sums)


def categorical_metrics(
    truth: Sequence[int],
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Compute all metrics of a split, once over the whole of it.

    Args:
        truth: class index of each utterance, ``[N]``, N >= 1
        probabilities: probability of each class, ``[N, K]``, rows sum to 1; the most probable class is the prediction
        classes: names, ``[K]``
        speakers: speaker of each utterance, ``[N]``, ``None`` where unknown
        genders: gender of each utterance, ``[N]``, ``None`` where unknown

    Returns:
        plain numbers, lists and dicts, ready for JSON: ``utterances``; the metrics of classes, ``WA``, ``UAR``,
        ``macro_f1`` in [0, 1]; ``recall`` by class (``None`` where the class does not occur); ``confusion`` (rows
        truth, columns prediction); ``n_best``; the metrics of probabilities, ``ECE``; ``reliability``; with speakers
        ``per_speaker`` and ``paUAR``, with genders ``per_gender``

    Raises:
        LabelError: shapes or class indices that do not fit, or rows that are no distributions
    """
    true = checked_truth(truth, checked_rows(probabilities, "probabilities", len(classes)).shape)
    check_groups(len(true), speakers=speakers, genders=genders)
    best, number = np.asarray(probabilities).argmax(axis=1), len(classes)
    confusion = np.bincount(true * number + best, minlength=number**2).reshape(number, number)
    utterances, hits = confusion.sum(axis=1).tolist(), confusion.diagonal().tolist()
    result: dict[str, Any] = {"utterances": len(true)}
    result |= _scores("classes", true, best)
    result["recall"] = {
        name: hit / count if count else None for name, hit, count in zip(classes, hits, utterances, strict=True)
    }
    result["confusion"] = confusion.tolist()
    result["n_best"] = {str(n): n_best(true, probabilities, n) for n in N_BEST if n < number}
    result |= _scores("probabilities", true, probabilities)
    result["reliability"] = reliability_table(true, probabilities)
    if speakers is not None and any(speakers):
        result["per_speaker"] = _by_group(true, best, speakers, number)
        result["paUAR"] = pa_uar(entry["UAR"] for entry in result["per_speaker"].values())
    if genders is not None and any(genders):
        result["per_gender"] = _by_group(true, best, genders, number)
    return result


def n_best(truth: Sequence[int] | Indices, probabilities: NDArray[np.floating[Any]], n: int) -> dict[str, float | None]:
    """Return ``accuracy`` and ``UAR``, each in [0, 1], if the true class may be any of the ``n`` most probable ones.

    Args:
        truth: class indices, ``[N]``, N >= 1
        probabilities: ``[N, K]``; ties go to the first class
        n: at least 1
    """
    true = np.asarray(truth)
    predicted = n_best_predictions(true, probabilities, n)
    return {N_BEST_KEYS[metric.name]: metric.of_split(true, predicted) for metric in MAIN if metric.of_split}


def _scores(kind: registry.Kind, truth: Indices, prediction: NDArray[Any]) -> dict[str, float | None]:
    return {metric.name: metric.of_split(truth, prediction) for metric in registry.of_kind(kind) if metric.of_split}


def _by_group(truth: Indices, predicted: Indices, groups: Sequence[str | None], classes: int) -> dict[str, Any]:
    names, group = group_indices(groups)
    scores = score_groups(truth, predicted, group, len(names), classes)
    return {
        name: {"utterances": int(count)} | {metric.name: float(scores.values[metric.name][index]) for metric in MAIN}
        for index, (name, count) in enumerate(zip(names, scores.utterances, strict=True))
    }
