"""Experts that learn the graders' distribution over classes and the dimensions at once."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s3prl_emotion.corpora import Needs, Utterance
from s3prl_emotion.corpora.corpus import consensus_shares
from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.experts.dimensional import DimensionalExpert
from s3prl_emotion.loading.class_balance import weights_of_counts
from s3prl_emotion.loading.evaluation import write_multitask
from s3prl_emotion.recipe import DataSection, HeadSection


class MultiTaskExpert(DimensionalExpert):
    """Base of heads that judge classes and dimensions: outputs are ``[B, K + O]``, logits first.

    What is learnt is the graders' distribution over ``datarc.classes``; what is evaluated is the consensus, over
    ``datarc.eval_classes`` where the recipe names them: Mitra et al. 2025 train on nine classes and evaluate six.
    ``best_metric: joint``, the mean of UAR and mean CCC, picks a checkpoint that is good at both.
    """

    metrics = ("joint", "UAR", "WA", "macro_f1", "mean_CCC")
    weighs_classes = True

    @abstractmethod
    def build_weighted_loss(self, modelrc: Any, weight: Tensor | None) -> nn.Module:
        """The loss: outputs ``[B, K + O]``, targets (NaN: unknown); ``weight [K]`` where classes are weighted."""

    @classmethod
    def check(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """As every head's; refuses to pick by dimensions that are not learnt."""
        section, data, modelrc = super().check(downstream_expert, variant, runner)
        best = section.best_metric or cls.metrics[0]
        if not cls.learns_dimensions(modelrc):
            if best in ("joint", "mean_CCC"):
                raise ConfigError(
                    f"downstream_expert.best_metric: {best} needs dimensions, which modelrc.dimension_weight: 0 leaves "
                    "out; choose UAR, WA or macro_f1"
                )
            if cls.learns_spreads(modelrc):
                raise ConfigError("downstream_expert.modelrc: target_variance needs a dimension_weight above 0")
        return section, data, modelrc

    @classmethod
    def needs(cls, modelrc: Any) -> Needs:
        """Grader shares, activation, valence and dominance; their spreads where they are learnt."""
        dimensions, spreads = cls.learns_dimensions(modelrc), cls.learns_spreads(modelrc)
        return Needs(classes=False, dimensions=dimensions, spreads=spreads, shares=True)

    def build_loss(self, modelrc: Any) -> nn.Module:
        """The head's loss, weighted as ``datarc.class_weights`` says."""
        wanted = self.data.eval_classes or self.classes
        for name in wanted:
            if name not in self.classes:
                raise ConfigError(f"datarc.eval_classes: {name!r} is not learnt{nearest(name, self.classes)}")
        self.evaluated = tuple(name for name in self.classes if name in wanted)
        weight = None
        if self.data.class_weights != "none" and self.corpus is not None:
            counts = np.nansum(self._learnt(self.corpus.split(self.train_split)), axis=0)
            weight = weights_of_counts(counts, self.data.class_weights)
        return self.build_weighted_loss(modelrc, weight)

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Grader shares and standardised dimensions ``[B, K + O]``."""
        known = self._known(split)
        shares = torch.from_numpy(self._learnt([known[name] for name in names])).float()
        return torch.cat([shares, super().targets(split, labels, names)], dim=1)

    def curves(self, records: dict[str, list[Any]]) -> dict[str, float]:
        """Mean CCC of the dimensions over what the records hold; without dimensions, how often both agree on a class.

        Utterances of which no share is known do not count.
        """
        width = len(self.classes)
        if not self.names:
            output, target = (np.array(records[name])[:, :width] for name in ("output", "target"))
            known = ~np.isnan(target).any(axis=1)
            hits = output[known].argmax(axis=1) == target[known].argmax(axis=1)
            return {"acc": float(hits.mean()) if known.any() else math.nan}
        return super().curves({name: [row[width:] for row in records[name]] for name in ("output", "target")})

    def score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """The metric that the recipe names."""
        if self.best_metric != "joint":
            return super().score(curves, metrics)
        parts = [metrics.get("UAR"), metrics.get("mean_CCC")]
        return None if None in parts else float(np.mean([part for part in parts if part is not None]))

    def write_results(
        self, utterances: Sequence[Utterance], records: dict[str, list[Any]], made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Metrics and files of classes and dimensions."""
        output = torch.tensor(records["output"], dtype=torch.float64)
        width = len(self.classes)
        return write_multitask(
            self.expdir,
            utterances,
            shares=self._shares(utterances),
            probability=torch.softmax(output[:, :width], dim=1).numpy(),
            truth=self._labels(utterances),
            estimates=self._in_corpus_scale(output[:, width:]).numpy(),
            names=self.names,
            evaluated=self.evaluated,
            min_utterances=self.data.min_utterances,
            made_by=made_by,
        )

    def answer(self, output: Tensor) -> list[dict[str, float]]:
        """Class probabilities, most probable first, then dimensions on the scale of the corpus that was trained on."""
        width = len(self.classes)
        rows = torch.softmax(output[:, :width].double(), dim=1).tolist()
        answers = [dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1])) for row in rows]
        return [one | other for one, other in zip(answers, super().answer(output[:, width:]), strict=True)]

    def _learnt(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """What is learnt of the classes ``[U, K]``: the graders' shares, or the consensus; NaN where there is none."""
        width, options = len(self.classes), self.data.distribution
        unknown = (np.nan,) * width
        if options is None or options.source != "consensus":
            return np.array([item.taught or item.shares or unknown for item in utterances])
        return np.array([item.taught or consensus_shares(item.label, width, options.smoothing) for item in utterances])

    def _shares(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """Grader shares ``[U, K]``, NaN where a corpus has none."""
        unknown = (np.nan,) * len(self.classes)
        return np.array([item.shares or unknown for item in utterances])
