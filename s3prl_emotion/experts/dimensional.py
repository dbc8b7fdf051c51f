"""Base class of heads that learn activation, valence and dominance, and how far the graders spread."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.corpora import DIMENSIONS, Needs, Utterance
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.base import EmotionExpert, Records
from s3prl_emotion.experts.evaluation import write_dimensional
from s3prl_emotion.losses import concordance_loss
from s3prl_emotion.metrics.registry import best_metrics
from s3prl_emotion.recipe import DataSection, HeadSection

SPREADS = tuple(f"{name}Std" for name in DIMENSIONS)


class DimensionalExpert(EmotionExpert):
    """Base of heads whose outputs and targets are numbers ``[B, O]``: O = 3, or 6 with the graders' spreads.

    Labels come on the corpus's scale (1 to 5, 1 to 7). Network and loss see them standardised by their mean and
    standard deviation over the training split. The checkpoint keeps both, and predictions are given on the corpus's
    scale; of several corpora, on that of the first.
    """

    selection_metrics: ClassVar[tuple[str, ...]] = best_metrics(dimensions=True)
    learns_classes = False

    label_mean: Tensor
    label_spread: Tensor

    @classmethod
    @abstractmethod
    def dimension_names(cls, modelrc: Any) -> tuple[str, ...]:
        """Return the names of the O outputs: :data:`DIMENSIONS`, these and :data:`SPREADS`, or none."""

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: an unknown key, a batch that CCC is undefined for, or weights of classes that are not learnt
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        if int((runner or {}).get("gradient_accumulate_steps") or 1) > 1:
            raise ConfigError(
                "runner.gradient_accumulate_steps: CCC is computed over a batch, which accumulation would take apart; "
                "set it to 1 and raise datarc.train_batch_size"
            )
        if data.train_batch_size < 2:
            raise ConfigError("datarc.train_batch_size: CCC of one utterance is 0, whatever is learnt; take at least 2")
        if data.balanced_sampling or (data.class_weights != "none" and not cls.learns_classes):
            raise ConfigError(
                "downstream_expert.datarc: class_weights and balanced_sampling are for heads with classes"
            )
        return section, data, modelrc

    @classmethod
    def required_labels(cls, modelrc: Any) -> Needs:
        """Require the dimensions that are learnt, and their spreads where they are learnt."""
        names = cls.dimension_names(modelrc)
        return Needs(classes=False, dimensions=bool(names), spreads=SPREADS[0] in names)

    def prepare(self, modelrc: Any, downstream_expert: dict[str, Any]) -> None:
        """Compute mean and standard deviation of the training labels."""
        self.utterances: dict[str, dict[str, Utterance]] = {}  # of each split, by name
        self.learnt_dimensions = self.dimension_names(modelrc)
        width = len(self.learnt_dimensions)
        labels = self._labels(self.corpus.split(self.train_split)) if self.corpus else np.zeros((1, width))
        # The computed deviation of a constant is rounding error, not always 0.
        constant = np.nanmin(labels, axis=0) == np.nanmax(labels, axis=0)
        spread = np.where(constant, 1.0, np.nanstd(labels, axis=0))
        self.register_buffer("label_mean", torch.from_numpy(np.nanmean(labels, axis=0)).float())
        self.register_buffer("label_spread", torch.from_numpy(spread).float())

    @property
    def label_moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of the training labels of each dimension, on the corpus's scale."""
        pairs = zip(self.label_mean.tolist(), self.label_spread.tolist(), strict=True)
        return dict(zip(self.learnt_dimensions, pairs, strict=True))

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return standardised labels ``[B, O]``, NaN where unknown."""
        by_name = self.utterances_of(split)
        rows = torch.from_numpy(self._labels([by_name[name] for name in names])).float()
        return (rows - self.label_mean.cpu()) / self.label_spread.cpu()

    def record(self, split: str, records: Records, outputs: Tensor, targets: Tensor) -> None:
        """Keep standardised estimates and labels."""
        records["output"] += outputs.float().tolist()
        records["target"] += targets.tolist()

    def curves(self, records: Records) -> dict[str, float]:
        """Return the mean CCC of the dimensions over all recorded utterances."""
        width = len(DIMENSIONS)
        output, target = (torch.tensor(records[name], dtype=torch.float64)[:, :width] for name in ("output", "target"))
        known = ~target.isnan().any(dim=1)
        return {"mean_CCC": -concordance_loss(output[known], target[known]).item() if known.any() else math.nan}

    def selection_score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Return mean CCC as ``log.log`` has it, so that its lines agree; any other metric is the split's own."""
        return curves["mean_CCC"] if self.best_metric == "mean_CCC" else super().selection_score(curves, metrics)

    def split_loss(self, records: Records) -> float:
        """Return the loss over a whole split, which is not the mean of the losses of its batches."""
        rows = (torch.tensor(records[name], device=self.label_mean.device) for name in ("output", "target"))
        with torch.no_grad():
            return self.objective(*rows).item()

    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of the dimensions, write their files, and return the metrics."""
        estimates = self._on_corpus_scale(torch.tensor(records["output"], dtype=torch.float64)).numpy()
        truth = self._labels(utterances)
        return write_dimensional(self.expdir, utterances, truth, estimates, self.learnt_dimensions, made_by)

    def describe(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return the estimates of each utterance on the scale of the training corpus."""
        rows = self._on_corpus_scale(outputs.double().cpu()).tolist()
        return [dict(zip(self.learnt_dimensions, row, strict=True)) for row in rows]

    def utterances_of(self, split: str) -> dict[str, Utterance]:
        """Return a split's utterances by name.

        Raises:
            ConfigError: there is no corpus
        """
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if split not in self.utterances:
            self.utterances[split] = {utterance.name: utterance for utterance in self.corpus.split(split)}
        return self.utterances[split]

    def _on_corpus_scale(self, outputs: Tensor) -> Tensor:
        return outputs * self.label_spread.to(outputs) + self.label_mean.to(outputs)

    def _labels(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """Return labels ``[U, O]`` on the corpus's scale, NaN where a corpus has none."""
        unknown = (np.nan,) * len(DIMENSIONS)
        rows = [(*(item.dimensions or unknown), *(item.spreads or unknown)) for item in utterances]
        return np.array(rows)[:, : len(self.learnt_dimensions)]
