"""Base class of heads that learn the graders' distribution over classes and the dimensions at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_emotion.corpora import Corpus, Needs, Utterance
from s3prl_emotion.corpora.corpus import consensus_shares
from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.experts.base import Records
from s3prl_emotion.experts.dimensional import DimensionalExpert
from s3prl_emotion.experts.evaluation import write_multitask
from s3prl_emotion.loading.class_balance import weights_of_counts
from s3prl_emotion.metrics import registry
from s3prl_emotion.recipe import DataSection, HeadSection


class MultiTaskExpert(DimensionalExpert):
    """Base of heads whose outputs are ``[B, K + O]``: logits of the classes, then dimensions.

    Targets are the graders' shares of ``datarc.classes`` and standardised dimensions, NaN where unknown. The consensus
    is evaluated, over ``datarc.eval_classes`` where the recipe names them: Mitra et al. 2025 train on nine classes and
    evaluate six. ``best_metric: joint``, the mean of UAR and mean CCC, picks a checkpoint that is good at both.
    """

    selection_metrics = registry.best_metrics(classes=True, dimensions=True)
    learns_classes = True

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: as every head with dimensions, or ``best_metric`` is of dimensions that are not learnt
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        best = section.best_metric or cls.selection_metrics[0]
        others = (*registry.best_metrics(classes=True), registry.LOSS)
        if best not in others and not cls.dimension_names(modelrc):
            raise ConfigError(
                f"downstream_expert.best_metric: {best} needs dimensions, which modelrc.dimension_weight: 0 leaves "
                f"out; choose {', '.join(others[:-1])} or {others[-1]}"
            )
        return section, data, modelrc

    @classmethod
    def required_labels(cls, modelrc: Any) -> Needs:
        """Require grader shares, and the dimensions and spreads that are learnt."""
        return replace(super().required_labels(modelrc), shares=True)

    def prepare(self, modelrc: Any, downstream_expert: dict[str, Any]) -> None:
        """Compute the labels' moments, and check which classes are evaluated."""
        super().prepare(modelrc, downstream_expert)
        wanted = self.data.eval_classes or self.classes
        for name in wanted:
            if name not in self.classes:
                raise ConfigError(f"datarc.eval_classes: {name!r} is not learnt{nearest(name, self.classes)}")
        self.evaluated = tuple(name for name in self.classes if name in wanted)

    def class_weights(self) -> Tensor | None:
        """Return the weight of each class in the loss ``[K]``; ``None`` where ``datarc.class_weights`` is ``none``."""
        if self.data.class_weights == "none" or self.corpus is None:
            return None
        counts = np.nansum(self._shares_to_learn(self.corpus.split(self.train_split)), axis=0)
        return weights_of_counts(counts, self.data.class_weights, self.data.class_weights_beta)

    def training_counts(self, corpus: Corpus) -> NDArray[np.float64]:
        """Return the utterances of each class in the training split ``[K]``, or the sum of the shares to learn."""
        if self.data.distribution is not None and self.data.distribution.source == "consensus":
            return super().training_counts(corpus)  # smoothing gives every class a share
        return np.nansum(self._shares_to_learn(corpus.split(self.train_split)), axis=0)

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return grader shares and standardised dimensions ``[B, K + O]``."""
        by_name = self.utterances_of(split)
        shares = torch.from_numpy(self._shares_to_learn([by_name[name] for name in names])).float()
        return torch.cat([shares, super().targets(split, labels, names)], dim=1)

    def curves(self, records: Records) -> dict[str, float]:
        """Return the mean CCC of the dimensions; where none are learnt, the accuracy against the most graded class.

        Utterances without known shares are left out of the accuracy.
        """
        width = len(self.classes)
        if not self.learnt_dimensions:
            output, target = (np.array(records[name])[:, :width] for name in ("output", "target"))
            known = ~np.isnan(target).any(axis=1)
            hits = output[known].argmax(axis=1) == target[known].argmax(axis=1)
            return {"acc": float(hits.mean()) if known.any() else math.nan}
        return super().curves({name: [row[width:] for row in records[name]] for name in ("output", "target")})

    def selection_score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Return the metric that the recipe names; ``joint`` is the mean of UAR and mean CCC."""
        if self.best_metric != registry.JOINT:
            return super().selection_score(curves, metrics)
        return registry.score(metrics, registry.JOINT)

    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of classes and dimensions, write their files, and return the metrics."""
        output = torch.tensor(records["output"], dtype=torch.float64)
        width = len(self.classes)
        return write_multitask(
            self.expdir,
            utterances,
            shares=self._graders_shares(utterances),
            probability=torch.softmax(output[:, :width], dim=1).numpy(),
            truth=self._labels(utterances),
            estimates=self._on_corpus_scale(output[:, width:]).numpy(),
            names=self.learnt_dimensions,
            evaluated=self.evaluated,
            min_utterances=self.data.min_utterances,
            made_by=made_by,
        )

    def describe(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return class probabilities, most probable first, then dimensions on the scale of the training corpus."""
        width = len(self.classes)
        rows = torch.softmax(outputs[:, :width].double(), dim=1).tolist()
        classes = [dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1])) for row in rows]
        return [one | other for one, other in zip(classes, super().describe(outputs[:, width:]), strict=True)]

    def _shares_to_learn(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """Return the target distribution ``[U, K]``: graders' shares or the consensus; NaN where there is neither."""
        width, options = len(self.classes), self.data.distribution
        unknown = (np.nan,) * width
        if options is None or options.source != "consensus":
            return np.array([item.target_shares or item.shares or unknown for item in utterances])
        return np.array(
            [item.target_shares or consensus_shares(item.label, width, options.smoothing) for item in utterances]
        )

    def _graders_shares(self, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
        """Return the graders' shares ``[U, K]``, NaN where a corpus has none."""
        unknown = (np.nan,) * len(self.classes)
        return np.array([item.shares or unknown for item in utterances])
