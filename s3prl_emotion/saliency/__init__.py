"""Compute which dimensions and layers of a representation carry emotion.

After Mitra et al. 2024 (section 3.3) and Mitra et al. 2025 (section 3). Saliency is computed from utterance means: the
mean of each dimension over an utterance's frames. CCS and layer saliency can also be computed in one pass over a corpus
of any size (:class:`StreamedMoments`). ``s3prl-emotion saliency`` writes them to a file that recipes name
(:class:`SaliencyFile`).
"""

from __future__ import annotations

from s3prl_emotion.saliency.cross_correlation import cross_correlation_saliency, layer_saliency
from s3prl_emotion.saliency.moments import StreamedMoments
from s3prl_emotion.saliency.mutual_information import mutual_information_saliency, pairwise_mutual_information
from s3prl_emotion.saliency.pca import pca_projection
from s3prl_emotion.upstreams.saliency_file import PCAProjection, SaliencyFile
from s3prl_emotion.upstreams.salient import salient_dimensions, salient_layer

__all__ = [
    "PCAProjection",
    "SaliencyFile",
    "StreamedMoments",
    "cross_correlation_saliency",
    "layer_saliency",
    "mutual_information_saliency",
    "pairwise_mutual_information",
    "pca_projection",
    "salient_dimensions",
    "salient_layer",
]
