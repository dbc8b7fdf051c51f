"""Combine measures of dependence to saliency: eqs. 1-2 of Mitra et al. 2024."""

from __future__ import annotations

import torch
from torch import Tensor


def absolute_correlations(covariance: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``|Cov(a, b) / (σa σb)|`` in [0, 1]; 0 where a standard deviation is 0.

    Args:
        covariance: ``[A, B]``
        rows: standard deviations, ``[A]``
        columns: standard deviations, ``[B]``
    """
    rows, columns = torch.where(rows > 0, rows, 1.0), torch.where(columns > 0, columns, 1.0)
    # Two divisions, since the product may overflow; where a deviation is 0, so is the covariance.
    return (covariance / rows.unsqueeze(1) / columns).abs_().clamp_(max=1.0)  # rounding may exceed 1


def combine(relevance: Tensor, between: Tensor) -> Tensor:
    """Apply eqs. 1-2 to a measure of dependence: ``S_k = w_k + 1 / (N - 1) Σ_{j ≠ k} w_j between_kj``.

    Args:
        relevance: dependence w of each dimension and each target, ``[D, N]``
        between: dependence of each pair of dimensions, symmetric, ``[N, N]``; its unused diagonal is set to 0

    Returns:
        ``[D, N]``
    """
    between.fill_diagonal_(0.0)  # j ≠ k
    return relevance + relevance @ between / max(len(between) - 1, 1)
