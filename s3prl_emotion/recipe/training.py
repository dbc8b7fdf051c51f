"""What a recipe says of training: ``runner:``, and ``upstream:`` of what ``-f`` trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_LAYERS, MOST_WIDTH
from s3prl_emotion.recipe.section import StrictSection, as_number

EVALUATED_SPLITS = ("dev", "test")  # where a recipe names none in runner.eval_dataloaders
AUTO, ALWAYS, NEVER = "auto", "always", "never"  # of --statistics
LORA, TOP_LAYERS, ALL = "lora", "top_layers", "all"  # of upstream.trainable
OF_ADAPTERS = ("rank", "alpha", "targets", "adapter_dropout")  # keys that only ``trainable: lora`` reads


class RunnerSection(StrictSection):
    """``runner:`` — s3prl's own keys, ``seeding`` and ``early_stopping``."""

    total_steps: int = Field(ge=1)
    """Optimizer steps."""
    epochs: int | None = Field(default=None, ge=1)
    """End training after so many passes over the training split, with an evaluation and a checkpoint, unless
    ``total_steps`` come first; ``None``: after ``total_steps``."""
    gradient_clipping: float = Field(gt=0)
    """Largest norm of the gradient; larger ones are scaled down to it."""
    gradient_accumulate_steps: int = Field(ge=1)
    """Batches per optimizer step."""
    log_step: int = Field(ge=1)
    """Steps between two values of the training curves."""
    eval_step: int = Field(ge=1)
    """Steps between two evaluations of ``eval_dataloaders``."""
    save_step: int = Field(ge=1)
    """Steps between two checkpoints, ``states-N.ckpt``."""
    max_keep: int = Field(default=1, ge=1)
    """Number of ``states-N.ckpt`` to keep, the newest ones."""
    eval_dataloaders: list[str] = Field(default_factory=lambda: list(EVALUATED_SPLITS))
    """Splits to evaluate during training; ``dev`` is left out where ``datarc.valid_ratio`` is 0."""
    train_dataloader: str = "train"
    """Split to train on."""
    evaluate_ratio: float = Field(default=1.0, gt=0, le=1)
    """Share of each split to evaluate, from its start."""
    fp16: bool = False
    """Train in mixed precision: matrix products in float16, weights in float32; only on CUDA."""
    bf16: bool = False
    """Train in mixed precision: matrix products in bfloat16, weights in float32; on CUDA and on CPUs."""
    seeding: Literal["seed", "superb"] = "seed"
    """``seed``: ``--seed`` decides initialisation and order, and a resumed run equals an uninterrupted one; ``superb``:
    SUPERB's own order of random draws, in which a fixed seed of 0 decides the split and the initialisation."""
    early_stopping: int | None = Field(default=None, ge=1)
    """End training after this many evaluations without improvement on dev; ``None``: after ``total_steps``."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Evaluate and save an exponential moving average of the trained weights with this decay per step; ``None``: the
    weights themselves."""


class FinetuningSection(StrictSection):
    """``upstream:`` — what ``-f`` trains of the upstream, and how; without it ``-f`` trains every weight."""

    trainable: Literal["lora", "top_layers", "all"]
    """``lora``: low-rank adapters beside linear layers (Hu et al. 2022; needs the extra ``peft``); ``top_layers``: the
    last ``layers`` transformer layers; ``all``: every weight. Of ``lora`` and ``top_layers`` checkpoints hold what is
    trained alone, and everything else is frozen and computes as in evaluation."""
    layers: int | None = Field(default=None, ge=1, le=MOST_LAYERS)
    """Transformer layers to train, counted from the last that is computed; ``lora``: all by default."""
    rank: int = Field(default=8, ge=1, le=MOST_WIDTH)
    """Rank of the adapters of ``lora``."""
    alpha: Annotated[float, Field(gt=0), BeforeValidator(as_number)] = 16.0
    """``lora`` adds ``alpha / rank`` times the adapters' product to the weights."""
    targets: Literal["attention", "feed_forward", "both"] | list[str] = "attention"
    """Linear layers that get adapters: those of ``attention``, of the ``feed_forward`` blocks, ``both``, or a list of
    the last parts of their names, such as ``[q_proj, v_proj]``."""
    adapter_dropout: Annotated[float, Field(ge=0, lt=1), BeforeValidator(as_number)] = 0.0
    """Dropout of the adapters' input."""
    dropout: Annotated[float, Field(ge=0, lt=1), BeforeValidator(as_number)] | None = None
    """Dropout in the trained layers; ``None``: what the model's own configuration says."""
    lr: Annotated[float, Field(gt=0), BeforeValidator(as_number)] | None = None
    """Learning rate of the upstream; ``None``: ``optimizer.lr``. A scheduler scales both."""
    weight_decay: Annotated[float, Field(ge=0), BeforeValidator(as_number)] | None = None
    """Weight decay of the upstream, in the optimizer's own way; ``None``: as for the head."""
    warm_up: int = Field(default=0, ge=0)
    """Steps over which the upstream's learning rate rises linearly to its value."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each transformer layer for the backward pass, and compute the rest again: less memory,
    more time, the same gradients."""

    @classmethod
    def read(cls, values: Any, where: str) -> FinetuningSection:
        """Read the section as others; keys without effect are errors too.

        Raises:
            ConfigError: also for a key that does nothing under this ``trainable``
        """
        section = super().read(values, where)
        unused = {LORA: (), TOP_LAYERS: OF_ADAPTERS, ALL: (*OF_ADAPTERS, "layers")}[section.trainable]
        for key in unused:
            if key in section.model_fields_set:
                raise ConfigError(f"{where}.{key}: has no effect with trainable {section.trainable}; leave it out")
        if section.trainable == TOP_LAYERS and section.layers is None:
            raise ConfigError(f"{where}.layers: trainable top_layers needs it, the number of layers to train")
        if isinstance(section.targets, list) and not section.targets:
            raise ConfigError(f"{where}.targets: is empty; name linear layers, or attention, feed_forward or both")
        return section
