"""TC-GRU for dimensional emotion on salient dimensions: network and loss of Mitra et al. 2024.

V. Mitra, J. Nie, E. Azemi, "Investigating salient representations and label variance in dimensional speech emotion
analysis", ICASSP 2024. Equation numbers below are that paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.tcgru import TCGRU
from s3prl_emotion.losses import concordance_loss

NUM_DIMENSIONS = 3  # activation, valence, dominance


class TCGRUModel(nn.Module):
    """Salient input dimensions, TC-GRU, and a linear output for each dimension (section 3.4, Figs. 3-4).

    A lexical embedding of the utterance (section 3.2) is joined ``early``: repeated over the frames, it extends their
    dimensions before the reduction and the convolution. The sizes in Table 2 fit only this: Fig. 3 does not show it.
    Joined ``late``, it is mapped to as many units as the acoustic embedding and concatenated to it before the output.

    Args:
        input_dim: channels of the upstream, D
        reduction: maps the channels, of an early lexical embedding too, to fewer (``[..., D]`` or ``[..., D + E]`` to
            ``[..., output_dim]``), or ``None``
        lexical_dim: size of the lexical embedding, 0 for none
        target_variance: whether to output the graders' spread of each dimension too
        conv_channels: of the TC-GRU, as ``kernel_size``, ``gru_dim``, ``gru_layers``, ``embedding_dim`` and ``dropout``
        lexical_join: ``early`` or ``late``
    """

    def __init__(
        self,
        input_dim: int,
        reduction: nn.Module | None = None,
        lexical_dim: int = 0,
        target_variance: bool = False,
        conv_channels: int = 256,
        kernel_size: int = 3,
        gru_dim: int = 256,
        gru_layers: int = 2,
        embedding_dim: int = 128,
        dropout: float = 0.0,
        lexical_join: str = "late",
    ) -> None:
        super().__init__()
        self.joins_early = bool(lexical_dim) and lexical_join == "early"
        late_dim = 0 if self.joins_early else lexical_dim
        self.reduction = nn.Identity() if reduction is None else reduction
        channels = input_dim + lexical_dim - late_dim
        channels = channels if reduction is None else int(reduction.output_dim)  # type: ignore[arg-type]
        self.acoustic = TCGRU(channels, conv_channels, kernel_size, gru_dim, gru_layers, embedding_dim, dropout)
        self.lexical = nn.Sequential(nn.Linear(late_dim, embedding_dim), nn.ReLU()) if late_dim else None
        outputs = NUM_DIMENSIONS * (2 if target_variance else 1)
        self.output = nn.Linear(embedding_dim * (2 if late_dim else 1), outputs)

    def forward(self, features: Tensor, lengths: Tensor, lexical: Tensor | None = None) -> Tensor:
        """Estimate the dimensions of ``features [B, T, D]`` with ``lengths [B]``, in standardised units.

        Args:
            features: frames beyond an utterance's length have no effect, whatever they hold
            lengths: frames of each utterance, at least 1
            lexical: embeddings of the transcripts, ``[B, E]``, for a model with ``lexical_dim``

        Returns:
            ``[B, 3]``: activation, valence, dominance; with ``target_variance`` ``[B, 6]``: then their spreads
        """
        if lexical is None and (self.joins_early or self.lexical is not None):
            raise ConfigError("modelrc.lexical: the model has a lexical branch, but no lexical embedding was given")
        if lexical is not None and self.joins_early:
            repeated = lexical.unsqueeze(1).expand(-1, features.shape[1], -1)
            features = torch.cat([features, repeated.to(features)], dim=-1)  # [B, T, D + E]
        embedding = self.acoustic(self.reduction(features), lengths)
        if lexical is not None and self.lexical is not None:
            embedding = torch.cat([embedding, self.lexical(lexical)], dim=-1)
        return self.output(embedding)


class DimensionalLoss(nn.Module):
    """``L_ccc = -(α CCC_v + β CCC_a + (1 - α - β) CCC_d)``, eqs. 4-5, plus the same loss of the spreads.

    The paper gives no weight for the spreads: with ``variance_weight`` 1 they count as much as the means.

    Args:
        alpha: of valence (the paper: 1/3)
        beta: of activation (1/3)
        variance_weight: of the spreads, if the model outputs them

    Raises:
        ConfigError: alpha or beta is below 0, or their sum exceeds 1
    """

    weights: Tensor

    def __init__(self, alpha: float = 1 / 3, beta: float = 1 / 3, variance_weight: float = 1.0) -> None:
        super().__init__()
        rest = 1 - alpha - beta
        if not (alpha >= 0 and beta >= 0 and rest >= -1e-9):
            raise ConfigError(f"modelrc: alpha ({alpha}) and beta ({beta}) must be at least 0 and sum to at most 1")
        self.variance_weight = variance_weight
        # in the order of the outputs: activation, valence, dominance
        self.register_buffer("weights", torch.tensor([beta, alpha, max(rest, 0.0)]), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``output [B, 3 or 6]`` against ``target`` of the same shape.

        Utterances with unknown spreads (NaN) do not count in the loss of the spreads.
        """
        loss = concordance_loss(output[:, :NUM_DIMENSIONS], target[:, :NUM_DIMENSIONS], self.weights)
        if output.shape[1] == NUM_DIMENSIONS:
            return loss
        estimates, spreads = output[:, NUM_DIMENSIONS:], target[:, NUM_DIMENSIONS:]
        known = ~spreads.isnan().any(dim=1)
        if not known.all():
            estimates, spreads = estimates[known], spreads[known]
        if not len(spreads):
            return loss
        return loss + self.variance_weight * concordance_loss(estimates, spreads, self.weights)
