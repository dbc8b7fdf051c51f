"""``-d emotion_tcgru``: Mitra et al. 2024 as an s3prl downstream; the network and its loss are in ``model.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.corpora import DIMENSIONS
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts import reduction
from s3prl_emotion.experts.dimensional import SPREADS, DimensionalExpert
from s3prl_emotion.limits import MOST_STACKED, MOST_TAPS, MOST_WIDTH
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.upstreams.lexical import LexicalSection, lexical_streams
from s3prl_emotion.upstreams.streams import Stream

from .model import DimensionalLoss, TCGRUModel


class ModelSection(StrictSection):
    """``modelrc``: sizes of section 3.4; ``config.yaml`` marks what the paper leaves open."""

    conv_channels: int = Field(default=256, ge=1, le=MOST_WIDTH)
    kernel_size: int = Field(default=3, ge=1, le=MOST_TAPS)
    gru_dim: int = Field(default=256, ge=1, le=MOST_WIDTH)
    gru_layers: int = Field(default=2, ge=1, le=MOST_STACKED)
    embedding_dim: int = Field(default=128, ge=1, le=MOST_WIDTH)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    alpha: float = Field(default=1 / 3, ge=0, le=1)
    beta: float = Field(default=1 / 3, ge=0, le=1)
    target_variance: bool = False
    variance_weight: float = Field(default=1.0, gt=0)
    saliency: reduction.SaliencySection | None = None
    lexical: list[LexicalSection] = Field(default_factory=list)
    lexical_join: Literal["early", "late"] = "late"  # of checkpoints that do not say it; shipped recipes say early


NO_TRANSCRIPT = "modelrc.lexical: a new file has no transcript for -m inference; use -m evaluate"
SIZES = {"conv_channels", "kernel_size", "gru_dim", "gru_layers", "embedding_dim", "dropout"}


class DownstreamExpert(DimensionalExpert):
    """TC-GRU on salient dimensions, with the graders' spread and a lexical branch where the recipe asks for them."""

    model_section = ModelSection
    takes_mixup = True
    beyond_audio: ClassVar[Mapping[str, str]] = {"lexical": "the transcript of each utterance"}

    @classmethod
    def dimension_names(cls, modelrc: ModelSection) -> tuple[str, ...]:
        """Return activation, valence and dominance; with ``target_variance`` their spreads too."""
        return (*DIMENSIONS, *SPREADS) if modelrc.target_variance else DIMENSIONS

    def prepare(self, modelrc: ModelSection, downstream_expert: dict[str, Any]) -> None:
        """Read the lexical embeddings and the saliency file, of which the recipe then holds the kept dimensions."""
        super().prepare(modelrc, downstream_expert)
        self.lexical, self.joins_early = modelrc.lexical, modelrc.lexical_join == "early"
        self.streams: tuple[Stream, ...] = ()  # lexical ones, of the training split
        self.lexical_embeddings: dict[str, dict[str, Tensor]] = {}  # [E], by split and utterance
        for split in self.splits_of_run() if self.lexical else ():  # before training: a transcript may be missing
            self._embeddings_of(split)
        self.reduction: reduction.Reduction | None = None
        if modelrc.saliency is None:
            return
        train = self.corpus.split(self.train_split) if self.corpus else None
        self.layer = self.options.get("upstream_layer_selection")
        self.reduction = reduction.read(
            modelrc.saliency, train, self.data.max_duration, self.layer, bool(self.options.get("init_ckpt"))
        )
        if self.reduction.file is not None and train is not None:
            self.reduction.file.check_lexical(self.streams if self.joins_early else ())
        downstream_expert["modelrc"]["saliency"] = self.reduction.section.model_dump()

    def check_upstream(self, identity: Callable[[], Identity]) -> None:
        """Refuse a saliency file of another upstream."""
        super().check_upstream(identity)
        if self.reduction is not None and self.reduction.file is not None:
            self.reduction.file.check_upstream(identity().values, self.layer)

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Return the network of Fig. 3."""
        lexical_dim = self._lexical_dim()
        return TCGRUModel(
            upstream_dim,
            reduction.build(self.reduction, upstream_dim, lexical_dim if self.joins_early else 0),
            lexical_dim=lexical_dim,
            lexical_join=modelrc.lexical_join,
            target_variance=modelrc.target_variance,
            **modelrc.model_dump(include=SIZES),
        )

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Return eqs. 4-5."""
        return DimensionalLoss(modelrc.alpha, modelrc.beta, modelrc.variance_weight)

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return padded features, their lengths, and lexical embeddings ``[B, E]`` where the recipe asks for them."""
        padded = super().inputs(split, features, names)
        if not self.lexical:
            return padded
        by_name = self._embeddings_of(split)
        rows = torch.stack([by_name[name] for name in names])
        return (*padded, rows.to(padded[0].device))

    def _lexical_dim(self) -> int:
        """Return the size of the lexical embeddings, 0 without a lexical branch."""
        return next((len(row) for by_name in self.lexical_embeddings.values() for row in by_name.values()), 0)

    def _embeddings_of(self, split: str | None) -> dict[str, Tensor]:
        """Return the lexical embeddings ``[E]`` of a split's utterances by name."""
        if split is None or self.corpus is None:
            raise ConfigError(NO_TRANSCRIPT)
        if split not in self.lexical_embeddings:
            utterances, store = self.corpus.split(split), self.options.get("feature_store")
            rows, streams = lexical_streams(utterances, self.lexical, self.device, store)
            self.lexical_embeddings[split] = rows
            self.streams = streams if split == self.train_split else self.streams
        return self.lexical_embeddings[split]
