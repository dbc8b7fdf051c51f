"""Losses that several heads share: minus the concordance correlation coefficient (CCC)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_emotion.errors import EmotionError

# If σx² + σy² + (μx - μy)² is smaller, CCC counts as 0/0, since the reciprocal would overflow float32 in the gradient.
# That takes standard deviations below 1e-15, where labels span 1 to 7.
LEAST_DENOMINATOR = 1e-30
# The same where gradients are float16, whose largest value is 65504: standard deviations below 1e-4, a tenth of what
# float16 resolves at 1.
LEAST_DENOMINATOR_HALF = 1e-8


def concordance_loss(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return minus the mean concordance correlation coefficient of the columns; Mitra et al. 2024, eqs. 4-5.

    ``CCC = 2 ρ σx σy / (σx² + σy² + (μx - μy)²)``, where ``ρ σx σy`` is the covariance, with population moments (÷ B).
    This is the differentiable form, on tensors, of :func:`s3prl_emotion.metrics.dimension_scores.concordance`. The
    paper's alpha = beta = 1/3 are the equal weights that are the default here; Mitra et al. 2025, eq. 4, has the same
    loss for any number of columns.

    CCC is 0/0 in a column where prediction and target are the same constant. It is defined as 0 there, with gradient 0,
    like that of two different constants, so that a model gains nothing by collapsing to a constant. With B = 1 this is
    always the case: loss and gradient are 0.

    Args:
        prediction: ``[B, N]``, B >= 1
        target: ``[B, N]``, finite
        weights: weights of the columns, ``[N]``, none negative and not all 0; they are divided by their sum

    Returns:
        scalar in [-1, 1]; it and its statistics are float64 if an input is, otherwise float32

    Raises:
        EmotionError: shapes that do not fit, or B = 0
    """
    if prediction.dim() != 2 or prediction.shape != target.shape or 0 in prediction.shape:
        raise EmotionError(
            f"concordance_loss: prediction {list(prediction.shape)} and target {list(target.shape)} must both be [B, N]"
            " with B, N >= 1"
        )
    if weights is not None and weights.shape != prediction.shape[1:]:
        raise EmotionError(f"concordance_loss: weights {list(weights.shape)}, expected [{prediction.shape[1]}]")
    ccc = _concordance(prediction, target)
    if weights is None:
        return -ccc.mean()
    weights = weights.to(ccc)
    return -(ccc * weights).sum() / weights.sum()


def _concordance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the CCC of each column, ``[N]``; eq. 5."""
    kind = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    x, y = prediction.to(kind), target.to(kind)
    # Relative to their first rows, constant columns have moments of exactly 0 instead of rounding errors.
    x_from, y_from = x[:1].detach(), y[:1].detach()
    x, y = x - x_from, y - y_from
    x_mean, y_mean = x.mean(dim=0, keepdim=True), y.mean(dim=0, keepdim=True)
    apart = (x_from - y_from) + (x_mean - y_mean)
    x, y = x - x_mean, y - y_mean
    denominator = x.square().mean(dim=0) + y.square().mean(dim=0) + apart.square().squeeze(0)
    half = torch.float16 in (prediction.dtype, target.dtype)
    defined = denominator > (LEAST_DENOMINATOR_HALF if half else LEAST_DENOMINATOR)
    # Both branches of a `where` pass gradients back, so the unused one must be finite too.
    ccc = 2 * (x * y).mean(dim=0) / torch.where(defined, denominator, 1.0)
    return torch.where(defined, ccc, 0.0)
