"""Compute mutual-information based saliency (MIS): eqs. 1-3 with correlations replaced by mutual information.

The plug-in estimator over bins of equal mass is used, with Miller's correction. Bins of ranks make it invariant to
scale and to any monotone map, as mutual information is; and the joint counts of all pairs are products of 0/1 matrices,
which CPUs and GPUs compute at full speed. Nearest neighbours (scikit-learn's ``mutual_info_regression``) need a search
tree
for every pair: hours for 1024 x 1024 pairs. A Gaussian copula would be cheaper, but measures only monotone dependence,
which CCS measures too. `benchmarks/saliency.py` compares the estimators.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s3prl_emotion.errors import ConfigError, EmotionError
from s3prl_emotion.saliency.checks import checked_embeddings, checked_pair
from s3prl_emotion.saliency.dependence import combine

MOST_BINS = 16
PER_CELL = 5  # expected utterances in a cell of two independent dimensions (Cochran's rule)
COLUMNS = 64  # columns that are sorted at a time
GROUP = 1024  # columns of the 0/1 matrices that are multiplied at a time
ROWS = 4095  # utterances that are counted at a time; two counts fit into the 24 bits of a float32
HIGH = 4096  # what an utterance adds to the second count


def mutual_information_saliency(
    embeddings: Tensor, targets: Tensor, per_target: bool = False, bins: int | None = None
) -> Tensor:
    """Compute the MIS of each dimension: eqs. 1-3 of Mitra et al. 2024 with mutual information for correlations.

    ``S_k = I(H_k; L) + 1 / (N - 1) Σ_{j ≠ k} I(H_j; L) I(H_k; H_j)``, and its mean over the targets L, in nats. A
    dimension or target that does not vary has saliency 0; the information of a dimension with its duplicate, which is
    infinite, is counted as that of its bins.

    Args:
        embeddings: utterance means, ``[U, N]``
        targets: labels, ``[U, D]``
        per_target: return it for each target instead of their mean
        bins: see :func:`pairwise_mutual_information`

    Returns:
        ``[N]``, or ``[D, N]`` with ``per_target``; float64, not negative

    Raises:
        ConfigError: fewer than 2 bins, or more than 256
        EmotionError: mismatched shapes, no utterance, or embeddings that are not finite
        LabelError: targets that are not finite, or of another number of utterances
    """
    embeddings, targets = checked_pair(embeddings, targets)
    number = _number_of_bins(len(embeddings), bins)
    codes, target_codes = quantile_bins(embeddings, number), quantile_bins(targets.to(embeddings.device), number)
    scores = combine(_between(target_codes, codes, number), _within(codes, number))
    return scores if per_target else scores.mean(dim=0)


def pairwise_mutual_information(first: Tensor, second: Tensor | None = None, bins: int | None = None) -> Tensor:
    """Compute the mutual information of each pair of columns, in nats.

    Args:
        first: ``[U, A]``
        second: ``[U, B]``; by default ``first``
        bins: number of bins of equal mass per column, by default from 2 to 16, so that a cell of two independent
            columns holds 5 utterances on average. Equal values share a bin, so that labels may have few values.

    Returns:
        ``[A, B]``, float64, from 0 (negative estimates become 0) to about ``log(bins)``

    Raises:
        ConfigError: fewer than 2 bins, or more than 256
        EmotionError: mismatched shapes, no row, or values that are not finite
    """
    first = checked_embeddings(first)
    number = _number_of_bins(len(first), bins)
    codes = quantile_bins(first, number)
    if second is None:
        return _within(codes, number)
    second = checked_embeddings(second)
    if len(second) != len(first):
        raise EmotionError(f"saliency: mutual information of {len(first)} rows with {len(second)} rows")
    return _between(codes, quantile_bins(second.to(first.device), number), number)


def quantile_bins(values: Tensor, bins: int) -> Tensor:
    """Return the bin of each value in its column; bins have equal mass, equal values share the bin of their mean rank.

    Args:
        values: ``[U, N]``
        bins: number of bins

    Returns:
        ``[U, N]``, int64, from 0 to ``bins - 1``
    """
    result = torch.empty(values.shape, dtype=torch.int64, device=values.device)
    for start in range(0, values.shape[1], COLUMNS):
        part = values[:, start : start + COLUMNS]
        columns = part.to(torch.promote_types(part.dtype, torch.float32)).T.contiguous()
        ranked = columns.sort(dim=1).values
        below = torch.searchsorted(ranked, columns, right=False)
        up_to = torch.searchsorted(ranked, columns, right=True)
        result[:, start : start + COLUMNS] = ((below + up_to) * bins // (2 * len(values))).T
    return result


def _number_of_bins(utterances: int, bins: int | None) -> int:
    if bins is None:
        return min(MOST_BINS, max(2, math.isqrt(utterances // PER_CELL)))
    if not 2 <= bins <= 256:
        raise ConfigError(f"saliency: {bins} bins for mutual information; ask for 2 to 256")
    return bins


def _within(codes: Tensor, bins: int) -> Tensor:
    """Return the information of each pair of columns, ``[N, N]``; one triangle is computed, the other copied."""
    number, step = codes.shape[1], max(1, GROUP // bins)
    result = torch.zeros(number, number, dtype=torch.float64, device=codes.device)
    for start in range(0, number, step):
        rows = slice(start, start + step)
        for other in range(start, number, step):
            columns = slice(other, other + step)
            block = _information(codes[:, rows], codes[:, columns], bins)
            result[rows, columns] = block
            result[columns, rows] = block.T
    return result


def _between(first: Tensor, second: Tensor, bins: int) -> Tensor:
    """Return the information of each column of one with each of the other, ``[A, B]``."""
    step = max(1, GROUP // bins)
    parts = [
        [_information(rows, columns, bins) for columns in second.split(step, dim=1)]
        for rows in first.split(step, dim=1)
    ]
    return torch.cat([torch.cat(row, dim=1) for row in parts])


def _information(first: Tensor, second: Tensor, bins: int) -> Tensor:
    """Compute ``I = H(X) + H(Y) - H(X, Y)`` with Miller's correction, ``[A, B]`` from bins ``[U, A]`` and ``[U, B]``.

    Miller 1955, "Note on the bias of information estimates": each plug-in entropy is too low by about (occupied
    cells - 1) / (2 U). Negative estimates become 0.
    """
    utterances = len(first)
    counts = _joint_counts(first, second, bins).double()
    x, y = counts[:, :, 0].sum(dim=2), counts[0].sum(dim=0)  # of each column alone, [A, bins] and [B, bins]
    x_bins, y_bins = (x > 0).sum(dim=1).unsqueeze(1), (y > 0).sum(dim=1)
    correction = (x_bins + y_bins - (counts > 0).sum(dim=(1, 3)) - 1) / 2
    joint_sum = torch.xlogy(counts, counts).sum(dim=(1, 3))
    single_sums = torch.xlogy(x, x).sum(dim=1).unsqueeze(1) + torch.xlogy(y, y).sum(dim=1)
    information = math.log(utterances) + (joint_sum - single_sums + correction) / utterances
    varies = (x_bins > 1) & (y_bins > 1)  # a constant has information 0, up to rounding
    return torch.where(varies, information.clamp(min=0.0), 0.0)


def _joint_counts(first: Tensor, second: Tensor, bins: int) -> Tensor:
    """Count how often bins occur together, ``[A, bins, B, bins]``, whole numbers in float32 (exact below 2^24).

    This is a product of 0/1 matrices. In the second, bins 2 i and 2 i + 1 share a column, as 1 and as :data:`HIGH`,
    which halves the work.
    """
    half = (bins + 1) // 2
    low = torch.zeros(first.shape[1] * bins, second.shape[1] * half, device=first.device)
    high = torch.zeros_like(low)
    for start in range(0, len(first), ROWS):
        rows, others = first[start : start + ROWS], second[start : start + ROWS]
        ones, shared = torch.ones_like(rows), torch.where(others % 2 == 1, HIGH, 1)
        both = _columns(rows, bins, ones).T @ _columns(others // 2, half, shared)
        above = both.div(HIGH).floor_()
        high += above
        low += both.sub_(above, alpha=HIGH)
    counts = torch.stack([low, high], dim=-1)
    return counts.view(first.shape[1], bins, second.shape[1], 2 * half)[..., :bins]


def _columns(codes: Tensor, number: int, values: Tensor) -> Tensor:
    """Expand ``[U, N]`` to ``[U, N * number]``, float32: each value in the column of its code, 0 elsewhere."""
    columns = codes + number * torch.arange(codes.shape[1], device=codes.device)
    result = torch.zeros(len(codes), codes.shape[1] * number, device=codes.device)
    return result.scatter_(1, columns, values.float())
