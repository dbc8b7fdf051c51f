"""Multi-task TC-GRU for the graders' distribution and the dimensions: network and loss of Mitra et al. 2025.

V. Mitra, A. Romana, D. T. Tran, E. Azemi, "Modeling speech emotion with label variance and analyzing performance across
speakers and unseen acoustic conditions", arXiv:2503.22711, 2025. Equation numbers below are that paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from s3prl_emotion.experts.tcgru import TCGRU
from s3prl_emotion.losses import concordance_loss

NUM_DIMENSIONS = 3  # activation, valence, dominance


class MultiTaskModel(nn.Module):
    """TC-GRU with one linear layer for all outputs (section 3.1, Fig. 1).

    With 1024 channels, the default sizes, 9 classes and 3 dimensions it has 1,645,068 parameters (1.6 million in
    appendix A.8).

    Args:
        input_dim: channels of the upstream, D
        num_classes: K
        dimensions: whether to output activation, valence and dominance
        spreads: whether to output the graders' spread of each dimension too
        conv_channels: of the TC-GRU, as ``kernel_size``, ``gru_dim``, ``gru_layers``, ``embedding_dim`` and ``dropout``
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        dimensions: bool = True,
        spreads: bool = False,
        conv_channels: int = 256,
        kernel_size: int = 3,
        gru_dim: int = 256,
        gru_layers: int = 2,
        embedding_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.acoustic = TCGRU(input_dim, conv_channels, kernel_size, gru_dim, gru_layers, embedding_dim, dropout)
        self.output = nn.Linear(embedding_dim, num_classes + NUM_DIMENSIONS * (int(dimensions) + int(spreads)))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Predict classes and dimensions of ``features [B, T, D]`` with ``lengths [B]``.

        Returns:
            ``[B, K + 3]``: logits of the classes, then activation, valence and dominance in standardised units; with
            ``spreads`` ``[B, K + 6]``, without ``dimensions`` ``[B, K]``
        """
        return self.output(self.acoustic(features, lengths))


class MultiTaskLoss(nn.Module):
    """``category_weight L_cat + dimension_weight L_ccc`` of classes and dimensions.

    Appendix A.1 trains with minus the mean CCC of "each of the N output targets" and does not say whether the nine
    shares are among them: ``cat_loss: ccc`` reads it so, each class's probability (softmax) against its share of the
    graders over the batch. Weights of K / (K + 3) and 3 / (K + 3) then give eq. 4 to the letter. ``soft_ce`` and ``kl``
    are the cross-entropy of the distribution and its divergence, which have the same gradient.

    Unknown targets (NaN) do not count in the loss.

    Args:
        num_classes: K
        cat_loss: ccc, soft_ce or kl
        category_weight: of the classes' loss
        dimension_weight: of the dimensions' loss
        spread_weight: of the loss of the graders' spreads, if the model outputs them
        class_weight: of each class ``[K]``, or ``None``
        offset: what is added to the logits of the classes ``[K]``, or ``None``; of soft_ce and kl alone
    """

    class_weight: Tensor | None
    offset: Tensor | None

    def __init__(
        self,
        num_classes: int,
        cat_loss: str = "ccc",
        category_weight: float = 1.0,
        dimension_weight: float = 1.0,
        spread_weight: float = 1.0,
        class_weight: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.cat_loss = num_classes, cat_loss
        self.category_weight, self.dimension_weight, self.spread_weight = (
            category_weight,
            dimension_weight,
            spread_weight,
        )
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``output [B, K + 0, 3 or 6]`` against ``target`` of the same shape."""
        k, d = self.num_classes, self.num_classes + NUM_DIMENSIONS
        loss = self.category_weight * self._categories(*_known(output[:, :k], target[:, :k]))
        if output.shape[1] > k:
            loss = loss + self.dimension_weight * _concordance(*_known(output[:, k:d], target[:, k:d]))
        if output.shape[1] > d:
            loss = loss + self.spread_weight * _concordance(*_known(output[:, d:], target[:, d:]))
        return loss

    def _categories(self, logits: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of ``logits [B, K]`` against the graders' ``shares [B, K]``."""
        if len(logits) == 0:
            return logits.sum()  # no known target: 0, with a gradient of 0
        logits, shares = logits.float(), shares.float()
        if self.cat_loss == "ccc":
            return concordance_loss(torch.softmax(logits, dim=-1), shares, self.class_weight)
        if self.offset is not None:
            logits = logits + self.offset
        if self.cat_loss == "soft_ce":
            return functional.cross_entropy(logits, shares, weight=self.class_weight)
        weight = 1.0 if self.class_weight is None else self.class_weight
        divergence = functional.kl_div(functional.log_softmax(logits, dim=-1), shares, reduction="none")
        return (weight * divergence).sum(dim=-1).mean()


def _known(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the rows whose target is known."""
    known = ~target.isnan().any(dim=-1)
    return output[known], target[known]


def _concordance(output: Tensor, target: Tensor) -> Tensor:
    """Return eqs. 4-5; 0 if no target is known."""
    return concordance_loss(output, target) if len(output) else output.sum()
