"""Fit principal components, which Mitra et al. 2024 (Table 3) compare with selecting salient dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.saliency.checks import centred, checked_embeddings
from s3prl_emotion.upstreams.saliency_file import PCAProjection


def pca_projection(embeddings: Tensor, components: int) -> PCAProjection:
    """Fit principal components to utterance means.

    The paper does not say whether its PCA was fitted to frames or utterances; here it is utterance means, as for CCS
    and MIS. Dimensions are centred and not scaled.

    Args:
        embeddings: utterance means, ``[U, N]``
        components: number of components K, from 1 to N; beyond the data's rank they have variance 0

    Raises:
        ConfigError: ``components`` out of range
        EmotionError: mismatched shapes, no utterance, or embeddings that are not finite
    """
    rows, mean = centred(checked_embeddings(embeddings).double())
    return projection(mean, rows.T @ rows / len(rows), components)


def projection(mean: Tensor, covariance: Tensor, components: int) -> PCAProjection:
    """Return the principal components of a covariance matrix ``[N, N]``."""
    if not 1 <= components <= len(mean):
        raise ConfigError(f"saliency: {components} principal components of {len(mean)} dimensions; choose 1 to all")
    variance, vectors = torch.linalg.eigh(covariance)  # ascending, columns
    rows = vectors.T.flip(0)[:components]
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    rows = rows * torch.where(largest < 0, -1.0, 1.0).to(rows)  # a solver may give either sign
    kept = variance.flip(0)[:components].clamp(min=0.0)  # rounding may be below 0
    return PCAProjection(mean, rows.contiguous(), kept, covariance.diagonal().sum())
