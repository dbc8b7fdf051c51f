"""Weigh classes against imbalance, in the loss or in sampling."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.corpora import Utterance
from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.recipe import EFFECTIVE_BETA

logger = logging.getLogger(__name__)


def class_weights(labels: Sequence[int], num_classes: int, kind: str, beta: float = EFFECTIVE_BETA) -> Tensor:
    """Return the weight of each class in the loss.

    Args:
        labels: class index of each training utterance; negative ones (no class) are not counted
        num_classes: K
        kind: ``balanced``, inverse to the count, or ``effective``, inverse to the effective number of samples
            ``(1 - β^n) / (1 - β)`` of Cui et al. 2019, "Class-balanced loss based on effective number of
            samples", eq. 2
        beta: β

    Returns:
        ``[K]``, mean 1 over the classes that occur; a class without utterances has weight 0
    """
    return weights_of_counts(class_counts(labels, num_classes), kind, beta)


def class_counts(labels: Sequence[int], num_classes: int) -> NDArray[np.float64]:
    """Return the number of utterances of each class ``[K]``; negative labels (no class) are not counted."""
    known = np.asarray([label for label in labels if label >= 0], dtype=np.int64)
    return np.bincount(known, minlength=num_classes).astype(float)


def weights_of_counts(counts: NDArray[np.float64], kind: str, beta: float = EFFECTIVE_BETA) -> Tensor:
    """Return :func:`class_weights` from the number of utterances of each class ``[K]``, which may be sums of shares."""
    amount = counts if kind == "balanced" else (1 - beta**counts) / (1 - beta)
    weights = np.divide(1.0, amount, out=np.zeros_like(amount), where=counts > 0)
    return torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32)


def absent_classes(classes: Sequence[str], counts: NDArray[np.float64]) -> list[str]:
    """Return the classes of which there is no utterance, from the counts or sums of shares ``[K]`` of all classes."""
    return [name for name, count in zip(classes, counts, strict=True) if not count > 0]


def warn_of_single_speakers(classes: Sequence[str], utterances: Sequence[Utterance], split: str) -> None:
    """Warn of classes all of whose utterances are of one speaker, whom a head may learn in place of the class.

    Args:
        classes: by index
        utterances: of the training split; unknown speakers count as several
        split: its name
    """
    speakers: dict[int, set[str | None]] = {}
    for item in utterances:
        speakers.setdefault(item.label, set()).add(item.speaker)
    single = {classes[label]: _only(found) for label, found in speakers.items() if label >= 0}
    everyone = _only(set().union(*speakers.values()))
    said = [f"{name} (speaker {speaker})" for name, speaker in sorted(single.items()) if speaker is not None]
    if said:
        logger.warning(
            "%s holds only one speaker of %s, whom the head may learn in place of the class; change the split "
            "(datarc.test_fold) or datarc.classes",
            *(split, ", ".join(said) if everyone is None else f"all classes (speaker {everyone})"),
        )


def _only(speakers: set[str | None]) -> str | None:
    """Return the only speaker, if that one is known."""
    return known_speaker(next(iter(speakers))) if len(speakers) == 1 else None


def sampling_weights(labels: Sequence[int]) -> Tensor:
    """Return the probability of drawing each utterance ``[N]`` that makes every class equally likely.

    Utterances without a class (negative) are drawn as often as without balancing: 1/N each.
    """
    numbers = torch.as_tensor(labels)
    known = numbers >= 0
    balanced = 1.0 / torch.bincount(numbers[known])[numbers[known]].double()
    balanced = balanced / balanced.sum()
    if known.all():
        return balanced
    weights = torch.full((len(numbers),), 1 / len(numbers), dtype=torch.float64)
    weights[known] = balanced * known.double().mean()
    return weights
