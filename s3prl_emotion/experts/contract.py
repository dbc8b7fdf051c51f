"""What differs between experts (what they learn) and between heads (what they are), as :mod:`.expert` asks for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from s3prl_emotion.corpora import Needs, Utterance
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.masking import pad_features
from s3prl_emotion.recipe import StrictSection


class ExpertContract(nn.Module, ABC):
    """The methods that differ between what is learnt (classes, dimensions, both) and between heads."""

    model_section: ClassVar[type[StrictSection]]  # keys of ``modelrc``
    metrics: ClassVar[tuple[str, ...]]  # by which the best checkpoint can be picked; the first is the default
    worst: ClassVar[float]  # what the first score must pass
    best_metric: str
    head: str
    model: Any

    # --- what an expert gives --------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def needs(cls, modelrc: Any) -> Needs:
        """What every utterance must be labelled with."""

    @abstractmethod
    def make_objective(self, modelrc: Any) -> nn.Module:
        """The loss: outputs ``[B, O]``, targets of :meth:`targets` to a scalar."""

    @abstractmethod
    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """What the outputs are compared with, ``[B, ...]``."""

    @abstractmethod
    def observe(self, split: str, records: dict[str, list[Any]], output: Tensor, target: Tensor) -> None:
        """Keep what :meth:`curves` needs, and for evaluated splits what :meth:`write_results` needs."""

    @abstractmethod
    def curves(self, records: dict[str, list[Any]]) -> dict[str, float]:
        """What is logged, by name; the first is what ``log.log`` shows."""

    def score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """By what the best checkpoint is picked; ``None`` where it is not defined."""
        return metrics.get(self.best_metric)

    def loss_of(self, records: dict[str, list[Any]]) -> float:
        """Loss of an evaluated split, for its metrics: the mean over the utterances."""
        return float(np.average(records["loss"], weights=records["batch_size"]))

    @abstractmethod
    def write_results(
        self, utterances: Sequence[Utterance], records: dict[str, list[Any]], made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of an evaluated split, and write its files."""

    @abstractmethod
    def answer(self, output: Tensor) -> list[dict[str, float]]:
        """Outputs ``[B, O]`` in words, for ``-m inference``."""

    def meet_features(self, pooled: Callable[[str], tuple[list[str], Tensor]]) -> None:
        """Told by the suite's runner, ahead of training, how to get the features of a whole split.

        Heads that fit something to the training split override it; nothing is computed for the others.

        Args:
            pooled: name of a split to the names of its utterances ``[U]`` and their features, averaged over frames,
                ``[U, D]``, on the CPU; in every process alike
        """
        return

    def settle(self) -> None:
        """Told by the suite's runner that the weights of the moment are about to be evaluated or saved."""
        return

    # --- what a head gives -----------------------------------------------------------------------------------------

    @abstractmethod
    def build_model(self, modelrc: Any, upstream_dim: int) -> nn.Module:
        """The network: what :meth:`inputs` gives to outputs ``[B, O]``."""

    def resolve(self, modelrc: Any, downstream_expert: dict[str, Any], upstream_dim: int) -> Any:
        """Read what ``modelrc`` names besides; what the head is built from is kept in ``downstream_expert``."""
        return modelrc

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """What the network takes: padded features ``[B, T, D]`` and lengths ``[B]``; ``split`` is ``None`` for a file.

        Raises:
            AudioError: an utterance is too short for the upstream to give a frame
        """
        return pad_features(features, names)

    def last_layer(self) -> nn.Module:
        """The layer of the network that gives the outputs; its input ``[B, E]`` is the utterance embedding."""
        return self.model.output

    def has_attention(self, modelrc: Any) -> bool:
        """Whether the head attends over frames, so that ``attention_dir`` has something to export."""
        return False

    def attention_weights(self, features: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Attention weights ``[T_b]`` of each utterance; heads for which :meth:`has_attention` holds override it."""
        raise ConfigError(f"downstream_expert.attention_dir: {self.head} gives no attention weights; leave it out")
