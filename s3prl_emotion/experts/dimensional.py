"""Experts that estimate dimensions: activation, valence, dominance, and how far the graders spread."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s3prl_emotion.corpora import DIMENSIONS, Utterance
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.loading.evaluation import write_dimensional
from s3prl_emotion.losses import concordance_loss
from s3prl_emotion.recipe import DataSection, HeadSection

SPREADS = tuple(f"{name}Std" for name in DIMENSIONS)


class DimensionalExpert(EmotionExpert):
    """Base of heads that learn numbers: outputs are ``[B, O]``, O = 3, or 6 with the graders' spreads.

    Labels come on whatever scale the corpus has (1 to 5, 1 to 7). The network and its loss see them standardised, each
    by its mean and standard deviation over what is known of the training split; these are kept in the checkpoint, and
    predictions are given on the corpus's scale, of several corpora on that of the first.
    """

    metrics: ClassVar[tuple[str, ...]] = ("mean_CCC",)
    worst = -torch.inf
    weighs_classes: ClassVar[bool] = False  # whether ``datarc.class_weights`` means something

    label_mean: Tensor
    label_spread: Tensor

    @abstractmethod
    def build_loss(self, modelrc: Any) -> nn.Module:
        """The loss over a batch: outputs ``[B, O]``, standardised labels ``[B, O]`` to a scalar."""

    @classmethod
    @abstractmethod
    def learns_spreads(cls, modelrc: Any) -> bool:
        """Whether the graders' spreads are learnt too."""

    @classmethod
    def learns_dimensions(cls, modelrc: Any) -> bool:
        """Whether dimensions are learnt at all."""
        return True

    @classmethod
    def check(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """As every head's; refuses what would change a loss over the batch's own moments, and what needs classes."""
        section, data, modelrc = super().check(downstream_expert, variant, runner)
        if int((runner or {}).get("gradient_accumulate_steps") or 1) > 1:
            raise ConfigError(
                "runner.gradient_accumulate_steps: CCC is computed over a batch, which accumulation would take apart; "
                "set it to 1 and raise datarc.train_batch_size"
            )
        if data.train_batch_size < 2:
            raise ConfigError("datarc.train_batch_size: CCC of one utterance is 0, whatever is learnt; take at least 2")
        if data.balanced_sampling or (data.class_weights != "none" and not cls.weighs_classes):
            raise ConfigError(
                "downstream_expert.datarc: class_weights and balanced_sampling are for heads with classes"
            )
        return section, data, modelrc

    def make_objective(self, modelrc: Any) -> nn.Module:
        """The head's loss, and the labels' mean and spread, which the checkpoint keeps."""
        self.by_name: dict[str, dict[str, Utterance]] = {}  # of each split
        spreads = SPREADS if self.learns_spreads(modelrc) else ()
        self.names: tuple[str, ...] = (*DIMENSIONS, *spreads) if self.learns_dimensions(modelrc) else ()
        labels = self._labels(self.corpus.split(self.train_split)) if self.corpus else np.zeros((1, len(self.names)))
        # What is not known (NaN) counts for nothing. A constant's computed deviation is rounding, not always 0.
        still = np.nanmin(labels, axis=0) == np.nanmax(labels, axis=0)
        spread = np.where(still, 1.0, np.nanstd(labels, axis=0))
        self.register_buffer("label_mean", torch.from_numpy(np.nanmean(labels, axis=0)).float())
        self.register_buffer("label_spread", torch.from_numpy(spread).float())
        return self.build_loss(modelrc)

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Standardised labels ``[B, O]``."""
        known = self._known(split)
        rows = torch.from_numpy(self._labels([known[name] for name in names])).float()
        return (rows - self.label_mean.cpu()) / self.label_spread.cpu()

    def observe(self, split: str, records: dict[str, list[Any]], output: Tensor, target: Tensor) -> None:
        """Estimates on the corpus's scale, and standardised labels and estimates for the curves."""
        records["output"] += output.float().tolist()
        records["target"] += target.tolist()

    def curves(self, records: dict[str, list[Any]]) -> dict[str, float]:
        """Mean CCC of the dimensions over what the records hold."""
        width = len(DIMENSIONS)
        output, target = (torch.tensor(records[name], dtype=torch.float64)[:, :width] for name in ("output", "target"))
        known = ~target.isnan().any(dim=1)
        return {"mean_CCC": -concordance_loss(output[known], target[known]).item() if known.any() else math.nan}

    def score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Mean CCC as ``log.log`` has it, so that its lines agree; the other metrics are the split's own."""
        return curves["mean_CCC"] if self.best_metric == "mean_CCC" else super().score(curves, metrics)

    def loss_of(self, records: dict[str, list[Any]]) -> float:
        """Loss over a whole split, which no mean over batches comes to."""
        rows = (torch.tensor(records[name], device=self.label_mean.device) for name in ("output", "target"))
        with torch.no_grad():
            return self.objective(*rows).item()

    def write_results(
        self, utterances: Sequence[Utterance], records: dict[str, list[Any]], made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Metrics and files of dimensions."""
        estimates = self._in_corpus_scale(torch.tensor(records["output"], dtype=torch.float64)).numpy()
        return write_dimensional(self.expdir, utterances, self._labels(utterances), estimates, self.names, made_by)

    def answer(self, output: Tensor) -> list[dict[str, float]]:
        """Estimates on the scale of the corpus that was trained on."""
        rows = self._in_corpus_scale(output.double().cpu()).tolist()
        return [dict(zip(self.names, row, strict=True)) for row in rows]

    def _in_corpus_scale(self, output: Tensor) -> Tensor:
        return output * self.label_spread.to(output) + self.label_mean.to(output)

    def _labels(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """Labels ``[U, O]`` on the corpus's scale, NaN where a corpus has none."""
        unknown = (np.nan,) * len(DIMENSIONS)
        rows = [(*(item.dimensions or unknown), *(item.spreads or unknown)) for item in utterances]
        return np.array(rows)[:, : len(self.names)]

    def _known(self, split: str) -> dict[str, Utterance]:
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if split not in self.by_name:
            self.by_name[split] = {utterance.name: utterance for utterance in self.corpus.split(split)}
        return self.by_name[split]
