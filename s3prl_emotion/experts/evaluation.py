"""Compute a split's metrics from a head's predictions, once over the whole split, and write its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora import DIMENSIONS, Utterance
from s3prl_emotion.corpora.protocol import words_of
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.metrics import results

logger = logging.getLogger(__name__)
FIRST = ("split", "fold", "step", "checkpoint", "classes")  # keys of a metrics file that come before the metrics


def write_categorical(
    folder: Path,
    utterances: Sequence[Utterance],
    probability: Sequence[Sequence[float]],
    made_by: dict[str, Any],
) -> dict[str, Any]:
    """Compute the metrics of a split's classes and write its predictions and metrics.

    Utterances without a class (negative label) are predicted, but do not count in the metrics.

    Args:
        folder: experiment directory
        utterances: of the split, ``[N]``
        probability: of each class, ``[N, K]``
        made_by: split, fold, step, checkpoint, classes, and further entries of the metrics file

    Returns:
        the metrics; empty if no utterance has a class

    Raises:
        TrainingError: the head's output is not finite, or a file cannot be written
    """
    from s3prl_emotion.metrics.categorical import categorical_metrics

    classes, stem = made_by["classes"], f"{made_by['split']}_{made_by['fold']}"
    probabilities = _finite(probability, made_by)
    known = [index for index, item in enumerate(utterances) if item.label >= 0]
    labels, groups = [utterances[index].label for index in known], _groups([utterances[index] for index in known])
    metrics = categorical_metrics(labels, probabilities[known], classes, *groups) if known else {}
    predicted = [classes[index] for index in probabilities.argmax(axis=1)]
    truth = [classes[item.label] if item.label >= 0 else "" for item in utterances]
    results.write_host_lists(folder, stem, utterances, truth, predicted)
    columns: dict[str, Sequence[Any]] = {"truth": truth, "prediction": predicted}
    columns |= {f"p_{name}": probabilities[:, index].tolist() for index, name in enumerate(classes)}
    results.write_predictions(folder, stem, utterances, columns | _protocol_column(made_by, len(utterances)))
    _write_metrics(folder, stem, metrics, made_by)
    scores = [_shown(metrics.get(name)) for name in ("WA", "UAR")]
    logger.info("%s at step %d: WA %s, UAR %s%s", made_by["split"], made_by["step"], *scores, _protocol_words(made_by))
    return metrics


def write_dimensional(
    folder: Path,
    utterances: Sequence[Utterance],
    truth: NDArray[np.float64],
    estimates: NDArray[np.float64],
    names: Sequence[str],
    made_by: dict[str, Any],
) -> dict[str, Any]:
    """Compute the metrics of a split's dimensions and write its predictions and metrics.

    Args:
        folder: experiment directory
        utterances: of the split, ``[N]``
        truth: labels on the corpus's scale, ``[N, O]``: activation, valence, dominance, then their spreads if learnt
        estimates: of the head, in the same columns, ``[N, O]``
        names: of the columns, ``[O]``
        made_by: as :func:`write_categorical`

    Returns:
        the metrics; those of the spreads are under ``spreads``

    Raises:
        TrainingError: the head's output is not finite, or a file cannot be written
    """
    estimates, stem = _finite(estimates, made_by), f"{made_by['split']}_{made_by['fold']}"
    width = len(DIMENSIONS)
    metrics = _dimension_metrics(utterances, truth, estimates, names) or {}
    rows = [[" ".join(f"{value:.7g}" for value in row) for row in part[:, :width]] for part in (truth, estimates)]
    results.write_host_lists(folder, stem, utterances, *rows)
    columns = _dimension_columns(truth, estimates, names)
    results.write_predictions(folder, stem, utterances, columns | _protocol_column(made_by, len(utterances)))
    _write_metrics(folder, stem, metrics, made_by)
    scores = ", ".join(f"{name} {_shown(value)}" for name, value in metrics["CCC"].items())
    logger.info("%s at step %d: CCC %s%s", made_by["split"], made_by["step"], scores, _protocol_words(made_by))
    return metrics


def write_multitask(
    folder: Path,
    utterances: Sequence[Utterance],
    shares: NDArray[np.float64],
    probability: NDArray[np.float64],
    truth: NDArray[np.float64],
    estimates: NDArray[np.float64],
    names: Sequence[str],
    evaluated: Sequence[str],
    min_utterances: int,
    made_by: dict[str, Any],
) -> dict[str, Any]:
    """Compute the metrics of a split's classes and dimensions and write its predictions and metrics.

    Unknown grader shares and dimensions (NaN) do not count in the metrics. If a split has only dimensions, the metrics
    are only those of the dimensions.

    Args:
        folder: experiment directory
        utterances: of the split, ``[N]``
        shares: of the graders, ``[N, K]``
        probability: of each class that is learnt, ``[N, K]``
        truth: labels of the dimensions on the corpus's scale, ``[N, O]``
        estimates: of the head, in the same columns, ``[N, O]``
        names: of the dimensions, ``[O]``; none if they are not learnt
        evaluated: classes that are evaluated, which may be fewer than are learnt
        min_utterances: utterances that a speaker needs to count in paUAR
        made_by: as :func:`write_categorical`

    Returns:
        the metrics

    Raises:
        TrainingError: the head's output is not finite, or a file cannot be written
        LabelError: no utterance of the split has one of the evaluated classes
    """
    from s3prl_emotion.metrics.split import metrics_without_classes, split_metrics

    classes, stem = made_by["classes"], f"{made_by['split']}_{made_by['fold']}"
    probability, estimates = _finite(probability, made_by), _finite(estimates, made_by)
    graders = None if np.isnan(shares).all() else shares
    labels, (speakers, genders) = [item.label for item in utterances], _groups(utterances)
    rated = _dimension_metrics(utterances, truth, estimates, names)
    if rated is not None and max(labels) < 0:
        metrics = metrics_without_classes(rated, evaluated, len(labels))
    else:
        metrics = split_metrics(
            labels, probability, classes, evaluated, graders, speakers, genders, min_utterances, dimensional=rated
        )
    chosen = [classes.index(name) for name in evaluated]
    predicted = [evaluated[index] for index in probability[:, chosen].argmax(axis=1)]
    words = [classes[label] if label >= 0 else "" for label in labels]
    results.write_host_lists(folder, stem, utterances, words, predicted)
    columns: dict[str, Sequence[Any]] = {"truth": words, "prediction": predicted}
    columns |= {f"p_{name}": probability[:, index].tolist() for index, name in enumerate(classes)}
    columns |= {f"share_{name}": shares[:, index].tolist() for index, name in enumerate(classes)}
    columns |= _dimension_columns(truth, estimates, names)
    results.write_predictions(folder, stem, utterances, columns | _protocol_column(made_by, len(utterances)))
    _write_metrics(folder, stem, metrics, made_by)
    shown = {"WA": "WA", "UAR": "UAR", "mean CCC": "mean_CCC"}
    scores = [f"{name} {_shown(metrics.get(key))}" for name, key in shown.items()]
    logger.info("%s at step %d: %s%s", made_by["split"], made_by["step"], ", ".join(scores), _protocol_words(made_by))
    return metrics


def _dimension_metrics(
    utterances: Sequence[Utterance], truth: NDArray[np.float64], estimates: NDArray[np.float64], names: Sequence[str]
) -> dict[str, Any] | None:
    """Return the metrics of the dimensions, those of spreads under ``spreads``; ``None`` if no utterance has labels."""
    from s3prl_emotion.metrics.dimensional import dimensional_metrics

    width = len(DIMENSIONS)
    if not names:
        return None
    known = np.flatnonzero(~np.isnan(truth[:, :width]).any(axis=1)).tolist()
    if not len(known):
        return None
    groups = _groups([utterances[index] for index in known])
    metrics = dimensional_metrics(truth[known, :width], estimates[known, :width], names[:width], *groups)
    known = np.flatnonzero(~np.isnan(truth).any(axis=1)).tolist()
    if len(names) > width and len(known):
        metrics["spreads"] = dimensional_metrics(truth[known, width:], estimates[known, width:], names[width:])
    return metrics


def _dimension_columns(
    truth: NDArray[np.float64], estimates: NDArray[np.float64], names: Sequence[str]
) -> dict[str, Sequence[float]]:
    columns = {name: truth[:, index].tolist() for index, name in enumerate(names)}
    return columns | {f"{name}_pred": estimates[:, index].tolist() for index, name in enumerate(names)}


def _protocol_column(made_by: dict[str, Any], utterances: int) -> dict[str, Sequence[str]]:
    """Return the column of predictions that says that train and test share speakers, or that there was no dev split."""
    words = words_of(made_by)
    return {"protocol": ["; ".join(words)] * utterances} if words else {}


def _protocol_words(made_by: dict[str, Any]) -> str:
    return "".join(f", {word}" for word in words_of(made_by))


def _finite(values: Any, made_by: dict[str, Any]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        where = f"{made_by['split']} at step {made_by['step']}"
        raise TrainingError(f"{where}: the head's output is not finite; lower optimizer.lr")
    return array


def _groups(utterances: Sequence[Utterance]) -> tuple[list[str | None], list[str | None]]:
    return [item.speaker for item in utterances], [item.gender for item in utterances]


def _write_metrics(folder: Path, stem: str, metrics: dict[str, Any], made_by: dict[str, Any]) -> None:
    first = {key: made_by[key] for key in FIRST}
    results.write_metrics(folder, stem, first | metrics | made_by)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
