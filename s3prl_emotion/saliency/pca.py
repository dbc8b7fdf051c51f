"""Projection to principal components, which Mitra et al. 2024 (Table 3) compare with selecting salient dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.saliency.checks import centred, checked_embeddings


@dataclass(frozen=True)
class PCAProjection:
    """A fitted projection, in plain float64 tensors.

    Attributes:
        mean: ``[N]``
        components: orthonormal rows, most variance first, ``[K, N]``; the largest entry of each is positive
        variance: along each component (population, ÷ U), ``[K]``
        total_variance: over all N dimensions, scalar
    """

    mean: Tensor
    components: Tensor
    variance: Tensor
    total_variance: Tensor

    def transform(self, features: Tensor) -> Tensor:
        """Project ``[..., N]`` to ``[..., K]``, in the features' own precision."""
        return (features - self.mean.to(features)) @ self.components.to(features).T


def pca_projection(embeddings: Tensor, components: int) -> PCAProjection:
    """Fit principal components to utterance means.

    The paper does not say whether its PCA saw frames or utterances: here it sees what CCS and MIS see. Dimensions are
    centred and not scaled.

    Args:
        embeddings: utterance means, ``[U, N]``
        components: K, from 1 to N; beyond the rank of the data they have variance 0

    Raises:
        ConfigError: ``components`` out of range
        EmotionError: shapes that do not fit, no utterance, or embeddings that are not finite
    """
    rows, mean = centred(checked_embeddings(embeddings).double())
    return projection(mean, rows.T @ rows / len(rows), components)


def projection(mean: Tensor, covariance: Tensor, components: int) -> PCAProjection:
    """Principal components of a covariance matrix ``[N, N]``."""
    if not 1 <= components <= len(mean):
        raise ConfigError(f"saliency: {components} principal components of {len(mean)} dimensions; ask for 1 to all")
    variance, vectors = torch.linalg.eigh(covariance)  # ascending, columns
    rows = vectors.T.flip(0)[:components]
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    rows = rows * torch.where(largest < 0, -1.0, 1.0).to(rows)  # a solver may give either sign
    kept = variance.flip(0)[:components].clamp(min=0.0)  # rounding may pass 0
    return PCAProjection(mean, rows.contiguous(), kept, covariance.diagonal().sum())
