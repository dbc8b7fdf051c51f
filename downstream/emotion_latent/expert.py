"""``-d emotion_latent``: Das et al. 2022 as an s3prl downstream; network in ``model.py``, losses in ``losses.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from s3prl_emotion import host
from s3prl_emotion.corpora import DIMENSIONS, Utterance
from s3prl_emotion.distributed import world
from s3prl_emotion.errors import ConfigError, LabelError
from s3prl_emotion.experts.categorical import CategoricalExpert
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.metrics import results
from s3prl_emotion.recipe import StrictSection

from .analysis import latent_metrics, plot_latents
from .fitting import fit_svc, standardisation
from .losses import UNKNOWN, LatentLoss, Outputs
from .model import NO_CLASS, SAMPLE, LatentModel
from .unlabelled import UnlabelledSection, check_unlabelled, with_unlabelled


class AnnealingSection(StrictSection):
    """``modelrc.annealing:`` R, M and T of eq. 3, which the paper does not give."""

    ramp: float = Field(default=0.5, gt=0, le=1)
    cycles: float = Field(default=5, ge=1)
    epochs: float = Field(default=50, ge=1)


class ModelSection(StrictSection):
    """``modelrc``: what the paper leaves open is marked in ``config.yaml``."""

    method: Literal["none", "dae", "vae", "vae_annealed", "vae_cluster", "vae_metric", "dae_metric"] = "dae"
    hidden: list[int] = Field(default_factory=list)
    latent: int = Field(default=4, ge=1)
    noise: float = Field(default=0.1, ge=0)
    annealing: AnnealingSection = AnnealingSection()
    gamma: float = Field(default=1.0, ge=0)
    dimension: Literal["activation", "valence"] = "activation"
    cost: float = Field(default=1.0, gt=0)
    unlabelled: UnlabelledSection | None = None


PLACES = {"activation": 0, "valence": 1}  # in DIMENSIONS
UNFIT = "emotion_latent is not fitted to a training split; train it, or give a trained checkpoint with -e"


class DownstreamExpert(CategoricalExpert):
    """Autoencoder on features of whole utterances, and a linear SVC on its latent.

    The SVC is fitted to the latents of the training split whenever weights are evaluated or saved, and a checkpoint
    holds it: ``-m evaluate`` and ``-m inference`` need no training data.
    """

    model_section = ModelSection
    model: LatentModel

    @classmethod
    def check(cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None) -> Any:
        """As every head's; refuses what this one cannot do."""
        section, data, modelrc = super().check(downstream_expert, variant, runner)
        if min(modelrc.hidden, default=1) < 1:
            raise ConfigError(f"downstream_expert.modelrc.hidden: widths of 1 and more, got {modelrc.hidden}")
        if (runner or {}).get("seeding") == "superb":
            raise ConfigError("runner.seeding superb: SUPERB has no counterpart of emotion_latent; take seeding: seed")
        check_unlabelled(modelrc.unlabelled, data)
        return section, data, modelrc

    def resolve(self, modelrc: ModelSection, downstream_expert: dict[str, Any], upstream_dim: int) -> ModelSection:
        """Move unlabelled utterances into training; refuse what would train blindly."""
        self.modelrc = modelrc
        self.targets_of: dict[str, dict[str, list[float]]] = {}  # of each split's utterances by name
        self.training_rows: Tensor | None = None  # features of the training utterances that count, with their classes
        self.training_classes: list[int] = []
        self.outliers: frozenset[str] = frozenset()
        self.stale = False  # whether the encoder was trained since the SVC was fitted
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
        return modelrc

    def build_model(self, modelrc: ModelSection, upstream_dim: int) -> nn.Module:
        """Encoder, decoder and classifier."""
        sizes = (modelrc.method, modelrc.hidden, modelrc.latent, modelrc.noise)
        return LatentModel(upstream_dim, len(self.classes), *sizes)

    def make_objective(self, modelrc: ModelSection) -> nn.Module:
        """The loss, which knows no classes but in clusters: ``datarc.class_weights`` is for the SVC."""
        return self.build_loss(modelrc, None)

    def build_loss(self, modelrc: ModelSection, weight: Tensor | None) -> nn.Module:
        """Eqs. 1-10."""
        options = {**modelrc.annealing.model_dump(), "gamma": modelrc.gamma}
        return LatentLoss(modelrc.method, self.model.widths, **options)

    def last_layer(self) -> nn.Module:
        """The SVC: its input is the latent."""
        return self.model.classifier

    # --- what is fitted to the training split ------------------------------------------------------------------------

    def meet_features(self, pooled: Callable[[str], tuple[list[str], Tensor]]) -> None:
        """Fit the standardisation, find the outliers, and keep the features for the SVC.

        Raises:
            LabelError: the training split has one class alone
            ConfigError: features that are not finite
        """
        names, rows = pooled(self.train_split)
        if not torch.isfinite(rows).all():
            bad = names[int((~torch.isfinite(rows).all(dim=1)).nonzero()[0])]
            raise ConfigError(f"{bad}: the upstream's features are not finite")
        fitted = standardisation(rows.double().numpy())
        kept = fitted.kept.tolist()
        targets = self._targets(self.train_split)
        classes = [int(targets[name][0]) for name in names]
        chosen = [place for place, label in enumerate(classes) if kept[place] and label >= 0]
        self.training_classes = [classes[place] for place in chosen]
        if len(set(self.training_classes)) < 2:
            there = ", ".join(self.classes[label] for label in sorted(set(self.training_classes))) or "none"
            raise LabelError(
                f"split {self.train_split!r} of {self.fold}: the SVC needs two classes or more, there: {there}; choose "
                "another fold or classes"
            )
        self.training_rows = rows[chosen].to(self.device)
        self.outliers = frozenset(name for name, keep in zip(names, kept, strict=True) if not keep)
        for name in self.outliers:
            targets[name][2] = 0.0
        cast(LatentLoss, self.objective).batches_per_epoch = math.ceil(
            len(names) / (self.data.train_batch_size * world())
        )
        self.provenance["outliers"] = len(self.outliers)
        if not self.model.ready.item():  # a checkpoint's own stays, for its weights belong to it
            self.model.location.copy_(torch.from_numpy(fitted.location))
            self.model.scale.copy_(torch.from_numpy(fitted.scale))
            self.model.ready.fill_(1)
        self.stale = True

    def settle(self) -> None:
        """Fit the SVC to the latents of the moment, and note how they lie."""
        if not self.stale or self.training_rows is None:
            return
        with torch.no_grad():
            mean, _ = self.model.encode(self.model.standardise(self.training_rows))
        latents = mean.double().cpu().numpy()
        options = (self.training_classes, len(self.classes), self.data.class_weights, self.modelrc.cost)
        coefficients, intercepts = fit_svc(latents, *options)
        model = self.model
        model.classifier.coefficients.copy_(torch.from_numpy(coefficients))
        model.classifier.intercepts.copy_(torch.from_numpy(intercepts))
        model.center.copy_(torch.from_numpy(latents.mean(axis=0)))
        model.covariance.copy_(torch.from_numpy(np.atleast_2d(np.cov(latents, rowvar=False, ddof=0))))
        drawn = np.random.default_rng(0).permutation(len(latents))[:SAMPLE]
        model.sample.zero_()[: len(drawn)] = mean[drawn.tolist()]
        model.sample_classes.fill_(NO_CLASS)[: len(drawn)] = torch.tensor(self.training_classes)[drawn]
        self.stale = False

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """As every head's; the weights come with their own SVC."""
        super().set_extra_state(state)
        self.stale = False

    # --- batches -----------------------------------------------------------------------------------------------------

    def forward(self, split: str, *args: Any, **kwargs: Any) -> Tensor:
        """As every head's.

        Raises:
            ConfigError: nothing was fitted to a training split yet
        """
        if not self.model.ready.item():
            raise ConfigError(UNFIT)
        self.stale = self.stale or self._trains_on(split)
        return super().forward(split, *args, **kwargs)

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Features and lengths.

        Raises:
            ConfigError: an untrained head is asked for a file
        """
        if not self.model.ready.item():
            raise ConfigError(UNFIT)
        return super().inputs(split, features, names)

    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Class, label of the dimension, and whether the utterance counts, ``[B, 3]``."""
        known = self._targets(split)
        return torch.tensor([known[name] for name in names])

    def observe(self, split: str, records: dict[str, list[Any]], output: Tensor, target: Tensor) -> None:
        """The parts of the loss, and for evaluated splits hits, probabilities and latents."""
        for name, value in cast(LatentLoss, self.objective).parts.items():
            records[name].append(value)
        if self._trains_on(split):
            return
        found = Outputs.unpacked(output.float(), self.model.widths)
        super().observe(split, records, found.scores, target[:, 0].long())
        records["latent"] += found.mean.tolist()

    def curves(self, records: dict[str, list[Any]]) -> dict[str, float]:
        """Accuracy of evaluated splits, and the parts of the loss."""
        found = super().curves(records) if records.get("acc") else {}
        parts = ("reconstruction", "KL", "cluster", "residual", "slope")
        found |= {name: results.float32_mean(records[name]) for name in parts if records.get(name)}
        return found or {"loss": results.float32_mean(records["loss"])}

    def score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """The split's own metric; training, which classifies nothing, has none."""
        return metrics.get(self.best_metric)

    # --- results -----------------------------------------------------------------------------------------------------

    def write_results(
        self, utterances: Sequence[Utterance], records: dict[str, list[Any]], made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Metrics and files of classes, and what :func:`latent_metrics` tells under ``latent``.

        Where a checkpoint is evaluated, there is a picture of the latents beside those of the training split too.
        """
        latents = np.array(records["latent"], dtype=np.float64)
        unknown = (math.nan,) * len(DIMENSIONS)
        rated = np.array([item.dimensions or unknown for item in utterances], dtype=np.float64)
        labels = {DIMENSIONS[place]: rated[:, place] for place in PLACES.values()}
        model = self.model
        covariance = model.covariance.double().cpu().numpy()
        told = latent_metrics(latents, labels, model.center.double().cpu().numpy(), covariance)
        metrics = super().write_results(utterances, records, made_by | model.sizes() | {"latent": told})
        if made_by["checkpoint"]:
            self._draw(latents, [self.classes[item.label] for item in utterances], made_by["split"])
        return metrics

    def answer(self, output: Tensor) -> list[dict[str, float]]:
        """Softmax of the SVC's decision values, highest first: they order the classes, but are no probabilities."""
        return super().answer(Outputs.unpacked(output, self.model.widths).scores)

    def _draw(self, latents: Any, classes: Sequence[str], split: str) -> None:
        places = self.model.sample_classes.tolist()
        there = [self.classes[place] for place in places if place != NO_CLASS]
        sample = self.model.sample[: len(there)].double().cpu().numpy()
        plot_latents(self.expdir / f"{split}_{self.fold}_latent.png", sample, there, latents, classes, split)

    def _targets(self, split: str) -> dict[str, list[float]]:
        """Class, label and 1 of each of a split's utterances by name."""
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if split not in self.targets_of:
            place = PLACES[self.modelrc.dimension]
            self.targets_of[split] = {
                item.name: [
                    float(item.label) if item.label >= 0 else UNKNOWN,
                    item.dimensions[place] if item.dimensions else math.nan,
                    1.0,
                ]
                for item in self.corpus.split(split)
            }
        return self.targets_of[split]

    def _check_labels(self) -> None:
        """The metric loss needs labels of its dimension; other corpora need none.

        Raises:
            LabelError: no training utterance has them
        """
        if self.corpus is None or self.options.get("mode") != "train":
            return
        if all(item.dimensions is None for item in self.corpus.split(self.train_split)):
            raise LabelError(
                f"{self.corpus.source}: no {', '.join(DIMENSIONS)} in the training split, which modelrc.method "
                f"{self.modelrc.method} learns; add them, or take another method"
            )
