"""Base class of heads that learn one class per utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_emotion.corpora import Needs, Utterance
from s3prl_emotion.experts.base import EmotionExpert, Records
from s3prl_emotion.experts.evaluation import write_categorical
from s3prl_emotion.loading.class_balance import class_weights
from s3prl_emotion.losses import AdjustedLoss, FocalLoss
from s3prl_emotion.metrics.registry import best_metrics
from s3prl_emotion.metrics.results import float32_mean
from s3prl_emotion.recipe import ADJUSTED, CROSS_ENTROPY, FOCAL

CLASS_LOSSES = (CROSS_ENTROPY, FOCAL, *ADJUSTED)


class CategoricalExpert(EmotionExpert):
    """Base of heads whose targets are class indices ``[B]`` and whose outputs are, or hold, logits ``[B, K]``."""

    selection_metrics = best_metrics(classes=True)
    learns_classes = True

    @classmethod
    def required_labels(cls, modelrc: Any) -> Needs:
        """Require a class of every utterance."""
        return Needs()

    def class_weights(self) -> Tensor | None:
        """Return the weight of each class in the loss ``[K]``; ``None`` where ``datarc.class_weights`` is ``none``."""
        if self.data.class_weights == "none" or self.corpus is None:
            return None
        labels = [utterance.label for utterance in self.corpus.split(self.train_split)]
        return class_weights(labels, len(self.classes), self.data.class_weights, self.data.class_weights_beta)

    def categorical_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        """Return the loss of logits ``[B, K]`` against class indices ``[B]`` that the recipe's ``class_loss`` names.

        A head whose :meth:`build_loss` uses it declares ``class_losses = CLASS_LOSSES``.

        Args:
            label_smoothing: share of the labels that is spread over all classes; of the cross-entropy alone
        """
        offset = self.class_offset()
        if offset is not None:
            return AdjustedLoss(offset)
        if self.class_loss.name == FOCAL:
            return FocalLoss(self.class_loss.gamma, self.class_weights())
        return nn.CrossEntropyLoss(weight=self.class_weights(), label_smoothing=label_smoothing)

    def logits(self, outputs: Any) -> Tensor:
        """Return the logits ``[B, K]`` of the classes; heads whose outputs hold more than these override it."""
        return outputs

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return class indices ``[B]``."""
        return torch.as_tensor(labels)

    def record(self, split: str, records: Records, outputs: Any, targets: Tensor) -> None:
        """Keep which utterances are classified rightly, and for evaluated splits the probabilities.

        An utterance without a class (negative target) is neither right nor wrong.
        """
        logits = self.logits(outputs)
        records["acc"] += (logits.argmax(dim=-1) == targets)[targets >= 0].float().tolist()
        if not self.is_training_on(split):
            records["probability"] += torch.softmax(logits.float(), dim=-1).tolist()

    def curves(self, records: Records) -> dict[str, float]:
        """Return the accuracy, in float32 as the stock task logs it."""
        return {"acc": float32_mean(records["acc"])}

    def selection_score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Return the accuracy in float32 for WA, as SUPERB picks checkpoints; any other metric is the split's own."""
        return curves["acc"] if self.best_metric == "WA" else super().selection_score(curves, metrics)

    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of the classes, write their files, and return the metrics."""
        return write_categorical(self.expdir, utterances, records["probability"], made_by)

    def describe(self, outputs: Any) -> list[dict[str, float]]:
        """Return class probabilities of each utterance, most probable class first."""
        rows = torch.softmax(self.logits(outputs).float(), dim=-1).tolist()
        return [dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1])) for row in rows]
