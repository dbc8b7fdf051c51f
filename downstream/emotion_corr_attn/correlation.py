"""Weighted channel-wise correlation as one batched operation with a hand-written gradient.

Autograd would keep about fifteen tensors as large as the features or the correlation matrices, and read each again. The
hand-written backward pass is one batched matrix product and a few element-wise passes, which makes correlation pooling
cheap on a CPU (measured by ``benchmarks/pooling.py``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s3prl_emotion.masking import guarded_sqrt


def weighted_correlation(features: Tensor, weights: Tensor, eps: float) -> Tensor:
    """Return the correlation of every pair of channels; Kakouros et al. 2023, eqs. 5-6 (eq. 4 where w_t = 1/T).

    Args:
        features: ``[B, T, D]``, finite everywhere, including padding
        weights: of the frames, ``[B, T]``: at least 0, each row sums to 1, 0 at padded frames
        eps: added to each product of two standard deviations (eq. 5)

    Returns:
        the upper triangle without the diagonal, in row-major order, ``[B, D (D - 1) / 2]``, in [-1, 1]
    """
    return _WeightedCorrelation.apply(features, weights, eps)


class _WeightedCorrelation(torch.autograd.Function):
    """``C = Σ / (s s' + ε)`` with ``Σ = Σ_t w_t (v_t - μ)(v_t - μ)'``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, eps: float) -> Tensor:
        mean = torch.bmm(weights.unsqueeze(1), features)  # μ, [B, 1, D]
        centred = features - mean  # v_t - μ, [B, T, D]
        mean += torch.bmm(weights.unsqueeze(1), centred)  # corrects its rounding, else a constant channel seems to vary
        torch.sub(features, mean, out=centred)
        covariance = torch.bmm((centred * weights.unsqueeze(-1)).transpose(1, 2), centred)  # Σ, [B, D, D]
        std = guarded_sqrt(covariance.diagonal(dim1=1, dim2=2))  # s, [B, D]
        correlation = covariance.div_(_scale(std, eps))  # C, [B, D, D]
        ctx.save_for_backward(centred, weights, std, correlation)
        ctx.eps = eps
        pairs = correlation.flatten(1).index_select(1, _positions(correlation.shape[-1], correlation.device))
        return pairs.clamp_(-1.0, 1.0)  # rounding may exceed 1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        centred, weights, std, correlation = ctx.saved_tensors
        # dL/dC with both triangles, so that, with Σ = Σ', one product with v_t below suffices instead of two.
        symmetric = grad.index_select(1, _mirrored(correlation.shape[-1], grad.device)).view_as(correlation)
        diagonal = symmetric.diagonal(dim1=1, dim2=2)
        diagonal.zero_()
        scale = _scale(std, ctx.eps)
        symmetric /= scale
        # dL/ds_i = -Σ_j dL/dC_ij C_ij s_j / S_ij reaches Σ through its diagonal; where s = 0 it is defined as 0.
        slope = -torch.bmm(torch.mul(symmetric, correlation, out=scale), std.unsqueeze(2)).squeeze(2)
        diagonal.copy_(torch.where(std > 0, slope / std, 0.0))
        # μ needs no term of its own: Σ_t w_t (v_t - μ) = 0.
        pulled = torch.bmm(centred, symmetric)  # [B, T, D]
        grad_weights = 0.5 * torch.linalg.vecdot(pulled, centred) if ctx.needs_input_grad[1] else None
        grad_features = pulled.mul_(weights.unsqueeze(-1)) if ctx.needs_input_grad[0] else None
        return grad_features, grad_weights, None


def _scale(std: Tensor, eps: float) -> Tensor:
    """``S = s s' + ε`` of eq. 5, ``[B, D, D]``."""
    return (std.unsqueeze(2) * std.unsqueeze(1)).add_(eps)


@lru_cache(maxsize=8)
def _positions(size: int, device: torch.device) -> Tensor:
    """Return the positions of the upper triangle in a flattened matrix; row-major, without the diagonal."""
    rows, columns = torch.triu_indices(size, size, offset=1, device=device)
    return rows * size + columns


@lru_cache(maxsize=8)
def _mirrored(size: int, device: torch.device) -> Tensor:
    """Return, for each position of a flattened symmetric matrix, its index in the upper triangle; 0 on the diagonal."""
    rows, columns = torch.triu_indices(size, size, offset=1, device=device)
    indices = torch.zeros(size, size, dtype=torch.long, device=device)
    indices[rows, columns] = torch.arange(len(rows), device=device)
    return (indices + indices.t()).flatten()
