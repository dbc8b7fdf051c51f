"""Attentive correlation pooling and its baselines: the network of Kakouros et al. 2023.

S. Kakouros, T. Stafylakis, L. Mošner, L. Burget, "Speech-based emotion recognition with self-supervised models using
attentive channel-wise correlations and label smoothing", ICASSP 2023. Equation numbers below are that paper's.

Eq. 1, the weighted sum over layers, is the host's featurizer. Every pooling maps ``features [B, T, D]`` with
``lengths [B]`` (frames, at least 1) to ``[B, O]``; frames beyond an utterance's length have no effect, whatever they
hold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from s3prl.downstream.emotion_corr_attn.correlation import weighted_correlation
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.experts.standardizer import Standardizer
from s3prl_emotion.masking import frame_mask, full_precision, guarded_sqrt, without_padding


class MeanPooling(nn.Module):
    """Mean over frames, eq. 2: SUPERB's own pooling. ``output_dim`` = D."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.output_dim = input_dim

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pool ``features [B, T, D]`` with ``lengths [B]`` to ``[B, D]``."""
        if features.shape[1] == 1:  # such as stored means: lengths are at least 1
            return features.squeeze(1)
        inside = frame_mask(lengths, features.shape[1])
        return without_padding(features, inside).sum(dim=1) / lengths.unsqueeze(1)


class MeanStdPooling(MeanPooling):
    """Mean and population standard deviation over frames, side by side, eq. 3. ``output_dim`` = 2 D."""

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim)
        self.output_dim = 2 * input_dim

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pool ``features [B, T, D]`` with ``lengths [B]`` to ``[B, 2 D]``."""
        inside = frame_mask(lengths, features.shape[1]).unsqueeze(-1)
        with full_precision(features) as cast:
            features = cast(features).masked_fill(~inside, 0.0)  # the gradient of NaN² is NaN, even times 0
            mean = super().forward(features, lengths)
            variance = super().forward((features - mean.unsqueeze(1)).square(), lengths)
            return torch.cat([mean, guarded_sqrt(variance)], dim=-1)


class CorrelationPooling(nn.Module):
    """Channel-wise correlations over frames, eqs. 4-5. ``output_dim`` = D (D - 1) / 2.

    The output is the upper triangle of the correlation matrix in row-major order, without the diagonal. A channel that
    does not vary (constant, dropped, or of one frame) has correlation 0 with every other.
    """

    def __init__(self, input_dim: int, eps: float = 1e-8) -> None:
        super().__init__()
        if input_dim < 2:
            raise ConfigError(f"correlation pooling needs at least 2 channels, got input_dim={input_dim}")
        if not eps > 0:
            raise ConfigError(f"correlation pooling needs eps > 0, got eps={eps}")
        self.eps = eps
        self.output_dim = input_dim * (input_dim - 1) // 2

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pool ``features [B, T, D]`` with ``lengths [B]`` to ``[B, D (D - 1) / 2]``."""
        inside = frame_mask(lengths, features.shape[1])
        with full_precision(features) as cast:
            features = without_padding(cast(features), inside)
            weights = inside.to(features.dtype) / lengths.unsqueeze(1)  # w_t = 1 / T, eq. 4
            return weighted_correlation(features, weights, self.eps)


class AttentiveCorrelationPooling(CorrelationPooling):
    """Correlations under one attention with several heads over the frames, eqs. 5-8. ``output_dim`` = D (D - 1) / 2.

    ``attention.weight [D, D]`` is W_att (eq. 8, no bias); ``heads.weight [H, D]`` and ``heads.bias [H]`` are q_h, b_h.
    """

    def __init__(self, input_dim: int, num_heads: int = 4, eps: float = 1e-8) -> None:
        super().__init__(input_dim, eps)
        if num_heads < 1:
            raise ConfigError(f"attentive correlation pooling needs at least 1 head, got num_heads={num_heads}")
        self.attention = nn.Linear(input_dim, input_dim, bias=False)
        self.heads = nn.Linear(input_dim, num_heads)

    def forward(  # type: ignore[override]  # returns the weights too, on demand
        self, features: Tensor, lengths: Tensor, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool ``features [B, T, D]`` with ``lengths [B]`` to ``[B, D (D - 1) / 2]``.

        Returns:
            the pooled features; with ``return_weights`` also the weights ``[B, T]``, in [0, 1], each row summing to 1
        """
        inside = frame_mask(lengths, features.shape[1])
        features = without_padding(features, inside)
        similarity = self.heads(torch.relu_(self.attention(features)))  # q_h' o_t + b_h, [B, T, H], eq. 8
        with full_precision(features) as cast:
            logits = torch.logsumexp(cast(similarity), dim=-1)  # a_t, [B, T], eq. 8
            weights = torch.softmax(logits.masked_fill(~inside, -torch.inf), dim=-1)  # w_t, [B, T], eq. 7
            pooled = weighted_correlation(cast(features), weights, self.eps)  # eqs. 5-6
        return (pooled, weights) if return_weights else pooled


class AttentiveStatisticsPooling(MeanStdPooling):
    """Mean and standard deviation over frames under an attention; Okabe et al. 2018, eqs. 2-6. ``output_dim`` = 2 D.

    K. Okabe, T. Koshinaka, K. Shinoda, "Attentive statistics pooling for deep speaker embedding", Interspeech 2018.
    ``attention.weight [D, D]`` and ``attention.bias [D]`` are W and b, ``score.weight [1, D]`` is v; the paper's k is
    left out, since it changes no weight. f is tanh, as in the baselines of the MSP-Podcast challenges.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim)
        self.attention = nn.Linear(input_dim, input_dim)
        self.score = nn.Linear(input_dim, 1, bias=False)

    def forward(  # type: ignore[override]  # returns the weights too, on demand
        self, features: Tensor, lengths: Tensor, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool ``features [B, T, D]`` with ``lengths [B]`` to ``[B, 2 D]``.

        Returns:
            the pooled features; with ``return_weights`` also the weights ``[B, T]``, in [0, 1], each row summing to 1
        """
        inside = frame_mask(lengths, features.shape[1])
        features = without_padding(features, inside)
        scores = self.score(torch.tanh(self.attention(features))).squeeze(-1)  # e_t, [B, T], eq. 2
        with full_precision(features) as cast:
            features = cast(features)
            weights = torch.softmax(cast(scores).masked_fill(~inside, -torch.inf), dim=-1)  # alpha_t, [B, T], eq. 3
            rows = weights.unsqueeze(1)  # [B, 1, T]
            mean = torch.bmm(rows, features)  # mu, [B, 1, D], eq. 4
            mean = mean + torch.bmm(rows, features - mean)  # corrects its rounding, else a constant seems to vary
            variance = torch.bmm(rows, (features - mean).square())  # eq. 6, which subtracts squares, loses digits
            pooled = torch.cat([mean, guarded_sqrt(variance)], dim=-1).squeeze(1)
        return (pooled, weights) if return_weights else pooled


POOLINGS: dict[str, Callable[..., MeanPooling | CorrelationPooling]] = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "corr": CorrelationPooling,
    "corr_attn": AttentiveCorrelationPooling,
    "attn_stats": AttentiveStatisticsPooling,
}
ATTENTIVE = ("corr_attn", "attn_stats")


class CorrAttnModel(nn.Module):
    """Projection, channel dropout, pooling over frames, linear classifier: Fig. 1.

    Args:
        input_dim: channels of the upstream
        num_classes: emotion classes, K
        pooling: mean, mean_std, corr or corr_attn (Table 1), or attn_stats, which is not of this paper
        projector_dim: d_v of section 3.3 (256); ``None`` pools the upstream's own channels, as eqs. 2-3 read
        num_heads: H of eq. 8, for corr_attn
        channel_dropout: p_d of section 3.3, the probability that a channel of an utterance is dropped
        standardize: whether the upstream's channels are standardised ahead of the projection; not of this paper

    Raises:
        ConfigError: unknown pooling, or a value out of range
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        pooling: str = "corr_attn",
        projector_dim: int | None = 256,
        num_heads: int = 4,
        channel_dropout: float = 0.25,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(f"modelrc.pooling: unknown pooling {pooling!r}{nearest(pooling, POOLINGS)}")
        if not 0.0 <= channel_dropout < 1.0:
            raise ConfigError(f"modelrc.channel_dropout: must lie in [0, 1), got {channel_dropout}")
        if projector_dim is not None and projector_dim < 1:
            raise ConfigError(f"modelrc.projector_dim: must be at least 1, or null for none, got {projector_dim}")
        channels = input_dim if projector_dim is None else projector_dim
        self.standardizer = Standardizer(input_dim) if standardize else nn.Identity()
        self.projector = nn.Identity() if projector_dim is None else nn.Linear(input_dim, channels)
        self.dropout = nn.Dropout1d(channel_dropout) if channel_dropout > 0 else nn.Identity()
        options = {"num_heads": num_heads} if pooling == "corr_attn" else {}
        pooled = POOLINGS[pooling](channels, **options)
        self.pooling = pooled
        self.classifier = nn.Linear(pooled.output_dim, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Classify ``features [B, T, D]`` with ``lengths [B]``: logits ``[B, K]``."""
        return self.classifier(self.pooling(self.channels(features), lengths))

    def attention(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights of the frames ``[B, T]``, eq. 7; only for :data:`ATTENTIVE` poolings."""
        return self.pooling(self.channels(features), lengths, return_weights=True)[1]

    def channels(self, features: Tensor) -> Tensor:
        """Project to ``v_t`` and drop whole channels: ``[B, T, D]`` to ``[B, T, d_v]``."""
        projected = self.projector(self.standardizer(features))
        return self.dropout(projected.transpose(1, 2)).transpose(1, 2)  # Dropout1d drops along dim 1
