"""Compute cross-correlation based saliency (CCS) of dimensions and layers.

The paper's eq. 1 writes ``σ_H`` without a bar; here it is the standard deviation of the utterance means, as in eq. 2,
since only then the term is a correlation and equals ``w``. A dimension or target that does not vary has correlation 0
with everything, hence saliency 0.
"""

from __future__ import annotations

from torch import Tensor

from s3prl_emotion.saliency.checks import checked_pair
from s3prl_emotion.saliency.moments import StreamedMoments


def cross_correlation_saliency(embeddings: Tensor, targets: Tensor, per_target: bool = False) -> Tensor:
    """Compute the CCS of each dimension, Mitra et al. 2024, eqs. 1-3.

    ``S_k = |corr(H_k, L)| + 1 / (N - 1) Σ_{j ≠ k} |corr(H_j, L)| |corr(H_k, H_j)|``, and its mean over the targets L.
    With N = 1 there is no other dimension and the second term is 0; with U = 1 everything is 0.

    Args:
        embeddings: utterance means, ``[U, N]``
        targets: labels, ``[U, D]``
        per_target: return eq. 1 for each target instead of their mean (eq. 3)

    Returns:
        ``[N]``, or ``[D, N]`` with ``per_target``; float64, from 0 to 2

    Raises:
        EmotionError: mismatched shapes, no utterance, or embeddings that are not finite
        LabelError: targets that are not finite, or for another number of utterances
    """
    embeddings, targets = checked_pair(embeddings, targets)
    moments = StreamedMoments(1, embeddings.shape[1], targets.shape[1])
    moments.update(embeddings.unsqueeze(1), targets)
    return moments.cross_correlation_saliency(per_target)[0].to(embeddings.device)


def layer_saliency(embeddings: Tensor, targets: Tensor, per_target: bool = False) -> Tensor:
    """Compute the saliency of each layer, the mean CCS over dimensions and targets (Mitra et al. 2025, eqs. 1-3).

    Eq. 3 drops the dimension's index without saying how dimensions are combined; here it is the mean (a sum ranks the
    layers alike). The paper computes it from 30,000 utterances drawn from the training set. For a corpus that does not
    fit into memory use :class:`~s3prl_emotion.saliency.StreamedMoments`.

    Args:
        embeddings: utterance means of all layers, ``[U, L, N]``
        targets: labels, ``[U, D]``
        per_target: return it for each target (the paper's Figs. 2-3) instead of their mean

    Returns:
        ``[L]``, or ``[D, L]`` with ``per_target``; float64

    Raises:
        EmotionError: as :func:`cross_correlation_saliency`
        LabelError: as :func:`cross_correlation_saliency`
    """
    embeddings, targets = checked_pair(embeddings, targets, layers=True)
    moments = StreamedMoments(embeddings.shape[1], embeddings.shape[2], targets.shape[1])
    moments.update(embeddings, targets)
    return moments.layer_saliency(per_target).to(embeddings.device)
