"""``-d emotion_latent``: Das et al. 2022 as an s3prl downstream; network in ``model.py``, losses in ``losses.py``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion import host
from s3prl_emotion.corpora import DIMENSIONS, Utterance
from s3prl_emotion.distributed import world
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.experts.base import Records
from s3prl_emotion.experts.categorical import CategoricalExpert
from s3prl_emotion.experts.standardizer import check_finite
from s3prl_emotion.limits import MOST_STACKED, MOST_WIDTH, shown
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.metrics.registry import LOSS
from s3prl_emotion.metrics.results import float32_mean
from s3prl_emotion.recipe import DataSection, HeadSection, StrictSection
from s3prl_emotion.store.means import MEANS

from .analysis import latent_metrics, plot_latents
from .fitting import fit_pairs, fit_svc, standardisation
from .losses import UNKNOWN, LatentLoss, Outputs
from .model import LIMIT, NO_CLASS, NO_LIMIT, SAMPLE, LatentModel
from .unlabelled import UnlabelledSection, check_unlabelled, with_unlabelled

logger = logging.getLogger(__name__)


class AnnealingSection(StrictSection):
    """``modelrc.annealing``: R, M and T of eq. 3, which the paper does not give."""

    ramp: float = Field(default=0.5, gt=0, le=1)
    cycles: float = Field(default=5, ge=1)
    epochs: float = Field(default=50, ge=1)


class ModelSection(StrictSection):
    """``modelrc``; ``config.yaml`` marks what the paper leaves open."""

    method: Literal["none", "dae", "vae", "vae_annealed", "vae_cluster", "vae_metric", "dae_metric"] = "dae"
    hidden: list[int] = Field(default_factory=list)
    latent: int = Field(default=4, ge=1, le=MOST_WIDTH)
    noise: float = Field(default=0.1, ge=0)
    annealing: AnnealingSection = AnnealingSection()
    gamma: float = Field(default=1.0, ge=0)
    dimension: Literal["activation", "valence"] = "activation"
    cost: float = Field(default=1.0, gt=0)
    multi_class: Literal["ovr", "ovo"] = "ovr"
    outliers: Literal["auto"] | Annotated[float, Field(gt=0)] | None = "auto"
    unlabelled: UnlabelledSection | None = None

    @property
    def limit(self) -> float:
        """The z-score beyond which a feature makes an utterance an outlier.

        ``auto`` is the paper's 10, but none for a plain SVC (``method: none`` with ``multi_class: ovo``), which is that
        of other toolkits.
        """
        if self.outliers == "auto":
            return NO_LIMIT if (self.method, self.multi_class) == ("none", "ovo") else LIMIT
        return NO_LIMIT if self.outliers is None else self.outliers


COMPARABLE = ("dae", "vae", "dae_metric")  # methods whose loss is the same function at every step
COLUMNS = {"activation": 0, "valence": 1}  # of DIMENSIONS
NOT_FITTED = "emotion_latent is not fitted to a training split; train it, or give a trained checkpoint with -e"


class DownstreamExpert(CategoricalExpert):
    """Autoencoder on features of whole utterances, and a linear SVC on its latent.

    The SVC is fitted to the latents of the training split whenever weights are evaluated or saved, and a checkpoint
    holds it: ``-m evaluate`` and ``-m inference`` need no training data.
    """

    model_section = ModelSection
    of_training_data: ClassVar[Mapping[str, float]] = {"model.sample": 0, "model.sample_classes": NO_CLASS}
    model: LatentModel

    @classmethod
    def reads(cls, modelrc: ModelSection) -> str:
        """Return means: frames are averaged before anything else."""
        return MEANS

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, ModelSection]:
        """Read and check the recipe's section.

        Raises:
            ConfigError: as every head, or widths, splits or a seeding that this head cannot use
        """
        section, data, modelrc = super().read_section(downstream_expert, variant, runner)
        if len(modelrc.hidden) > MOST_STACKED or not all(1 <= width <= MOST_WIDTH for width in modelrc.hidden):
            raise ConfigError(
                f"downstream_expert.modelrc.hidden: widths of 1 and more, at most {MOST_STACKED} and each up to "
                f"{MOST_WIDTH}, got {shown(modelrc.hidden)}"
            )
        if (runner or {}).get("seeding") == "superb":
            raise ConfigError("runner.seeding superb: SUPERB has no counterpart of emotion_latent; use seeding: seed")
        if section.best_metric == LOSS and modelrc.method not in COMPARABLE:
            raise ConfigError(
                f"downstream_expert.best_metric: loss: with modelrc.method {modelrc.method} "
                + ("nothing is trained" if modelrc.method == "none" else "the loss changes its weights as epochs pass")
                + ", so losses of different steps do not compare; choose UAR, WA or macro_f1"
            )
        check_unlabelled(modelrc.unlabelled, data)
        return section, data, modelrc

    def prepare(self, modelrc: ModelSection, downstream_expert: dict[str, Any]) -> None:
        """Move unlabelled utterances into the training split.

        Raises:
            ConfigError: this run cannot fit what the head fits to the training split's features
            LabelError: the training split lacks the labels that the metric loss learns
        """
        self.modelrc = modelrc
        self.split_targets: dict[str, dict[str, list[float]]] = {}  # by split and utterance
        self.training_rows: Tensor | None = None  # features [U, D] of the training utterances that the SVC is fitted to
        self.training_classes: list[int] = []  # of these rows, [U]
        self.outliers: frozenset[str] = frozenset()
        self.svc_is_stale = False  # whether the encoder was trained since the SVC was fitted
        if self.options.get("upstream_trainable"):
            raise ConfigError("-f: emotion_latent reconstructs the upstream's features, which must stay as they are")
        if self.options.get("mode") == "train" and not host.launched():
            raise ConfigError(
                "emotion_latent needs the features of the whole training split, which s3prl's own script does not give "
                "it; train with s3prl-emotion's own run_downstream.py"
            )
        if self.corpus is not None and modelrc.unlabelled is not None:
            self.corpus = with_unlabelled(self.corpus, modelrc.unlabelled, self.train_split)
            self.loaders = Loaders(self.corpus, self.data, self.seed)
        if modelrc.method.endswith("metric"):
            self._check_labels()

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Return encoder, decoder and classifier."""
        sizes = (modelrc.method, modelrc.hidden, modelrc.latent, modelrc.noise, modelrc.multi_class, modelrc.limit)
        return LatentModel(upstream_dim, len(self.classes), *sizes, names=self.classes)

    def build_loss(self, modelrc: ModelSection) -> nn.Module:
        """Return eqs. 1-10; ``datarc.class_weights`` weighs the classes of the SVC alone."""
        return LatentLoss(modelrc.method, **modelrc.annealing.model_dump(), gamma=modelrc.gamma)

    def last_layer(self) -> nn.Module:
        """Return the SVC, whose input is the latent."""
        return self.model.classifier

    # --- what is fitted to the training split ------------------------------------------------------------------------

    def fit(self, pooled: Callable[[str], tuple[list[str], Tensor]]) -> None:
        """Fit the standardisation, find the outliers, and keep the features that the SVC is fitted to.

        Raises:
            LabelError: the training split has only one class
            ConfigError: features that are not finite
        """
        names, rows = pooled(self.train_split)
        check_finite(names, rows)
        fitted = standardisation(rows.double().numpy(), self.modelrc.limit)
        kept = fitted.kept.tolist()
        targets = self._targets_of(self.train_split)
        classes = [int(targets[name][0]) for name in names]
        chosen = [index for index, label in enumerate(classes) if kept[index] and label >= 0]
        self.training_classes = [classes[index] for index in chosen]
        if len(set(self.training_classes)) < 2:
            present = ", ".join(self.classes[label] for label in sorted(set(self.training_classes))) or "none"
            raise LabelError(
                f"split {self.train_split!r} of {self.fold}: the SVC needs two classes or more, this split has: "
                f"{present}; choose another fold or other classes"
            )
        self.training_rows = rows[chosen].to(self.device)
        self.outliers = frozenset(name for name, keep in zip(names, kept, strict=True) if not keep)
        for name in self.outliers:
            targets[name][2] = 0.0
        cast(LatentLoss, self.objective).batches_per_epoch = math.ceil(
            len(names) / (self.data.train_batch_size * world())
        )
        self.provenance["outliers"] = len(self.outliers)
        if not self.model.ready.item():  # a checkpoint keeps its own, which its weights were trained with
            self.model.location.copy_(torch.from_numpy(fitted.location))
            self.model.scale.copy_(torch.from_numpy(fitted.scale))
            self.model.ready.fill_(1)
        self.svc_is_stale = True

    def before_evaluation(self) -> None:
        """Fit the SVC to the training latents of the current weights, and keep their mean, covariance and a sample."""
        if not self.svc_is_stale or self.training_rows is None:
            return
        with torch.no_grad():
            mean, _ = self.model.encode(self.model.standardise(self.training_rows))
        latents = mean.double().cpu().numpy()
        options = (self.data.class_weights, self.modelrc.cost, self.data.class_weights_beta)
        fitted: tuple[Any, ...] = (
            fit_pairs(latents, self.training_classes, self.classes, *options)
            if self.modelrc.multi_class == "ovo"
            else fit_svc(latents, self.training_classes, len(self.classes), *options)
        )
        model = self.model
        for name, values in zip(("coefficients", "intercepts", "present"), fitted, strict=False):
            getattr(model.classifier, name).copy_(torch.from_numpy(values))
        model.center.copy_(torch.from_numpy(latents.mean(axis=0)))
        model.covariance.copy_(torch.from_numpy(np.atleast_2d(np.cov(latents, rowvar=False, ddof=0))))
        drawn = np.random.default_rng(0).permutation(len(latents))[:SAMPLE]
        model.sample.zero_()[: len(drawn)] = mean[drawn.tolist()]
        model.sample_classes.fill_(NO_CLASS)[: len(drawn)] = torch.tensor(self.training_classes)[drawn]
        self.svc_is_stale = False

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Refuse weights of another head or of other classes; the weights bring their own SVC."""
        super().set_extra_state(state)
        self.svc_is_stale = False

    # --- batches -----------------------------------------------------------------------------------------------------

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return padded features ``[B, T, D]`` and lengths ``[B]``.

        Raises:
            ConfigError: nothing was fitted to a training split yet
        """
        if not self.model.ready.item():
            raise ConfigError(NOT_FITTED)
        return super().inputs(split, features, names)

    def logits(self, outputs: Outputs) -> Tensor:
        """Return the SVC's decision values, or votes (``ovo``); their softmax ranks the classes, uncalibrated."""
        return outputs.scores

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return class, label of the dimension, and whether the utterance counts, ``[B, 3]``."""
        by_name = self._targets_of(split)
        return torch.tensor([by_name[name] for name in names])

    def record(self, split: str, records: Records, outputs: Outputs, targets: Tensor) -> None:
        """Keep the terms of the loss, and for evaluated splits what a head with classes keeps, and the latents."""
        for name, value in cast(LatentLoss, self.objective).parts.items():
            records[name].append(value)
        if self.is_training_on(split):
            self.svc_is_stale = True
            return
        super().record(split, records, outputs, targets[:, 0].long())
        records["latent"] += outputs.mean.float().tolist()

    def curves(self, records: Records) -> dict[str, float]:
        """Return the terms of the loss, behind the accuracy of evaluated splits."""
        values = super().curves(records) if records.get("acc") else {}
        parts = ("reconstruction", "KL", "cluster", "residual", "slope")
        values |= {name: float32_mean(records[name]) for name in parts if records.get(name)}
        return values or {"loss": float32_mean(records["loss"])}

    def selection_score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Return the split's own metric; training batches have none, since they are not classified."""
        return metrics.get(self.best_metric)

    # --- results -----------------------------------------------------------------------------------------------------

    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of the classes and :func:`latent_metrics` under ``latent``, and write the files.

        For a checkpoint, also plot the latents of the split beside those of the training split.
        """
        latents = np.array(records["latent"], dtype=np.float64)
        unknown = (math.nan,) * len(DIMENSIONS)
        rated = np.array([item.dimensions or unknown for item in utterances], dtype=np.float64)
        labels = {DIMENSIONS[column]: rated[:, column] for column in COLUMNS.values()}
        model = self.model
        covariance = model.covariance.double().cpu().numpy()
        latent = latent_metrics(latents, labels, model.center.double().cpu().numpy(), covariance)
        metrics = super().write_results(utterances, records, made_by | model.sizes() | {"latent": latent})
        if made_by["checkpoint"]:
            self._draw(latents, [self.classes[item.label] for item in utterances], made_by["split"])
        return metrics

    def _draw(self, latents: Any, classes: Sequence[str], split: str) -> None:
        labels = self.model.sample_classes.tolist()
        sample_classes = [self.classes[label] for label in labels if label != NO_CLASS]
        if not sample_classes:
            logger.info("%s: no plot of its latents, since a packed head holds no training latents", split)
            return
        sample = self.model.sample[: len(sample_classes)].double().cpu().numpy()
        plot_latents(self.expdir / f"{split}_{self.fold}_latent.png", sample, sample_classes, latents, classes, split)

    def _targets_of(self, split: str) -> dict[str, list[float]]:
        """Return class, label and 1 (the utterance counts) of each of a split's utterances, by name."""
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if split not in self.split_targets:
            column = COLUMNS[self.modelrc.dimension]
            self.split_targets[split] = {
                item.name: [
                    float(item.label) if item.label >= 0 else UNKNOWN,
                    item.dimensions[column] if item.dimensions else math.nan,
                    1.0,
                ]
                for item in self.corpus.split(split)
            }
        return self.split_targets[split]

    def _check_labels(self) -> None:
        """Raise ``LabelError`` where no training utterance has labels for the metric loss."""
        if self.corpus is None or self.options.get("mode") != "train":
            return
        if all(item.dimensions is None for item in self.corpus.split(self.train_split)):
            raise LabelError(
                f"{self.corpus.source}: no {', '.join(DIMENSIONS)} in the training split, which modelrc.method "
                f"{self.modelrc.method} learns; add them, or use another method"
            )
