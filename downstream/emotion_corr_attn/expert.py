"""``-d emotion_corr_attn``: Kakouros et al. 2023 as an s3prl downstream; the network is in ``model.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.base import NO_SMOOTHING
from s3prl_emotion.experts.categorical import CLASS_LOSSES, CategoricalExpert
from s3prl_emotion.experts.standardizer import Standardizer
from s3prl_emotion.limits import MOST_HEADS, MOST_WIDTH
from s3prl_emotion.masking import pad_features
from s3prl_emotion.recipe import CROSS_ENTROPY, DataSection, HeadSection, StrictSection
from s3prl_emotion.store.means import FRAMES, MEANS

from .model import ATTENTIVE, CorrAttnModel


class ModelSection(StrictSection):
    """``modelrc``; the defaults are the paper's best setting (section 5: p_d = p_l = 0.25, H = 4, d_v = 256)."""

    pooling: Literal["mean", "mean_std", "corr", "corr_attn", "attn_stats"] = "corr_attn"
    projector_dim: int | None = Field(default=256, ge=1, le=MOST_WIDTH)
    num_heads: int = Field(default=4, ge=1, le=MOST_HEADS)
    channel_dropout: float = Field(default=0.25, ge=0, lt=1)
    label_smoothing: float = Field(default=0.25, ge=0, lt=1)
    standardize: bool = False


class DownstreamExpert(CategoricalExpert):
    """Attentive correlation pooling, or one of its three baselines, with label smoothing."""

    model_section = ModelSection
    class_losses = CLASS_LOSSES
    takes_mixup = True
    joins_batches = True

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, ModelSection]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: as every head, or labels are smoothed under a loss that is not defined for it
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        loss = section.class_loss.name
        if loss != CROSS_ENTROPY and modelrc.label_smoothing:
            raise ConfigError(f"downstream_expert.class_loss: {loss} {NO_SMOOTHING}; set modelrc.label_smoothing: 0")
        return section, data, modelrc

    @classmethod
    def reads(cls, modelrc: ModelSection) -> str:
        """Return what the pooling needs; projector and channel dropout commute with the mean over frames."""
        return MEANS if modelrc.pooling == "mean" else FRAMES

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Return the network of Fig. 1."""
        return CorrAttnModel(upstream_dim, len(self.classes), **modelrc.model_dump(exclude={"label_smoothing"}))

    def fit(self, pooled: Callable[[str], tuple[list[str], Tensor]]) -> None:
        """Fit ``modelrc.standardize`` to the training split.

        Raises:
            ConfigError: features that are not finite
        """
        if self.standardizer is not None:
            self.standardizer.fit(*pooled(self.train_split))

    @property
    def standardizer(self) -> Standardizer | None:
        """What ``modelrc.standardize`` adds to the network."""
        module = cast(CorrAttnModel, self.model).standardizer
        return module if isinstance(module, Standardizer) else None

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return padded features ``[B, T, D]`` and lengths ``[B]``.

        Raises:
            ConfigError: ``modelrc.standardize`` was not fitted to a training split
        """
        if self.standardizer is not None:
            self.standardizer.check_fitted()
        return super().inputs(split, features, names)

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Return the cross-entropy against smoothed targets ``y (1 - p_l) + p_l / K``, eq. 9 (torch's definition).

        Other losses, which ``class_loss`` names, are not the paper's.
        """
        return self.categorical_loss(modelrc.label_smoothing)

    def batch_losses(self, outputs: Tensor, targets: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the losses ``[N]`` of N batches, in one call where they are means over as many utterances each."""
        loss = self.objective
        if not isinstance(loss, nn.CrossEntropyLoss) or loss.weight is not None or len(set(sizes)) > 1:
            return super().batch_losses(outputs, targets, sizes)
        each = nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=loss.label_smoothing)
        return each.view(len(sizes), -1).mean(dim=1)

    def last_layer(self) -> nn.Module:
        """Return the classifier on top of the pooled features."""
        return self.model.classifier

    def has_attention(self, modelrc: ModelSection) -> bool:
        """Return whether the pooling is attentive, and so weighs frames (eq. 7)."""
        return modelrc.pooling in ATTENTIVE

    def attention_weights(self, features: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the attention weights ``[T_b]`` of each utterance, eq. 7."""
        padded, lengths = pad_features(features, names)
        with torch.no_grad():
            weights = cast(CorrAttnModel, self.model).attention(padded, lengths)
        return [row[:length].cpu().numpy() for row, length in zip(weights, lengths.tolist(), strict=True)]
