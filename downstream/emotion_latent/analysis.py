"""Measure a latent space: its distances against label distances, and one corpus against another.

S. Das, "Influence of loss functions on the latent representation of speech emotions", 2022: the tables of adjusted R²
and of Spearman's correlation, and the scatter plots of transfer corpora.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.figures.canvas import new_figure, save_figure

MOST = 1000  # utterances of which all pairs are compared; of larger splits, a random sample of this size
SEED = 0
Rows = NDArray[np.float64]


def latent_metrics(latents: Rows, labels: Mapping[str, Rows], center: Rows, covariance: Rows) -> dict[str, Any]:
    """Return the entry ``latent`` of a metrics file.

    Args:
        latents: of the split, ``[U, E]``
        labels: activation and valence by name, ``[U]``, NaN where unknown
        center: mean of the training latents, ``[E]``
        covariance: of the training latents, ``[E, E]``

    Returns:
        plain numbers: by dimension, if two utterances or more have labels, ``utterances``, ``distance_R2`` and
        ``distance_Spearman`` as in :func:`distance_agreement` and ``label_R2`` as in :func:`explained`; for the whole
        split ``shift``, the distance of its distribution from the training split's as in :func:`gaussian_distance`, and
        ``relative_shift``, the same in units of the training latents' spread; ``None`` where undefined
    """
    result: dict[str, Any] = {}
    for name, values in labels.items():
        known = ~np.isnan(values)
        if known.sum() > 1:
            squared, rank = distance_agreement(latents[known], values[known])
            explained_part = explained(latents[known], values[known])
            result[name] = {"utterances": int(known.sum()), "distance_R2": squared, "distance_Spearman": rank}
            result[name]["label_R2"] = explained_part
    own = np.atleast_2d(np.cov(latents, rowvar=False, ddof=0))
    shift, spread = gaussian_distance(latents.mean(axis=0), own, center, covariance), math.sqrt(np.trace(covariance))
    return result | {"shift": shift, "relative_shift": shift / spread if spread > 0 else None}


def distance_agreement(latents: Rows, labels: Rows) -> tuple[float | None, float | None]:
    """Return adjusted R² and Spearman's correlation of latent with label distances over all pairs of utterances.

    The paper's R² is "the linear dependence of z_d on l_d"; it does not say over which pairs. Of more than
    :data:`MOST` utterances, a random sample of that size is used, always the same.

    Args:
        latents: ``[U, E]``
        labels: ``[U]``, finite

    Returns:
        adjusted R² of the line with intercept (at most 1, may be below 0), and Spearman's correlation in [-1, 1];
        ``None`` for fewer than three pairs or constant distances
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    if len(labels) > MOST:
        chosen = np.sort(np.random.default_rng(SEED).choice(len(labels), MOST, replace=False))
        latents, labels = latents[chosen], labels[chosen]
    between, apart = pdist(latents), pdist(labels[:, None])
    if len(apart) < 3 or np.ptp(apart) == 0 or np.ptp(between) == 0:
        return None, None
    correlation = float(np.corrcoef(apart, between)[0, 1])
    return adjusted(correlation**2, len(apart), 1), float(spearmanr(apart, between).statistic)


def explained(latents: Rows, labels: Rows) -> float | None:
    """Return adjusted R² of labels ``[U]`` as a linear function of latents ``[U, E]``, "linear dependence of l on z".

    Returns:
        at most 1, may be below 0; ``None`` for U <= E + 1 or constant labels
    """
    count, width = latents.shape
    total = float(np.square(labels - labels.mean()).sum())
    if count <= width + 1 or np.ptp(labels) == 0:
        return None
    design = np.column_stack([np.ones(count), latents])
    residual = labels - design @ np.linalg.lstsq(design, labels, rcond=None)[0]
    return adjusted(1 - float(np.square(residual).sum()) / total, count, width)


def adjusted(squared: float, count: int, regressors: int) -> float:
    """Return ``1 - (1 - R²)(n - 1) / (n - k - 1)`` for n observations and k regressors."""
    return 1 - (1 - squared) * (count - 1) / (count - regressors - 1)


def gaussian_distance(first: Rows, first_covariance: Rows, second: Rows, second_covariance: Rows) -> float:
    """Return the 2-Wasserstein (Fréchet) distance of two normal distributions.

    ``d² = |μ1 - μ2|² + tr(C1 + C2 - 2 (C1^½ C2 C1^½)^½)``, Dowson & Landau 1982; the paper shows only scatter plots.

    Args:
        first: mean, ``[E]``
        first_covariance: ``[E, E]``
        second: mean, ``[E]``
        second_covariance: ``[E, E]``

    Returns:
        d, at least 0, in units of the latent
    """
    root = _root(first_covariance)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second_covariance @ root), 0, None)).sum()
    squared = np.square(first - second).sum() + np.trace(first_covariance) + np.trace(second_covariance) - 2 * cross
    return math.sqrt(max(0.0, float(squared)))


def _root(matrix: Rows) -> Rows:
    """Return the square root of a symmetric matrix whose eigenvalues are negative only by rounding."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def plot_latents(
    path: Path, training: Rows, training_classes: Sequence[str], split: Rows, classes: Sequence[str], title: str
) -> Path:
    """Plot training latents ``[S, E]`` (dots) and a split's ``[U, E]`` (crosses) by class, and return the path.

    The plane is spanned by the first two principal components of the training latents, so that plots of several splits
    have the same axes.

    Raises:
        TrainingError: the file cannot be written
    """
    from matplotlib import colormaps

    center = training.mean(axis=0)
    axes_of = np.linalg.svd(training - center, full_matrices=False)[2][:2]
    words = sorted({*training_classes, *classes})
    figure, axes = new_figure(6.0, 5.2)
    for rows, names, marker, what in ((training, training_classes, "o", "training"), (split, classes, "x", title)):
        points = (rows - center) @ axes_of.T
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))  # a latent of one dimension
        for number, word in enumerate(words):
            inside = np.array([name == word for name in names], dtype=bool)
            label = f"{word}, {what}".replace("$", r"\$")
            colour = colormaps["tab10"](number % 10)
            axes.scatter(*points[inside].T, s=18, marker=marker, color=colour, linewidths=0.9, alpha=0.6, label=label)
    axes.set(xlabel="first principal component", ylabel="second")
    figure.legend(loc="outside lower center", ncols=min(4, len(words)), fontsize=8, frameon=False)
    return save_figure(figure, path)
