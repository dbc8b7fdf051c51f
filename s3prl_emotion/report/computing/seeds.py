"""Compute the scores of seeds: the mean over the folds of each, and its spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SeedScores:
    """A metric of a system over seeds, each of which counts with its mean over the folds.

    Attributes:
        seeds: number of seeds that have all folds
        of: number of seeds that have any
        folds: number of folds
        mean: mean over the seeds
        std: standard deviation over the seeds (n - 1)
        low: lowest mean of a seed
        high: highest mean of a seed
    """

    seeds: int
    of: int
    folds: int
    mean: float
    std: float
    low: float
    high: float


def scores_of_seeds(values: Mapping[tuple[str, int | None], float]) -> SeedScores | None:
    """Return the scores of seeds, or ``None`` unless two or more have all folds (Neumann & Vu 2019, Table 1).

    A seed that lacks a fold is left out: folds differ in difficulty, so its mean could not be compared.

    Args:
        values: value of a metric in each run, by fold and seed
    """
    folds = dict.fromkeys(fold for fold, _ in values)
    seeds = dict.fromkeys(seed for _, seed in values if seed is not None)
    whole = [seed for seed in seeds if all((fold, seed) in values for fold in folds)]
    if len(whole) < 2:
        return None
    means = np.array([np.mean([values[fold, seed] for fold in folds]) for seed in whole])
    spread = (float(means.mean()), float(means.std(ddof=1)), float(means.min()), float(means.max()))
    return SeedScores(len(whole), len(seeds), len(folds), *spread)
