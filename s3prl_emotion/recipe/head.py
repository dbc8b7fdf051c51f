"""What a recipe says of its head: ``downstream_expert:``, with the loss of its classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_FOCUS
from s3prl_emotion.recipe.section import StrictSection

CROSS_ENTROPY, FOCAL, BALANCED, LOGIT_ADJUSTED = "cross_entropy", "focal", "balanced", "logit_adjusted"
ADJUSTED = (BALANCED, LOGIT_ADJUSTED)  # class losses that read the class counts
OPTIONS_OF_LOSSES = {"gamma": (FOCAL,), "tau": (LOGIT_ADJUSTED,), "counts": ADJUSTED}


def _as_named(loss: Any) -> Any:
    """Return the name of a loss as the section that says nothing else."""
    return {"name": loss} if isinstance(loss, str) else loss


class ClassLossSection(StrictSection):
    """``downstream_expert.class_loss:`` — the loss of heads that train on classes; a name alone will do."""

    name: Literal["cross_entropy", "focal", "balanced", "logit_adjusted"] = "cross_entropy"
    """``focal``: less weight for utterances that are classified well (Lin et al. 2017); ``balanced``: balanced softmax
    (Ren et al. 2020); ``logit_adjusted``: cross-entropy of the logits plus ``tau`` times the logarithm of the class
    frequencies (Menon et al. 2021). With ``tau: 1`` the last two are the same."""
    gamma: float = Field(default=2.0, ge=0, le=MOST_FOCUS)
    """``focal``: γ, the exponent of the weight ``(1 - p)^γ``; 0 is the cross-entropy."""
    tau: float = Field(default=1.0, gt=0, le=MOST_FOCUS)
    """``logit_adjusted``: τ; 1 is consistent with the mean of the classes' error rates."""
    counts: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """``balanced``, ``logit_adjusted``: utterances of each class, in the order of the classes; ``None``: those of the
    training split, which checkpoints keep."""


class HeadSection(StrictSection):
    """``downstream_expert:`` of every head of this suite; ``modelrc`` is checked by the head itself."""

    datarc: dict[str, Any]
    """The corpus, its splits and its batches."""
    modelrc: dict[str, Any] = Field(default_factory=dict)
    """The head's own keys."""
    best_metric: str | None = None
    """Metric on dev that selects ``dev-best.ckpt``, one of the head's: WA by default for heads with classes (or UAR,
    macro_f1, …), mean_CCC for those with dimensions, joint (the mean of UAR and mean CCC) for those with both.
    ``loss``, for every head, selects the lowest loss of the whole split."""
    class_loss: Annotated[ClassLossSection, BeforeValidator(_as_named)] = Field(default_factory=ClassLossSection)
    """Loss of the classes, by name or as a section."""
    attention_dir: str | None = None
    """Folder for the attention weights of every evaluated utterance; ``None``: they are not exported."""
    embeddings: bool = False
    """Save the input of the head's last layer for every evaluated utterance."""
    layer: int | Literal["auto"] | None = None
    """``-l`` in the recipe: a number, or ``auto`` for the most salient layer of ``layer_file``."""
    layer_file: str | None = None
    """Output file of ``s3prl-emotion saliency``, which ranks the layers."""

    @classmethod
    def read(cls, values: Any, where: str) -> HeadSection:
        """Read the section as others; options of another class loss are errors too.

        Raises:
            ConfigError: also for an option that this class loss does not have
        """
        section = super().read(values, where)
        loss = section.class_loss
        for key, losses in OPTIONS_OF_LOSSES.items():
            if loss.name not in losses and getattr(loss, key) != ClassLossSection.model_fields[key].default:
                raise ConfigError(f"{where}.class_loss.{key}: {loss.name} has no such option; leave it out")
        return section
