"""What saliency is computed from: checked, centred."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_emotion.errors import EmotionError, LabelError

LARGEST = 1e100  # so that squares and their sums stay finite in float64


def checked_pair(embeddings: Tensor, targets: Tensor, layers: bool = False) -> tuple[Tensor, Tensor]:
    """Embeddings ``[U, N]`` (``[U, L, N]`` with ``layers``) and targets ``[U, D]``, as they came, checked.

    Raises:
        EmotionError: shapes that do not fit, no utterance, embeddings that are not finite
        LabelError: targets that are not finite
    """
    embeddings, targets = checked_embeddings(embeddings, layers), torch.as_tensor(targets)
    if targets.dim() != 2 or targets.shape[1] == 0:
        raise LabelError(f"saliency: targets {list(targets.shape)} must be [U, D], a row of labels for each utterance")
    if len(targets) != len(embeddings):
        raise LabelError(f"saliency: embeddings of {len(embeddings)} utterances but targets of {len(targets)}")
    if not in_range(targets):
        row = int((~_fits(targets)).any(dim=1).nonzero()[0])
        raise LabelError(
            f"saliency: the targets of utterance {row} are not finite: {targets[row].tolist()}; leave utterances"
            " without labels out"
        )
    return embeddings, targets


def checked_embeddings(embeddings: Tensor, layers: bool = False) -> Tensor:
    """Embeddings, as :func:`checked_pair` says."""
    embeddings = torch.as_tensor(embeddings)
    if embeddings.dim() != (3 if layers else 2) or 0 in embeddings.shape:
        shape = "[U, L, N]" if layers else "[U, N]"
        raise EmotionError(f"saliency: embeddings {list(embeddings.shape)} must be {shape}, with nothing empty")
    if not in_range(embeddings):
        row = int((~_fits(embeddings)).flatten(1).any(dim=1).nonzero()[0])
        raise EmotionError(f"saliency: the embedding of utterance {row} is not finite; check its audio")
    return embeddings


def in_range(values: Tensor) -> bool:
    """Whether all values are finite, and no larger than float64 can square."""
    return bool(_fits(values).all())


def _fits(values: Tensor) -> Tensor:
    return values.abs() < LARGEST if values.dtype == torch.float64 else torch.isfinite(values)  # NaN compares false


def centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``[U, N]`` minus their mean over the rows, and that mean ``[N]``.

    A column whose values are all the same gives exactly 0 and that value, not the rounding of its mean.
    """
    first = values[:1]
    rest = values - first
    mean = rest.mean(dim=0)
    return rest - mean, first.squeeze(0) + mean
