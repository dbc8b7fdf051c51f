"""``-d emotion_acnn``: Neumann & Vu 2019 as an s3prl downstream; the network and its loss are in ``model.py``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.corpora import Needs, Utterance
from s3prl_emotion.distributed import rank
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.base import Records
from s3prl_emotion.experts.categorical import CLASS_LOSSES, CategoricalExpert
from s3prl_emotion.figures.embeddings import stored_rows
from s3prl_emotion.limits import MOST_TAPS, MOST_WIDTH
from s3prl_emotion.masking import frame_mask, pad_features
from s3prl_emotion.metrics.class_scores import unweighted_average_recall
from s3prl_emotion.recipe import CROSS_ENTROPY, DataSection, HeadSection, StrictSection

from .model import LEVELS, UNKNOWN, VIEWS, AttentiveCNN, MultiViewLoss, levels

logger = logging.getLogger(__name__)


class ModelSection(StrictSection):
    """``modelrc``: section 4.2; ``config.yaml`` marks what the paper leaves open."""

    filters: int = Field(default=200, ge=1, le=MOST_WIDTH)
    width: int = Field(default=10, ge=1, le=MOST_TAPS)
    stride: int = Field(default=3, ge=1, le=MOST_TAPS)
    pool: int = Field(default=30, ge=1, le=MOST_TAPS)
    dropout: float = Field(default=0.8, ge=0, lt=1)
    alpha: float = Field(default=0.2, ge=0, lt=1)
    beta: float = Field(default=0.2, ge=0, lt=1)
    bins: list[float] = Field(default=[2.0, 4.0], min_length=2, max_length=2)
    max_length: float | None = Field(default=7.5, gt=0)
    padding: float = Field(default=0.0, allow_inf_nan=False)
    utterance_embeddings: list[str | list[str]] = Field(default_factory=list)

    @property
    def views(self) -> bool:
        """Whether levels of arousal and valence are learnt too."""
        return self.alpha + self.beta > 0


LOUD = (
    "modelrc.padding 0.0: in log-Mel features that is as loud as speech, and utterances shorter than max_length are "
    "padded with it; set -18.42 (silence in logmel26), or max_length: null to mask padding"
)
NO_EMBEDDING = "modelrc.utterance_embeddings: a new file has no stored embedding for -m inference; use -m evaluate"
SIZES = {"filters", "width", "stride", "pool", "dropout"}


class DownstreamExpert(CategoricalExpert):
    """Attentive CNN with multi-view learning and, if the recipe names them, stored embeddings of utterances."""

    model_section = ModelSection
    class_losses = CLASS_LOSSES
    takes_mixup = True
    beyond_audio: ClassVar[Mapping[str, str]] = {"utterance_embeddings": "a stored embedding of each utterance"}

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, ModelSection]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: as every head, or weights or bins out of range
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        MultiViewLoss(1, modelrc.alpha, modelrc.beta)
        if not modelrc.bins[0] < modelrc.bins[1]:
            raise ConfigError(f"downstream_expert.modelrc.bins: must rise, got {modelrc.bins}")
        return section, data, modelrc

    @classmethod
    def required_labels(cls, modelrc: ModelSection) -> Needs:
        """Require a class; arousal and valence too where they are learnt."""
        return Needs(dimensions=modelrc.views)

    def prepare(self, modelrc: ModelSection, downstream_expert: dict[str, Any]) -> None:
        """Read the stored embeddings before training, since one may be missing."""
        self.modelrc = modelrc
        if modelrc.max_length and not modelrc.padding and self._trains_on("logmel26"):
            logger.warning(LOUD)
        self.embeddings: dict[str, dict[str, Tensor]] = {}  # [E], by split and utterance
        self.levels: dict[str, dict[str, Tensor]] = {}  # of arousal and valence [2], by split and utterance
        self.frames = math.ceil(modelrc.max_length * SAMPLE_RATE / self.upstream_rate) if modelrc.max_length else None
        if modelrc.utterance_embeddings and self.corpus is None:
            raise ConfigError(NO_EMBEDDING)
        for split in self.splits_of_run() if modelrc.utterance_embeddings else ():
            self._embeddings_of(split)

    def _trains_on(self, upstream: str) -> bool:
        return self.options.get("mode") == "train" and self.options.get("upstream") == upstream and rank() == 0

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Return the network of Fig. 1."""
        width = next((len(row) for rows in self.embeddings.values() for row in rows.values()), 0)
        sizes = modelrc.model_dump(include=SIZES)
        return AttentiveCNN(upstream_dim, len(self.classes), width, modelrc.views, **sizes)

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Return eq. 2; ``class_loss`` may name another loss for its classes."""
        loss = None if self.class_loss.name == CROSS_ENTROPY else self.categorical_loss()
        return MultiViewLoss(len(self.classes), modelrc.alpha, modelrc.beta, self.class_weights(), loss)

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return features, lengths, and stored embeddings ``[B, E]`` where the recipe names them."""
        padded, lengths = self._cut_or_padded(*super().inputs(split, features, names))
        if not self.modelrc.utterance_embeddings:
            return padded, lengths
        by_name = self._embeddings_of(split)
        return padded, lengths, torch.stack([by_name[name] for name in names]).to(padded.device)

    def _cut_or_padded(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Cut features to ``max_length`` or extend them with ``padding``, which the paper's network sees as frames."""
        if self.frames is None:
            return features, lengths
        features = nn.functional.pad(features[:, : self.frames], (0, 0, 0, max(0, self.frames - features.shape[1])))
        if self.modelrc.padding:
            inside = frame_mask(lengths, self.frames).unsqueeze(-1)  # padding of the batch is 0
            features = features.masked_fill(~inside, self.modelrc.padding)
        return features, torch.full_like(lengths, self.frames)

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits of the classes, without those of the levels."""
        return outputs[:, : len(self.classes)]

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return indices of class, arousal and valence ``[B, 3]``, :data:`UNKNOWN` where there is none."""
        by_name, classes = self._levels_of(split), torch.as_tensor(labels)
        classes = classes.masked_fill(classes < 0, UNKNOWN)
        return torch.cat([classes.unsqueeze(1), torch.stack([by_name[name] for name in names])], dim=1)

    def record(self, split: str, records: Records, outputs: Tensor, targets: Tensor) -> None:
        """Keep what a head with classes keeps, and for evaluated splits true and predicted levels."""
        k = len(self.classes)
        super().record(split, records, outputs, targets[:, 0])
        if outputs.shape[1] > k and not self.is_training_on(split):
            predicted = torch.stack([part.argmax(dim=1) for part in outputs[:, k:].split(LEVELS, dim=1)], dim=1)
            records["levels"] += torch.cat([targets[:, 1:], predicted], dim=1).tolist()

    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of the classes, and UAR of arousal and valence under ``views``; write the files."""
        if records.get("levels"):
            rows = np.array(records["levels"])
            made_by = made_by | {"views": {name: _uar(rows[:, [i, i + len(VIEWS)]]) for i, name in enumerate(VIEWS)}}
        return super().write_results(utterances, records, made_by)

    def has_attention(self, modelrc: ModelSection) -> bool:
        """Return true: every such network attends."""
        return True

    def attention_weights(self, features: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the attention weights of each utterance, eq. 1: ``[T_b]``, cut at ``max_length``."""
        padded, lengths = self._cut_or_padded(*pad_features(features, names))
        with torch.no_grad():
            weights = cast(AttentiveCNN, self.model).frame_weights(padded, lengths)
        counts = [min(len(feature), weights.shape[1]) for feature in features]
        return [row[:count].cpu().numpy() for row, count in zip(weights, counts, strict=True)]

    def _levels_of(self, split: str) -> dict[str, Tensor]:
        """Return the levels of arousal and valence ``[2]`` of a split's utterances by name."""
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if split not in self.levels:
            unknown = (math.nan,) * 3
            values = {item.name: (item.dimensions or unknown)[: len(VIEWS)] for item in self.corpus.split(split)}
            self.levels[split] = {name: levels(torch.tensor(pair), *self.modelrc.bins) for name, pair in values.items()}
        return self.levels[split]

    def _embeddings_of(self, split: str | None) -> dict[str, Tensor]:
        """Return the stored embeddings ``[E]`` of a split's utterances by name."""
        if split is None or self.corpus is None:
            raise ConfigError(NO_EMBEDDING)
        if split not in self.embeddings:
            names = [item.name for item in self.corpus.split(split)]
            rows = stored_rows(self.modelrc.utterance_embeddings, names)
            self.embeddings[split] = {name: torch.from_numpy(row) for name, row in rows.items()}
        return self.embeddings[split]


def _uar(pairs: NDArray[np.int64]) -> dict[str, Any]:
    """Return UAR of pairs ``[N, 2]`` of true and predicted level; ``None`` where no true level is known."""
    known = pairs[pairs[:, 0] != UNKNOWN]
    score = unweighted_average_recall(known[:, 0].tolist(), known[:, 1].tolist()) if len(known) else None
    return {"UAR": score, "utterances": len(known)}
