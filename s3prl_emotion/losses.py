"""Losses that several heads share: minus the concordance correlation coefficient (CCC), and losses of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class FocalLoss(nn.Module):
    """Cross-entropy that weighs an utterance less, the better it is classified; Lin et al. 2017, eqs. 4-5.

    ``-α_y (1 - p_y)^γ log p_y`` for an utterance of class y, where ``p`` is the softmax of its logits (the paper has
    independent sigmoids). The mean over a batch is divided by the sum of its α_y, as torch's cross-entropy is, so that
    γ = 0 is that cross-entropy.

    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, "Focal loss for dense object detection", ICCV 2017.

    Args:
        gamma: γ, at least 0
        weight: α of each class ``[K]``, K >= 2; ``None``: 1
    """

    weight: Tensor | None

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits ``[B, K]`` and class indices ``[B]``; at least 0, float32 or float64."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        index = target.unsqueeze(1)
        log_p = functional.log_softmax(logits, dim=1)
        # log(1 - p_y), from the other classes: the power of 1 - p_y has no finite gradient where p_y rounds to 1
        log_rest = log_p.scatter(1, index, -torch.inf).logsumexp(dim=1)
        each = -(self.gamma * log_rest).exp() * log_p.gather(1, index).squeeze(1)
        if self.weight is None:
            return each.mean()
        weight = self.weight.to(each)[target]
        return (weight * each).sum() / weight.sum()


def logit_offset(counts: Sequence[float], tau: float = 1.0) -> Tensor:
    """Return what is added to the logits in training on imbalanced classes, ``τ log π_k``.

    The cross-entropy of ``z + τ log π`` is the logit-adjusted loss of Menon et al. 2021, eq. 10. With τ = 1 it is the
    balanced softmax of Ren et al. 2020, eq. 4, ``-log(n_y e^{z_y} / Σ_k n_k e^{z_k})``. Its minimum over all functions
    is ``z_k = log p(x | k)`` up to a constant, so the largest of the plain logits z has the lowest mean of the classes'
    error rates.

    A. K. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. J. Ren et al., "Balanced meta-softmax for
    long-tailed visual recognition", NeurIPS 2020.

    Args:
        counts: training utterances of each class, each above 0, ``[K]``; π is their share
        tau: τ

    Returns:
        ``[K]``, none above 0
    """
    shares = torch.tensor(counts, dtype=torch.float64)
    return (tau * (shares / shares.sum()).log()).float()


class AdjustedLoss(nn.Module):
    """Cross-entropy of logits plus :func:`logit_offset`, against class indices or distributions.

    Args:
        offset: ``[K]``
    """

    offset: Tensor

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits ``[B, K]`` and class indices ``[B]``, or distributions ``[B, K]``."""
        return functional.cross_entropy(logits + self.offset, target)
