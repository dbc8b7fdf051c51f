"""Select the most salient layer and dimensions by their scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s3prl_emotion.errors import ConfigError, EmotionError


def salient_layer(scores: Tensor) -> int:
    """Return the most salient layer by scores ``[L]``; of equal ones the lowest, which is the cheapest to compute.

    Raises:
        EmotionError: no scores, or one that is not finite
    """
    scores = _checked_scores(scores)
    return int((scores == scores.max()).nonzero()[0])


def salient_dimensions(scores: Tensor, keep: float) -> Tensor:
    """Return the dimensions to keep, Mitra et al. 2024, Table 2 (keep 0.8, 0.6, 0.4).

    Args:
        scores: saliency, ``[N]``
        keep: share of the dimensions, in (0, 1]; their number is rounded to the nearest (halves up), at least 1

    Returns:
        indices in ascending order, int64; of equally salient dimensions the lower ones are kept

    Raises:
        ConfigError: ``keep`` out of range
        EmotionError: no scores, or one that is not finite
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"saliency: keep is {keep}; it must be above 0 and at most 1, e.g. 0.8")
    scores = _checked_scores(scores)
    number = max(1, math.floor(keep * len(scores) + 0.5))
    return scores.argsort(descending=True, stable=True)[:number].sort().values


def _checked_scores(scores: Tensor) -> Tensor:
    scores = torch.as_tensor(scores)
    if scores.dim() != 1 or len(scores) == 0 or not bool(torch.isfinite(scores).all()):
        raise EmotionError(f"saliency: scores {list(scores.shape)} must be a list of finite numbers")
    return scores
