"""``-d emotion_tcgru``: Mitra et al. 2024 as an s3prl downstream; the network and its loss are in ``model.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.corpora import Needs
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts import reduction
from s3prl_emotion.experts.dimensional import DimensionalExpert
from s3prl_emotion.recipe import StrictSection
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.upstreams.lexical import LexicalSection, lexical_features

from .model import DimensionalLoss, TCGRUModel


class ModelSection(StrictSection):
    """``modelrc``: sizes of section 3.4; what the paper leaves open is marked in ``config.yaml``."""

    conv_channels: int = Field(default=256, ge=1)
    kernel_size: int = Field(default=3, ge=1)
    gru_dim: int = Field(default=256, ge=1)
    gru_layers: int = Field(default=2, ge=1)
    embedding_dim: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    alpha: float = Field(default=1 / 3, ge=0, le=1)
    beta: float = Field(default=1 / 3, ge=0, le=1)
    target_variance: bool = False
    variance_weight: float = Field(default=1.0, gt=0)
    saliency: reduction.SaliencySection | None = None
    lexical: list[LexicalSection] = Field(default_factory=list)


NO_TRANSCRIPT = "modelrc.lexical: -m inference has no transcript for a head with a lexical branch; use -m evaluate"
SIZES = {"conv_channels", "kernel_size", "gru_dim", "gru_layers", "embedding_dim", "dropout"}


class DownstreamExpert(DimensionalExpert):
    """TC-GRU on salient dimensions, with the graders' spread and a lexical branch where the recipe asks for them."""

    model_section = ModelSection

    @classmethod
    def needs(cls, modelrc: ModelSection) -> Needs:
        """Activation, valence and dominance; their spreads with ``target_variance``."""
        return Needs(classes=False, dimensions=True, spreads=modelrc.target_variance)

    @classmethod
    def learns_spreads(cls, modelrc: ModelSection) -> bool:
        """``target_variance``."""
        return modelrc.target_variance

    def resolve(self, modelrc: ModelSection, downstream_expert: dict[str, Any], upstream_dim: int) -> ModelSection:
        """Read the saliency file; the recipe then holds the dimensions themselves, and checkpoints need no file."""
        self.lexical = modelrc.lexical
        self.spoken: dict[str, dict[str, Tensor]] = {}  # lexical embeddings of each split
        for split in self.asked_splits() if self.lexical else ():  # ahead of training: a transcript may be missing
            self._embeddings(split)
        self.reduced: reduction.Resolved | None = None
        if modelrc.saliency is None:
            return modelrc
        train = self.corpus.split(self.train_split) if self.corpus else None
        self.layer = self.options.get("upstream_layer_selection")
        self.reduced = reduction.resolve(
            modelrc.saliency, train, self.data.max_duration, self.layer, bool(self.options.get("init_ckpt"))
        )
        downstream_expert["modelrc"]["saliency"] = self.reduced.section.model_dump()
        return modelrc

    def meet_upstream(self, identity: Callable[[], Identity]) -> None:
        """Refuse saliency of another upstream."""
        super().meet_upstream(identity)
        if self.reduced is not None and self.reduced.file is not None:
            self.reduced.file.check_upstream(identity().values, self.layer)

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Network of Fig. 3."""
        return TCGRUModel(
            upstream_dim,
            reduction.build(self.reduced, upstream_dim),
            lexical_dim=self._lexical_dim(),
            target_variance=modelrc.target_variance,
            **modelrc.model_dump(include=SIZES),
        )

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Eqs. 4-5."""
        return DimensionalLoss(modelrc.alpha, modelrc.beta, modelrc.variance_weight)

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Padded features, their lengths, and lexical embeddings ``[B, E]`` where the recipe asks for them."""
        padded = super().inputs(split, features, names)
        if not self.lexical:
            return padded
        known = self._embeddings(split)
        rows = torch.stack([known[name] for name in names])
        return (*padded, rows.to(padded[0].device))

    def _lexical_dim(self) -> int:
        """E, 0 without a lexical branch."""
        return next((len(row) for known in self.spoken.values() for row in known.values()), 0)

    def _embeddings(self, split: str | None) -> dict[str, Tensor]:
        """Lexical embeddings ``[E]`` of a split's utterances by name."""
        if split is None or self.corpus is None:
            raise ConfigError(NO_TRANSCRIPT)
        if split not in self.spoken:
            utterances, store = self.corpus.split(split), self.options.get("feature_store")
            self.spoken[split] = lexical_features(utterances, self.lexical, self.device, store)
        return self.spoken[split]
