"""``-d emotion_multitask``: Mitra et al. 2025 as an s3prl downstream; the network and its loss are in ``model.py``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import nn

from s3prl_emotion.corpora import DIMENSIONS
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.dimensional import SPREADS
from s3prl_emotion.experts.multitask import MultiTaskExpert
from s3prl_emotion.limits import MOST_STACKED, MOST_TAPS, MOST_WIDTH
from s3prl_emotion.recipe import ADJUSTED, CROSS_ENTROPY, DataSection, HeadSection, StrictSection

from .model import MultiTaskLoss, MultiTaskModel


class ModelSection(StrictSection):
    """``modelrc``: sizes of section 3.1 and appendix A.8; ``config.yaml`` marks what the paper leaves open."""

    conv_channels: int = Field(default=256, ge=1, le=MOST_WIDTH)
    kernel_size: int = Field(default=3, ge=1, le=MOST_TAPS)
    gru_dim: int = Field(default=256, ge=1, le=MOST_WIDTH)
    gru_layers: int = Field(default=2, ge=1, le=MOST_STACKED)
    embedding_dim: int = Field(default=256, ge=1, le=MOST_WIDTH)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    cat_loss: Literal["ccc", "soft_ce", "kl"] = "ccc"
    category_weight: float = Field(default=1.0, ge=0)
    dimension_weight: float = Field(default=1.0, ge=0)
    target_variance: bool = False
    variance_weight: float = Field(default=1.0, gt=0)


SIZES = {"conv_channels", "kernel_size", "gru_dim", "gru_layers", "embedding_dim", "dropout"}


class DownstreamExpert(MultiTaskExpert):
    """TC-GRU that learns the graders' distribution over classes and the dimensions at once."""

    model_section = ModelSection
    class_losses = (CROSS_ENTROPY, *ADJUSTED)  # focal is defined for one class per utterance
    takes_mixup = True

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, ModelSection]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: as every such head, or spreads are learnt without the dimensions, or ``class_loss`` does not go
                with ``cat_loss``
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        loss = section.class_loss.name
        if loss in ADJUSTED and modelrc.cat_loss == "ccc":
            raise ConfigError(
                f"downstream_expert.class_loss: {loss} changes a cross-entropy, which modelrc.cat_loss: ccc is not; "
                "set modelrc.cat_loss: soft_ce"
            )
        if modelrc.target_variance and not modelrc.dimension_weight:
            raise ConfigError("downstream_expert.modelrc: target_variance needs a dimension_weight above 0")
        return section, data, modelrc

    @classmethod
    def dimension_names(cls, modelrc: ModelSection) -> tuple[str, ...]:
        """Return no names with ``dimension_weight: 0``, so that the corpus need not have dimensions."""
        if not modelrc.dimension_weight:
            return ()
        return (*DIMENSIONS, *SPREADS) if modelrc.target_variance else DIMENSIONS

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Return the network of Fig. 1."""
        sizes = modelrc.model_dump(include=SIZES)
        return MultiTaskModel(
            upstream_dim, len(self.classes), modelrc.dimension_weight > 0, modelrc.target_variance, **sizes
        )

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Return eqs. 4-5 with the recipe's weights; ``class_loss`` may adjust the logits of the classes."""
        return MultiTaskLoss(
            len(self.classes),
            modelrc.cat_loss,
            modelrc.category_weight,
            modelrc.dimension_weight,
            modelrc.variance_weight,
            self.class_weights(),
            self.class_offset(),
        )
