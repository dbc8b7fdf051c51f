"""Measure how well one category predicts another beyond chance, such as speakers and emotions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 499  # permutations of the labels: the smallest p-value is 1 / 500
SEED = 0


@dataclass(frozen=True)
class Association:
    """Association between two categories.

    Attributes:
        cramers_v: in [0, 1], corrected for bias (Bergsma 2013), so that it is about 0 for independent categories, even
            with many small groups
        explained: share of the second category's entropy that the first explains, beyond what it explains of permuted
            labels; in [0, 1]
        p_value: probability that the first explains as much of permuted labels
    """

    cramers_v: float
    explained: float
    p_value: float


def association(left: Sequence[str], right: Sequence[str], resamples: int = RESAMPLES) -> Association | None:
    """Measure the association; ``None`` if one of the categories has a single value.

    Args:
        left: such as speakers, ``[N]``
        right: such as emotions, ``[N]``
        resamples: number of permutations of ``right``
    """
    lefts, rows = np.unique(np.asarray(left, dtype=str), return_inverse=True)
    rights, columns = np.unique(np.asarray(right, dtype=str), return_inverse=True)
    if len(lefts) < 2 or len(rights) < 2:
        return None
    number, shape = len(rows), (len(lefts), len(rights))
    cells = rows * len(rights)

    def counts(order: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(cells + order, minlength=shape[0] * shape[1])

    observed = counts(columns)
    entropy = _entropy(np.bincount(columns), number)
    margins = _entropy(np.bincount(rows), number) + entropy
    generator = np.random.default_rng(SEED)
    chance = np.array([margins - _entropy(counts(generator.permutation(columns)), number) for _ in range(resamples)])
    information = margins - _entropy(observed, number)  # mutual information, nats
    p_value = (1 + int((chance >= information - 1e-12).sum())) / (1 + resamples)
    above = (information - chance.mean()) / max(entropy - chance.mean(), 1e-12)
    return Association(_cramers_v(observed.reshape(shape)), float(np.clip(above, 0.0, 1.0)), p_value)


def _entropy(counts: NDArray[np.int64], number: int) -> float:
    shares = counts[counts > 0] / number
    return float(-(shares * np.log(shares)).sum())


def _cramers_v(table: NDArray[np.int64]) -> float:
    from scipy.stats import chi2_contingency

    number = table.sum()
    phi = chi2_contingency(table, correction=False).statistic / number
    rows, columns = table.shape
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (number - 1))
    rows, columns = rows - (rows - 1) ** 2 / (number - 1), columns - (columns - 1) ** 2 / (number - 1)
    least = min(rows, columns) - 1
    return float(min(1.0, np.sqrt(phi / least))) if least > 1e-9 else 0.0
