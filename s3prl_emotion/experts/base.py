"""The base class of the heads: an s3prl downstream expert with loaders, loss, records, result files and checkpoints.

What a head learns decides which subclass it extends: :mod:`s3prl_emotion.experts.categorical` (one class per
utterance), :mod:`s3prl_emotion.experts.dimensional` (activation, valence, dominance) or
:mod:`s3prl_emotion.experts.multitask` (both). The head itself gives ``model_section``, ``build_model`` and
``build_loss``. Nothing here needs the suite's own launcher, so s3prl's unchanged script can run a head.
"""

from __future__ import annotations

import itertools
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from s3prl_emotion import host
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import Corpus, Needs, Utterance, load_corpus
from s3prl_emotion.corpora.seen import Overlap
from s3prl_emotion.distributed import gather_rows, rank
from s3prl_emotion.errors import CheckpointError, ConfigError
from s3prl_emotion.experts import attention_files
from s3prl_emotion.experts.outputs import concatenated, map_tensors
from s3prl_emotion.experts.records import Records, log_split
from s3prl_emotion.figures.embeddings import EmbeddingTap
from s3prl_emotion.files.terminal import say
from s3prl_emotion.loading.augmentation.features import FeatureAugmenter, Mixing
from s3prl_emotion.loading.class_balance import absent_classes, class_counts, warn_of_single_speakers
from s3prl_emotion.loading.dataset import STAND_IN
from s3prl_emotion.loading.loaders import Loaders, draw_as_superb
from s3prl_emotion.losses import logit_offset
from s3prl_emotion.masking import pad_features
from s3prl_emotion.metrics.registry import LOSS
from s3prl_emotion.metrics.results import provenance
from s3prl_emotion.recipe import (
    ADJUSTED,
    CROSS_ENTROPY,
    ClassLossSection,
    DataSection,
    HeadSection,
    StrictSection,
)
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.store.means import FRAMES
from s3prl_emotion.upstreams.layer_choice import read_layer_file

logger = logging.getLogger(__name__)
NO_SMOOTHING = "has no meaning with smoothed labels"
OF_BATCHES = "outputs and targets"  # of records: pairs, one for each batch


class EmotionExpert(nn.Module, ABC):
    """Base of the suite's heads; its interface is that of s3prl's ``DownstreamExpert``.

    Args:
        upstream_dim: channels of the features, D
        upstream_rate: samples at 16 kHz per frame
        downstream_expert: the recipe's section: ``datarc``, ``modelrc``, ``best_metric``, ``attention_dir``
        expdir: where checkpoints and results go
        kwargs: everything else that the host's runner passes: the recipe's other sections and the command line

    Attributes:
        model_section: keys of the recipe's ``modelrc``
        selection_metrics: metrics that can pick the best checkpoint (``best_metric``); the first is the default, and
            ``loss`` is one more of every head
        learns_classes: whether the head classifies utterances, as SUPERB's emotion recognition task does
        class_losses: losses that ``class_loss`` may name; a head that lists others reads it in :meth:`build_loss`
        beyond_audio: keys of ``modelrc`` with which the head needs more than audio, and what it then needs
        joins_batches: whether batches of means may be computed in one forward pass: it draws for ``Dropout`` and
            ``Dropout1d`` alone, and the outputs of an utterance do not depend on the rest of its batch
        takes_mixup: whether the loss is that of mixtures too (``datarc.augment.mixup``): linear in the classes of
            utterances, or one of numbers, such as shares and dimensions
        features_read: ``frames``, or ``means`` over them where the head as configured needs nothing else
        learnt_dimensions: names of the numbers that the head estimates; empty where it estimates none
        of_training_data: weights that hold rows of the training data, with the value that stands for no row;
            predictions do not depend on them, and packed heads lack them

    Raises:
        ConfigError: the recipe is malformed
        LabelError: the labels are malformed
        AudioError: audio files are missing
    """

    model_section: ClassVar[type[StrictSection]]
    selection_metrics: ClassVar[tuple[str, ...]]
    learns_classes: ClassVar[bool]
    class_losses: ClassVar[tuple[str, ...]] = (CROSS_ENTROPY,)
    beyond_audio: ClassVar[Mapping[str, str]] = {}
    of_training_data: ClassVar[Mapping[str, float]] = {}
    joins_batches: ClassVar[bool] = False
    takes_mixup: ClassVar[bool] = False
    best_score: Tensor
    model: Any
    learnt_dimensions: tuple[str, ...] = ()
    feature_augmenter: FeatureAugmenter | None

    def __init__(
        self, upstream_dim: int, upstream_rate: int, downstream_expert: dict[str, Any], expdir: str, **kwargs: Any
    ) -> None:
        super().__init__()
        self.head = type(self).__module__.split(".")[-2]
        self.expdir, self.upstream_rate, self.options = Path(expdir), upstream_rate, kwargs
        self.seed, self.device = int(kwargs.get("seed", 0)), str(kwargs.get("device", "cpu"))
        runner = dict(kwargs.get("runner") or {})
        superb_seeding = runner.get("seeding") == "superb"
        self.train_split = runner.get("train_dataloader", "train")
        section, self.data, modelrc = self.read_section(downstream_expert, kwargs.get("downstream_variant"), runner)
        self.best_metric = section.best_metric or self.selection_metrics[0]
        self.attention_dir = section.attention_dir
        self.corpus = load_corpus(self.data, self.required_labels(modelrc)) if self._needs_corpus(modelrc) else None
        if self.corpus:
            self.corpus.keep_fitted(downstream_expert["datarc"])
        self.classes = self.corpus.classes if self.corpus else tuple(self.data.classes or ())
        if self.classes:  # so that checkpoints know them without the corpus
            downstream_expert["datarc"]["classes"] = list(self.classes)
        self.class_loss = self._with_counts(section.class_loss, downstream_expert)
        self.fold = self.corpus.fold if self.corpus else (self.data.test_fold or "fold1")
        self.loaders = Loaders(self.corpus, self.data, self.seed, superb_seeding) if self.corpus else None
        if self.corpus and kwargs.get("mode") == "train" and not host.launched():  # ours has checked it before
            for split in runner.get("eval_dataloaders", ()):
                self.corpus.split(split)
        if self.attention_dir and not self.has_attention(modelrc):
            raise ConfigError(
                f"downstream_expert.attention_dir: {self.head} has no attention with modelrc {modelrc}; leave it out"
            )
        self.epoch, self.feature_augmenter = 0, None  # of training batches
        if self.data.augment is not None and self.data.augment.of_features:
            self.feature_augmenter = FeatureAugmenter(self.data.augment, self.seed, upstream_rate)
        self.layer_file = read_layer_file(
            section.layer_file, self.corpus, self.train_split, self.data.max_duration, bool(kwargs.get("init_ckpt"))
        )
        self.features_read = self.reads(modelrc)
        self.prepare(modelrc, downstream_expert)
        self.provenance = provenance(self.head, downstream_expert, kwargs)
        self.overlaps: dict[str, Overlap] = {}  # by split, what it shares with the training data
        if kwargs.get("mode") == "train" and self.corpus and self.learns_classes:
            self._warn_of_absent_classes(self.corpus)
        if superb_seeding:
            draw_as_superb(self.corpus)
        self.model = self.build_model(modelrc, upstream_dim)
        self.objective = self.build_loss(modelrc)
        self.embedding_tap = EmbeddingTap(self.last_layer()) if section.embeddings else None
        self.register_buffer("best_score", torch.full((1,), -torch.inf))
        if not host.launched() and "run_downstream" in Path(sys.argv[0]).stem:
            logger.warning(
                "under s3prl's own script: no exact resume and no safe loading of checkpoints; %s", host.LAUNCHER_HINT
            )

    # --- what a head gives -----------------------------------------------------------------------------------------

    @abstractmethod
    def build_model(self, modelrc: Any, upstream_dim: int) -> nn.Module:
        """Return the network: it maps what :meth:`inputs` returns to outputs.

        Outputs are a tensor ``[B, ...]``, or tensors ``[B, ...]`` in a named tuple, dict or dataclass.
        """

    @abstractmethod
    def build_loss(self, modelrc: Any) -> nn.Module:
        """Return the loss: it maps the network's outputs and what :meth:`targets` returns to a scalar."""

    def prepare(self, modelrc: Any, downstream_expert: dict[str, Any]) -> None:
        """Read what the model and the loss are built from, such as files that ``modelrc`` names.

        Called before they are built, when the corpus is loaded. What a checkpoint must hold to do without those files
        is written into the recipe's section, ``downstream_expert``.
        """

    def inputs(self, split: str | None, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return what the network takes: padded features ``[B, T, D]`` and lengths ``[B]``.

        Args:
            split: of the utterances; ``None`` for audio files outside the corpus
            features: one ``[T_b, D]`` per utterance
            names: of the utterances

        Raises:
            AudioError: an utterance is too short for the upstream to give a frame
        """
        return pad_features(features, names)

    def fit(self, pooled: Callable[[str], tuple[list[str], Tensor]]) -> None:
        """Fit what is not trained, such as a standardisation, to features of a whole split.

        The suite's runner calls it once, before training. Nothing is computed for heads that do not call ``pooled``.

        Args:
            pooled: maps the name of a split to the names of its utterances ``[U]`` and their features, averaged over
                frames, ``[U, D]``, on the CPU; the same in every process
        """

    def before_evaluation(self) -> None:
        """Update what depends on the current weights; called before these are evaluated or saved."""

    def check_upstream(self, identity: Callable[[], Identity]) -> None:
        """Check that files which the recipe names were computed from this run's upstream.

        Args:
            identity: returns what the features depend on; expensive, so only heads with such a file call it

        Raises:
            ConfigError: a saliency file belongs to another upstream
        """
        if self.layer_file is not None:
            self.layer_file.check_upstream(identity().values, self.options.get("upstream_layer_selection"))

    def last_layer(self) -> nn.Module:
        """Return the layer that gives the outputs; its input ``[B, E]`` is the utterance embedding."""
        return self.model.output

    def has_attention(self, modelrc: Any) -> bool:
        """Return whether the head attends over frames, so that ``attention_dir`` has something to export."""
        return False

    def attention_weights(self, features: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return attention weights ``[T_b]`` of each utterance; heads with :meth:`has_attention` override it."""
        raise ConfigError(f"downstream_expert.attention_dir: {self.head} gives no attention weights; leave it out")

    @classmethod
    def reads(cls, modelrc: Any) -> str:
        """Return what the head needs of an utterance: ``frames``, or ``means`` over its frames.

        A head that reads means must give the same outputs, to rounding, for an utterance's frames and for their mean as
        its only frame.
        """
        return FRAMES

    # --- what depends on what is learnt ----------------------------------------------------------------------------

    @classmethod
    def read_section(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """Read and check the recipe's section; ``-v`` names the fold where the recipe does not, as in the stock task.

        Raises:
            ConfigError: an unknown key or a value out of range
        """
        section = HeadSection.read(downstream_expert, "downstream_expert")
        if section.best_metric not in (None, *cls.selection_metrics, LOSS):
            known = ", ".join((*cls.selection_metrics, LOSS))
            raise ConfigError(f"downstream_expert.best_metric: this head has {known}, got {section.best_metric}")
        data = DataSection.read(section.datarc, "downstream_expert.datarc")
        cls._check_class_loss(section.class_loss.name, data)
        if data.test_fold is None and variant:
            data = data.model_copy(update={"test_fold": variant})
        if data.augment is not None and (runner or {}).get("seeding") == "superb":
            raise ConfigError(
                "downstream_expert.datarc.augment: SUPERB trains on the audio as it is; use runner.seeding: seed, or "
                "leave augment out"
            )
        if data.augment is not None and data.augment.mixup is not None and not cls.takes_mixup:
            raise ConfigError(
                f"downstream_expert.datarc.augment.mixup: {cls.__module__.split('.')[-2]} cannot learn the targets of "
                "mixtures; leave mixup out"
            )
        return section, data, cls.model_section.read(section.modelrc, "downstream_expert.modelrc")

    @classmethod
    @abstractmethod
    def required_labels(cls, modelrc: Any) -> Needs:
        """Return which labels an utterance must have."""

    @property
    def learnt_classes(self) -> tuple[str, ...]:
        """Classes in the order of the outputs; empty where the head learns none."""
        return self.classes if self.learns_classes else ()

    @property
    def label_moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of the training labels, on the corpus's scale, of each number that is learnt."""
        return {}

    @abstractmethod
    def targets(self, split: str, labels: Sequence[int], names: Sequence[str]) -> Tensor:
        """Return what the outputs are compared with, ``[B, ...]``."""

    @abstractmethod
    def record(self, split: str, records: Records, outputs: Any, targets: Tensor) -> None:
        """Keep what :meth:`curves` needs, and for evaluated splits what :meth:`write_results` needs."""

    @abstractmethod
    def curves(self, records: Records) -> dict[str, float]:
        """Return the values that are logged, by name; ``log.log`` shows the first."""

    def selection_score(self, curves: dict[str, float], metrics: dict[str, Any]) -> float | None:
        """Return the dev score that picks the best checkpoint; ``None`` where it is undefined.

        Args:
            curves: what :meth:`curves` returned
            metrics: of the split, with its ``loss``
        """
        return metrics.get(self.best_metric)

    def split_loss(self, records: Records) -> float:
        """Return the loss of an evaluated split, for its metrics.

        It is the mean over the utterances of the losses of their batches. Where ``best_metric`` is ``loss``, it is
        computed from the outputs of the whole split, which differs for losses that are no mean over utterances.
        """
        if self.best_metric == LOSS:
            outputs, targets = (concatenated(parts) for parts in zip(*records[OF_BATCHES], strict=True))
            with torch.no_grad():
                on_device = map_tensors(lambda tensor: tensor.to(self.best_score.device), (outputs, targets))
                return self.objective(*on_device).item()
        return float(np.average(records["loss"], weights=records["batch_size"]))

    @abstractmethod
    def write_results(
        self, utterances: Sequence[Utterance], records: Records, made_by: dict[str, Any]
    ) -> dict[str, Any]:
        """Compute the metrics of an evaluated split, write its files, and return the metrics."""

    @abstractmethod
    def describe(self, outputs: Any) -> list[dict[str, float]]:
        """Return the outputs of each utterance as named numbers, for ``-m inference`` and ``predict``."""

    # --- the host's interface --------------------------------------------------------------------------------------

    def get_downstream_name(self) -> str:
        """Return the name of the task with its fold, as the stock emotion task does."""
        return self.fold.replace("fold", "emotion")

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Return batches of ``(waveforms, labels, names)``; seed and epoch fix the order of training batches."""
        if self.loaders is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        if not self.is_training_on(split):
            return self.loaders.evaluation(split)
        loader, self.epoch = self.loaders.training(split, epoch), epoch
        if self.data.augment is not None:
            self.provenance["augmentation"] = self.loaders.augmentation
        return loader

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[int],
        names: Sequence[str],
        records: Records,
        sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the loss of a batch; in distributed training every process returns that of the combined batch.

        Args:
            split: train, dev, test, …
            features: one ``[T_b, D]`` per utterance
            labels: class indices
            names: of the utterances
            records: collects what :meth:`log_records` needs
            sizes: utterances of each batch, where several are computed together

        Returns:
            scalar loss; of several batches, the sum of their losses

        Raises:
            AudioError: an utterance is too short for the upstream to give a frame
        """
        augmenter = self.feature_augmenter if self.is_training_on(split) else None
        if augmenter is not None:
            features = augmenter.masked(features, names, self.epoch)
        mixing = None if augmenter is None else augmenter.mixing(names, sizes, self.epoch)
        inputs, targets = self.inputs(split, features, names), self.targets(split, labels, names)
        targets, others = targets.to(features[0].device), None
        if mixing is not None:
            inputs, (targets, others) = mixing.inputs(*inputs), mixing.targets(targets)
        outputs = self.model(*inputs)
        if self.is_training_on(split) and host.launched():
            own = torch.as_tensor(labels, device=targets.device) != STAND_IN
            outputs, targets, others = map_tensors(lambda rows: gather_rows(rows[own]), (outputs, targets, others))
        mixed = None if mixing is None or others is None else (mixing, others)
        loss = self._loss(outputs, targets, records, sizes, mixed)
        self.record(split, records, map_tensors(Tensor.detach, outputs), targets)
        if not self.is_training_on(split):
            records["name"] += names
            if self.best_metric == LOSS:
                records[OF_BATCHES].append(map_tensors(lambda tensor: tensor.detach().cpu(), (outputs, targets)))
            if self.embedding_tap:
                records["embedding"] += self.embedding_tap.take()
            if self.attention_dir:
                records["attention"] += self.attention_weights(features, names)
        return loss

    def log_records(
        self,
        split: str,
        records: Records,
        logger: Any,
        global_step: int,
        checkpoint: str | None = None,
        keep_log: bool = True,
        **kwargs: Any,
    ) -> list[str]:
        """Log the curves; for evaluated splits also compute the metrics and write the result files.

        Args:
            split: train, dev, test, …
            records: filled by :meth:`forward`
            logger: tensorboard writer
            global_step: training step
            checkpoint: file that the weights come from; ``None`` for the current weights of a training
            keep_log: whether the result belongs in ``log.log`` and the curves

        Returns:
            ``["dev-best.ckpt"]`` where dev is better than ever before, else nothing
        """
        return log_split(self, split, records, logger, global_step, checkpoint, keep_log)

    def load_audio(self, path: Path) -> Tensor:
        """Read a file for ``-m inference``: waveform ``[N]`` at 16 kHz."""
        self.waveform = np.ascontiguousarray(load_audio(path, self.data.channel))
        return torch.from_numpy(self.waveform)

    def inference(self, features: Sequence[Tensor], names: Sequence[str]) -> list[dict[str, float]]:
        """Print and return what the head predicts for one file (``-m inference``)."""
        with torch.no_grad():
            described = self.describe(self.model(*self.inputs(None, features, names)))
        for name, values in zip(names, described, strict=True):
            say(name, *(f"  {label:<12} {value:.4f}" for label, value in values.items()))
        if self.attention_dir:
            weights = self.attention_weights(features, names)[0]
            picture = attention_files.draw(Path(self.attention_dir), names[0], weights, self.waveform)
            say(f"attention: {picture}")
        return described

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint and this run must have in common."""
        return {"head": self.head, "classes": list(self.classes)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Refuse weights of another head or of other classes.

        Raises:
            CheckpointError: names what differs
        """
        if not isinstance(state, dict):
            raise CheckpointError(f"it does not say which head and classes it is of, but holds {str(state)[:60]}")
        for key, ours in self.get_extra_state().items():
            if state.get(key) != ours:
                raise CheckpointError(
                    f"the checkpoint's {key} is {state.get(key)}, the recipe's is {ours}; they must be the same"
                )

    def batch_losses(self, outputs: Any, targets: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the losses ``[N]`` of N batches of ``sizes`` utterances, whose outputs were computed together."""
        ends = itertools.accumulate(sizes)
        parts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return torch.stack([self.objective(map_tensors(itemgetter(part), outputs), targets[part]) for part in parts])

    def _loss(
        self,
        outputs: Any,
        targets: Tensor,
        records: Records,
        sizes: Sequence[int] | None,
        mixed: tuple[Mixing, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of a batch, or the sum of those of several, and keep each.

        ``mixed`` has the weights of mixup and the classes of the partners, where the targets are classes.
        """
        if sizes is None:
            loss = self.objective(outputs, targets)
            if mixed is not None:
                loss = mixed[0].losses(loss, self.objective(outputs, mixed[1]))
            records["loss"].append(loss.item())
            records["batch_size"].append(len(targets))
            return loss
        losses = self.batch_losses(outputs, targets, sizes)
        if mixed is not None:
            losses = mixed[0].losses(losses, self.batch_losses(outputs, mixed[1], sizes))
        records["loss"] += losses.tolist()
        records["batch_size"] += sizes
        return losses.sum()

    def class_offset(self) -> Tensor | None:
        """Return what ``class_loss`` adds to the logits in training ``[K]``; ``None`` where it adds nothing."""
        loss = self.class_loss
        if loss.name not in ADJUSTED:
            return None
        return logit_offset([1.0] * len(self.classes) if loss.counts is None else loss.counts, loss.tau)

    @classmethod
    def _check_class_loss(cls, name: str, data: DataSection) -> None:
        """Raise ``ConfigError`` if the head lacks this loss, or something else corrects for imbalance too."""
        where, head = "downstream_expert.class_loss", cls.__module__.split(".")[-2]
        if name not in cls.class_losses:
            raise ConfigError(f"{where}: {head} has {', '.join(cls.class_losses)}, got {name}")
        if name == CROSS_ENTROPY:
            return
        twice = {"class_weights": data.class_weights != "none", "balanced_sampling": data.balanced_sampling}
        for key, is_set in twice.items():
            if name in ADJUSTED and is_set:
                raise ConfigError(f"{where}: {name} corrects for imbalance, and so does datarc.{key}; leave one out")
        if data.distribution is not None and data.distribution.smoothing:
            raise ConfigError(f"{where}: {name} {NO_SMOOTHING}; set datarc.distribution.smoothing: 0")

    def _with_counts(self, loss: ClassLossSection, downstream_expert: dict[str, Any]) -> ClassLossSection:
        """Return the class loss with the counts of the training split, and keep these in the recipe's section.

        Raises:
            ConfigError: a class has no utterance, or the counts are of other classes
        """
        if loss.name not in ADJUSTED or (loss.counts is None and self.corpus is None):
            return loss
        where, counts = f"downstream_expert.class_loss: {loss.name}", loss.counts
        if counts is None and self.corpus is not None:
            training = self.training_counts(self.corpus)
            absent = absent_classes(self.classes, training)
            if absent:
                raise ConfigError(
                    f"{where} needs utterances of every class, but {self.train_split} has none of {', '.join(absent)}; "
                    "change the split (datarc.test_fold) or datarc.classes"
                )
            counts = training.tolist()
        if counts is not None and len(counts) != len(self.classes):
            raise ConfigError(f"{where} has counts of {len(counts)} classes, but there are {len(self.classes)}")
        loss = loss.model_copy(update={"counts": counts})
        downstream_expert["class_loss"] = loss.model_dump(exclude_defaults=True)
        return loss

    # --- helpers of heads ------------------------------------------------------------------------------------------

    def is_training_on(self, split: str) -> bool:
        """Return whether ``split`` is being trained on: the training split can also be evaluated."""
        return self.training and split == self.train_split

    def splits_of_run(self) -> list[str]:
        """Return the splits that this run trains on or evaluates."""
        if self.options.get("mode") == "evaluate":
            return [self.options["evaluate_split"]]
        evaluated = dict(self.options.get("runner") or {}).get("eval_dataloaders", [])
        return [self.train_split, *(self.corpus.existing(evaluated) if self.corpus else evaluated)]

    def training_counts(self, corpus: Corpus) -> NDArray[np.float64]:
        """Return how often each class stands in the training split ``[K]``: utterances, or the sum of their shares."""
        return class_counts([utterance.label for utterance in corpus.split(self.train_split)], len(self.classes))

    def _warn_of_absent_classes(self, corpus: Corpus) -> None:
        absent = absent_classes(self.classes, self.training_counts(corpus))
        if absent and rank() == 0:
            logger.warning(
                "%s holds no utterance of %s, which cannot be learnt; change the split (datarc.test_fold) or "
                "datarc.classes",
                self.train_split,
                ", ".join(absent),
            )
        if rank() == 0:
            warn_of_single_speakers(self.classes, corpus.split(self.train_split), self.train_split)

    def _needs_corpus(self, modelrc: Any) -> bool:
        if self.options.get("mode") != "inference":
            return True
        if self.required_labels(modelrc).classes and not self.data.classes:
            raise ConfigError(
                "-m inference needs a trained checkpoint: give one with -e, or with -i and its recipe's classes"
            )
        return False
