"""Attentive convolutional network with multi-view learning: network and loss of Neumann & Vu 2019.

M. Neumann, N. T. Vu, "Improving speech emotion recognition with unsupervised representation learning on unlabeled
speech", ICASSP 2019. Equation and section numbers below are that paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.masking import frame_mask, without_padding

VIEWS = ("arousal", "valence")
LEVELS = 3  # low, medium, high
UNKNOWN = -100  # the index that torch's cross-entropy ignores


class AttentiveCNN(nn.Module):
    """Convolution over time, max pooling, attention over the pooled maps, linear layer: sections 2 and 4.2, Fig. 1.

    The 26 x 10 filters span all channels, so they slide only over time. An utterance shorter than a filter is extended
    with zeros to the filter's width. Filters and pooling windows see only frames of the utterance: the last pooling
    window may be smaller.

    Args:
        input_dim: channels, D (26 log-Mel bands)
        num_classes: K
        embedding_dim: size of an additional utterance embedding, E; 0 for none
        views: whether to output levels of arousal and valence too
        filters: number of filters, F
        width: of a filter (frames)
        stride: of the convolution (frames)
        pool: size and step of the max pooling (positions of the convolution)
        dropout: of the concatenated vector before the last layer
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        embedding_dim: int = 0,
        views: bool = True,
        filters: int = 200,
        width: int = 10,
        stride: int = 3,
        pool: int = 30,
        dropout: float = 0.8,
    ) -> None:
        super().__init__()
        self.width, self.stride, self.pool, self.embedding_dim = width, stride, pool, embedding_dim
        self.convolution = nn.Conv1d(input_dim, filters, width, stride)
        nn.init.xavier_uniform_(self.convolution.weight)  # "Glorot uniform initialization of kernel weights"
        self.attention = nn.Linear(filters, 1, bias=False)  # f(x) = W'x
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters + embedding_dim, num_classes + (LEVELS * len(VIEWS) if views else 0))

    def forward(self, features: Tensor, lengths: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Classify ``features [B, T, D]`` with ``lengths [B]`` and, given ``embedding_dim``, ``embedding [B, E]``.

        Returns:
            logits ``[B, K]`` of the classes; with ``views`` ``[B, K + 6]``: then the levels of arousal and valence
        """
        maps, inside = self.feature_maps(features, lengths)
        pooled = (self.weights(maps, inside).unsqueeze(-1) * maps).sum(dim=1)
        if self.embedding_dim:
            if embedding is None:
                raise ConfigError("modelrc.utterance_embeddings: the model takes an embedding, but none was given")
            pooled = torch.cat([pooled, embedding.to(pooled)], dim=-1)
        return self.output(self.dropout(pooled))

    def feature_maps(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled feature maps ``[B, P, F]``, and a mask ``[B, P]`` of the positions inside each utterance."""
        features = without_padding(features, frame_mask(lengths, features.shape[1]))
        features = functional.pad(features, (0, 0, 0, max(0, self.width - features.shape[1])))
        maps = self.convolution(features.transpose(1, 2))
        positions = (lengths.clamp(min=self.width) - self.width) // self.stride + 1
        with torch.no_grad():  # in place: -inf wins no maximum, so its gradient is 0 anyway
            maps.masked_fill_(~frame_mask(positions, maps.shape[2]).unsqueeze(1), -torch.inf)
        maps = functional.max_pool1d(maps, self.pool, ceil_mode=True).transpose(1, 2)
        inside = frame_mask(-(-positions // self.pool), maps.shape[1])
        # ReLU of the maximum is the maximum of the ReLU, over fewer numbers
        return torch.relu(without_padding(maps, inside)), inside

    def weights(self, maps: Tensor, inside: Tensor) -> Tensor:
        """Return the attention weights ``[B, P]`` of feature maps ``[B, P, F]``, eq. 1."""
        scores = self.attention(maps).squeeze(-1).float()
        return torch.softmax(scores.masked_fill(~inside, -torch.inf), dim=-1)

    def frame_weights(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the attention of each frame ``[B, T]``: the weight of its pooling window, divided among its frames.

        The last few frames, at which no filter begins, have weight 0.
        """
        weights = self.weights(*self.feature_maps(features, lengths))
        frames, total = self.pool * self.stride, features.shape[1]
        shared = (weights / frames).repeat_interleave(frames, dim=1)[:, :total]
        return functional.pad(shared, (0, total - shared.shape[1]))


class MultiViewLoss(nn.Module):
    """``(1 - α - β) L_emo + α L_aro + β L_val``, three cross-entropies; eq. 2.

    Unknown classes and levels (:data:`UNKNOWN`) do not count in the loss.

    Args:
        num_classes: K
        alpha: weight of arousal
        beta: weight of valence
        class_weight: weight of each class ``[K]``, or ``None``
        class_loss: mean loss of logits ``[B, K]`` and class indices ``[B]`` that replaces the cross-entropy of the
            classes with ``class_weight``

    Raises:
        ConfigError: alpha or beta is below 0, or they leave no weight for the classes
    """

    class_weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.2,
        beta: float = 0.2,
        class_weight: Tensor | None = None,
        class_loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if min(alpha, beta) < 0 or alpha + beta >= 1:
            raise ConfigError(f"modelrc: alpha ({alpha}) and beta ({beta}) must be at least 0 and sum to less than 1")
        self.num_classes, self.alpha, self.beta = num_classes, alpha, beta
        self.class_loss = class_loss
        self.register_buffer("class_weight", class_weight, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``[B, K]`` or ``[B, K + 6]`` against class, arousal and valence ``[B, 3]``."""
        k = self.num_classes
        weighted = partial(functional.cross_entropy, weight=self.class_weight)
        of_classes = weighted if self.class_loss is None else self.class_loss
        loss = (1 - self.alpha - self.beta) * _of_known(of_classes, output[:, :k], target[:, 0])
        if output.shape[1] > k:
            arousal, valence = output[:, k:].split(LEVELS, dim=1)
            loss = loss + self.alpha * _of_known(functional.cross_entropy, arousal, target[:, 1])
            loss = loss + self.beta * _of_known(functional.cross_entropy, valence, target[:, 2])
        return loss


def _of_known(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss over known targets; 0, with a gradient of 0, if there are none."""
    known = target != UNKNOWN
    return loss(logits[known].float(), target[known]) if known.any() else logits.sum() * 0


def levels(values: Tensor, low: float = 2.0, high: float = 4.0) -> Tensor:
    """Return low [1, 2], medium (2, 4) and high [4, 5] as 0, 1, 2 (section 3); NaN as :data:`UNKNOWN`."""
    indices = (values > low).long() + (values >= high).long()
    return indices.masked_fill(values.isnan(), UNKNOWN)
