"""Cross-correlation based saliency (CCS) of dimensions and layers, and what is picked by it.

Where the paper's eq. 1 writes ``σ_H`` without a bar, the standard deviation of the utterance means is meant here, as in
eq. 2: only then is the term a correlation, and the same as ``w``. A dimension or target that does not vary has
correlation 0 with everything, hence saliency 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s3prl_emotion.errors import ConfigError, EmotionError
from s3prl_emotion.saliency.checks import checked_pair


def cross_correlation_saliency(embeddings: Tensor, targets: Tensor, per_target: bool = False) -> Tensor:
    """CCS of each dimension, Mitra et al. 2024, eqs. 1-3.

    ``S_k = |corr(H_k, L)| + 1 / (N - 1) Σ_{j ≠ k} |corr(H_j, L)| |corr(H_k, H_j)|``, and its mean over the targets L.
    With N = 1 there is no other dimension and the second term is 0; so is everything with U = 1.

    Args:
        embeddings: utterance means, ``[U, N]``
        targets: labels, ``[U, D]``
        per_target: eq. 1 of each target, not their mean (eq. 3)

    Returns:
        ``[N]``, or ``[D, N]`` with ``per_target``; float64, from 0 to 2

    Raises:
        EmotionError: shapes that do not fit, no utterance, or embeddings that are not finite
        LabelError: targets that are not finite, or of another number of utterances
    """
    from s3prl_emotion.saliency.moments import StreamedMoments  # deferred: it builds on this module

    embeddings, targets = checked_pair(embeddings, targets)
    moments = StreamedMoments(1, embeddings.shape[1], targets.shape[1])
    moments.update(embeddings.unsqueeze(1), targets)
    return moments.cross_correlation_saliency(per_target)[0].to(embeddings.device)


def layer_saliency(embeddings: Tensor, targets: Tensor, per_target: bool = False) -> Tensor:
    """Saliency of each layer, Mitra et al. 2025, eqs. 1-3: the mean CCS of the layer's dimensions, over the targets.

    Eq. 3 drops the dimension's index without saying how dimensions are put together; the mean is taken here (a sum
    ranks the layers alike). The paper computes it from 30,000 utterances drawn from the training set. For a corpus that
    does not fit into memory use :class:`~s3prl_emotion.saliency.StreamedMoments`.

    Args:
        embeddings: utterance means of all layers, ``[U, L, N]``
        targets: labels, ``[U, D]``
        per_target: of each target (the paper's Figs. 2-3), not their mean

    Returns:
        ``[L]``, or ``[D, L]`` with ``per_target``; float64

    Raises:
        EmotionError: as :func:`cross_correlation_saliency`
        LabelError: as :func:`cross_correlation_saliency`
    """
    from s3prl_emotion.saliency.moments import StreamedMoments  # deferred: it builds on this module

    embeddings, targets = checked_pair(embeddings, targets, layers=True)
    moments = StreamedMoments(embeddings.shape[1], embeddings.shape[2], targets.shape[1])
    moments.update(embeddings, targets)
    return moments.layer_saliency(per_target).to(embeddings.device)


def salient_layer(scores: Tensor) -> int:
    """The most salient layer of ``[L]``; of equal ones the lowest, for layers above it need not be computed.

    Raises:
        EmotionError: no score, or one that is not finite
    """
    scores = _checked_scores(scores)
    return int((scores == scores.max()).nonzero()[0])


def salient_dimensions(scores: Tensor, keep: float) -> Tensor:
    """Which dimensions to keep, Mitra et al. 2024, Table 2 (keep 0.8, 0.6, 0.4).

    Args:
        scores: saliency, ``[N]``
        keep: share of the dimensions, in (0, 1]; their number is rounded to the nearest (halves up), at least 1

    Returns:
        indices in ascending order, int64; of equally salient dimensions the lower ones are kept

    Raises:
        ConfigError: ``keep`` out of range
        EmotionError: no score, or one that is not finite
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"saliency: keep is {keep}; it must be above 0 and at most 1, e.g. 0.8")
    scores = _checked_scores(scores)
    number = max(1, math.floor(keep * len(scores) + 0.5))
    return scores.argsort(descending=True, stable=True)[:number].sort().values


def absolute_correlations(covariance: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``|Cov(a, b) / (σa σb)|`` in [0, 1]; 0 where a standard deviation is 0.

    Args:
        covariance: ``[A, B]``
        rows: standard deviations, ``[A]``
        columns: standard deviations, ``[B]``
    """
    rows, columns = torch.where(rows > 0, rows, 1.0), torch.where(columns > 0, columns, 1.0)
    # One after the other, for their product may overflow; where one is 0 so is the covariance.
    return (covariance / rows.unsqueeze(1) / columns).abs_().clamp_(max=1.0)  # rounding may pass 1


def combine(relevance: Tensor, between: Tensor) -> Tensor:
    """Eqs. 1-2 from a measure of dependence: ``S_k = w_k + 1 / (N - 1) Σ_{j ≠ k} w_j between_kj``.

    Args:
        relevance: of each dimension for each target, w, ``[D, N]``
        between: each pair of dimensions, symmetric, ``[N, N]``; its diagonal is not used and set to 0

    Returns:
        ``[D, N]``
    """
    between.fill_diagonal_(0.0)  # j ≠ k
    return relevance + relevance @ between / max(len(between) - 1, 1)


def _checked_scores(scores: Tensor) -> Tensor:
    scores = torch.as_tensor(scores)
    if scores.dim() != 1 or len(scores) == 0 or not bool(torch.isfinite(scores).all()):
        raise EmotionError(f"saliency: scores {list(scores.shape)} must be a list of finite numbers")
    return scores
