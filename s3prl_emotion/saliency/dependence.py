"""From measures of dependence to saliency: eqs. 1-2 of Mitra et al. 2024."""

from __future__ import annotations

import torch
from torch import Tensor


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
