"""One trained model of a predictor: the head, and the upstream whose features it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import UsageError, is_out_of_memory
from s3prl_emotion.predict.about import About
from s3prl_emotion.predict.prediction import SpanPrediction

if TYPE_CHECKING:
    from s3prl_emotion.predict.model import TrainedModel


class Member:
    """A trained model, alone or in an ensemble.

    Args:
        model: head and upstream

    Attributes:
        about: description of the model
    """

    def __init__(self, model: TrainedModel) -> None:
        self.model = model
        self.expert = expert = model.downstream.model
        modelrc = type(expert).model_section.read(model.config["downstream_expert"].get("modelrc") or {}, "modelrc")
        self.about = About(
            checkpoint=model.args.init_ckpt,
            head=model.args.downstream,
            upstream=model.args.upstream,
            classes=expert.learnt_classes,
            dimensions=expert.learnt_dimensions,
            attends=expert.has_attention(modelrc),
            step=model.step,
            frame_shift=float(model.featurizer.model.downsample_rate / SAMPLE_RATE),
            notes=model.notes,
        )

    @property
    def path(self) -> Path:
        """The checkpoint with links resolved, which tells members apart."""
        return Path(self.about.checkpoint).resolve()

    def predict(self, features: Sequence[Tensor], names: Sequence[str], attention: bool) -> list[SpanPrediction]:
        """Return what the head predicts for spans of audio.

        Args:
            features: ``[T_b, D]`` of each
            names: of the utterances that they belong to, for messages
            attention: return the attention weights too

        Raises:
            UsageError: memory does not suffice
        """
        expert, about = self.expert, self.about
        try:
            with torch.no_grad():
                output = expert.model(*expert.inputs(None, features, names))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(
                f"out of memory in a batch of {len(names)} ({names[0]}, …); lower --batch_size, or split long audio "
                "with --window"
            ) from error
        weights = expert.attention_weights(features, names) if attention else [None] * len(names)
        return [
            SpanPrediction(
                probabilities={name: values[name] for name in about.classes},
                dimensions={name: values[name] for name in about.dimensions},
                attention=weight,
            )
            for values, weight in zip(expert.describe(output), weights, strict=True)
        ]
