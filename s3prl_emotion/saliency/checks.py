"""Check and centre embeddings and targets."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_emotion.errors import EmotionError, LabelError

LARGEST = 1e100  # so that squares and their sums stay finite in float64


def checked_pair(embeddings: Tensor, targets: Tensor, layers: bool = False) -> tuple[Tensor, Tensor]:
    """Check embeddings ``[U, N]`` (``[U, L, N]`` with ``layers``) and targets ``[U, D]``, and return them as tensors.

    Raises:
        EmotionError: mismatched shapes, no utterance, or embeddings that are not finite
        LabelError: targets that are not finite
    """
    embeddings, targets = checked_embeddings(embeddings, layers), torch.as_tensor(targets)
    if targets.dim() != 2 or targets.shape[1] == 0:
        raise LabelError(f"saliency: targets {list(targets.shape)} must be [U, D], a row of labels per utterance")
    if len(targets) != len(embeddings):
        raise LabelError(f"saliency: embeddings of {len(embeddings)} utterances but targets of {len(targets)}")
    if not in_range(targets):
        row = int((~_fits(targets)).any(dim=1).nonzero()[0])
        raise LabelError(
            f"saliency: the targets of utterance {row} are not finite: {targets[row].tolist()}; leave out"
            " utterances without labels"
        )
    return embeddings, targets


def checked_embeddings(embeddings: Tensor, layers: bool = False) -> Tensor:
    """Check embeddings as :func:`checked_pair` does."""
    embeddings = torch.as_tensor(embeddings)
    if embeddings.dim() != (3 if layers else 2) or 0 in embeddings.shape:
        shape = "[U, L, N]" if layers else "[U, N]"
        raise EmotionError(f"saliency: embeddings {list(embeddings.shape)} must be {shape}, no dimension 0")
    if not in_range(embeddings):
        row = int((~_fits(embeddings)).flatten(1).any(dim=1).nonzero()[0])
        raise EmotionError(f"saliency: the embedding of utterance {row} is not finite; check its audio")
    return embeddings


def in_range(values: Tensor) -> bool:
    """Return whether all values are finite and small enough to be squared in float64."""
    return bool(_fits(values).all())


def _fits(values: Tensor) -> Tensor:
    return values.abs() < LARGEST if values.dtype == torch.float64 else torch.isfinite(values)  # NaN compares false


def centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values ``[U, N]`` minus their mean over the rows, and that mean ``[N]``.

    A constant column gives exactly 0 and its value, without rounding errors of the mean.
    """
    first = values[:1]
    rest = values - first
    mean = rest.mean(dim=0)
    return rest - mean, first.squeeze(0) + mean
