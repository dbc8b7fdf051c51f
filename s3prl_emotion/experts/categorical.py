"""Experts that classify: class weights, accuracy, probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_emotion.corpora import Needs, Utterance
from s3prl_emotion.experts.base import EmotionExpert
from s3prl_emotion.loading.class_balance import class_weights
from s3prl_emotion.loading.evaluation import write_categorical
from s3prl_emotion.metrics import results


class CategoricalExpert(EmotionExpert):
    """Base of heads that learn one class for each utterance: outputs are logits ``[B, K]``."""

    metrics = ("WA", "UAR", "macro_f1")
    worst = 0.0

    @abstractmethod
    def build_loss(self, modelrc: Any, weight: Tensor | None) -> nn.Module:
        """The loss: logits ``[B, K]``, class indices ``[B]`` to a scalar; ``weight [K]`` where classes are weighted."""

    @classmethod
    def needs(cls, modelrc: Any) -> Needs:
        """A class for every utterance."""
        return Needs()

    def make_objective(self, modelrc: Any) -> nn.Module:
        """The head's loss, weighted as ``datarc.class_weights`` says."""
        return self.build_loss(modelrc, self._class_weights())

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Class indices ``[B]``."""
        return torch.as_tensor(labels)

    def observe(self, split: str, records: dict[str, list[Any]], output: Tensor, target: Tensor) -> None:
        """Hits, of what has a class, and for evaluated splits probabilities."""
        records["acc"] += (output.argmax(dim=-1) == target)[target >= 0].float().tolist()
        if not self._trains_on(split):
            records["probability"] += torch.softmax(output.float(), dim=-1).tolist()

    def curves(self, records: dict[str, list[Any]]) -> dict[str, float]:
        """Accuracy, in float32 as the stock task logs it."""
        return {"acc": results.float32_mean(records["acc"])}

    def score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """SUPERB picks by accuracy in float32; the other metrics are the split's own."""
        return curves["acc"] if self.best_metric == "WA" else super().score(curves, metrics)

    def write_results(
        self, utterances: Sequence[Utterance], records: dict[str, list[Any]], made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Metrics and files of classes."""
        return write_categorical(self.expdir, utterances, records["probability"], made_by)

    def answer(self, output: Tensor) -> list[dict[str, float]]:
        """Class probabilities, most probable first."""
        rows = torch.softmax(output.float(), dim=-1).tolist()
        return [dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1])) for row in rows]

    def _class_weights(self) -> Tensor | None:
        if self.data.class_weights == "none" or self.corpus is None:
            return None
        labels = [utterance.label for utterance in self.corpus.split(self.train_split)]
        return class_weights(labels, len(self.classes), self.data.class_weights)
