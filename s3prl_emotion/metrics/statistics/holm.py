"""Correct p-values for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted by Holm's method; those below 0.05 are significant at a family-wise error of 5 %.

    Holm 1979: the i-th smallest of n is multiplied by n - i + 1, and is at least as large as those before it.

    Args:
        p_values: p-values of all comparisons of a family, ``[n]``; NaN for one that could not be made, which is not
            counted

    Returns:
        adjusted p-values in [0, 1], in the same order, NaN where the input is

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(given, np.nan)
    made = np.flatnonzero(np.isfinite(given))
    order = made[np.argsort(given[made], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
