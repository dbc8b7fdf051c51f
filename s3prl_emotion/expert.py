"""What every head shares as an s3prl downstream expert: loaders, records, metrics, files, best checkpoint, inference.

A head subclasses :class:`EmotionExpert` and gives its ``model_section``, :meth:`~EmotionExpert.build_model` and
:meth:`~EmotionExpert.build_loss`. Nothing here needs the suite's own launcher, so s3prl's unchanged script can run it.
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from s3prl_emotion import attention, host, results
from s3prl_emotion.audio import load_audio
from s3prl_emotion.class_balance import class_weights, sampling_weights
from s3prl_emotion.corpora import load_corpus
from s3prl_emotion.corpora.superb import SPLIT_SEED
from s3prl_emotion.dataset import STAND_IN, EpochBatches, UtteranceDataset, collate
from s3prl_emotion.distributed import gather_rows, rank, world
from s3prl_emotion.errors import CheckpointError, ConfigError
from s3prl_emotion.evaluation import write_evaluation
from s3prl_emotion.masking import pad_features
from s3prl_emotion.recipe import DataSection, HeadSection, StrictSection

logger = logging.getLogger(__name__)


class EmotionExpert(nn.Module, ABC):
    """Base of the suite's experts; the interface is that of s3prl's ``DownstreamExpert``.

    Args:
        upstream_dim: channels of the features, D
        upstream_rate: samples at 16 kHz per frame
        downstream_expert: the recipe's section: ``datarc``, ``modelrc``, ``best_metric``, ``attention_dir``
        expdir: where checkpoints and results go
        kwargs: everything else that the host's runner passes: the other sections and the command line

    Raises:
        ConfigError: the recipe is malformed
        LabelError: so are the labels
        AudioError: audio files are missing
    """

    model_section: ClassVar[type[StrictSection]]  # keys of ``modelrc``

    best_score: Tensor

    def __init__(
        self, upstream_dim: int, upstream_rate: int, downstream_expert: dict[str, Any], expdir: str, **kwargs: Any
    ) -> None:
        super().__init__()
        self.head = type(self).__module__.split(".")[-2]
        self.expdir = Path(expdir)
        self.seed = int(kwargs.get("seed", 0))
        runner = dict(kwargs.get("runner") or {})
        self.superb_seeding = runner.get("seeding") == "superb"
        self.train_split = runner.get("train_dataloader", "train")
        section, self.data, modelrc = self.check(downstream_expert, kwargs.get("downstream_variant"))
        self.best_metric, self.attention_dir = section.best_metric, section.attention_dir
        self.corpus = None if self._can_do_without_corpus(kwargs) else load_corpus(self.data)
        self.classes = self.corpus.classes if self.corpus else tuple(self.data.classes or ())
        downstream_expert["datarc"]["classes"] = list(self.classes)  # so that checkpoints know them without the corpus
        self.fold = self.corpus.fold if self.corpus else (self.data.test_fold or "fold1")
        self.datasets: dict[tuple[str, float | None], UtteranceDataset] = {}
        self.provenance = results.provenance(self.head, downstream_expert, kwargs)
        if self.attention_dir and not self.has_attention(modelrc):
            raise ConfigError(
                f"downstream_expert.attention_dir: {self.head} has no attention with modelrc {modelrc}; leave it out"
            )
        if self.superb_seeding:
            self._draw_as_superb()
        self.model = self.build_model(modelrc, upstream_dim)
        self.objective = self.build_loss(modelrc, self._class_weights())
        self.register_buffer("best_score", torch.zeros(1))
        if not host.launched() and "run_downstream" in Path(sys.argv[0]).stem:
            logger.warning(
                "under s3prl's own script: no exact resume and no safe loading of checkpoints; %s", host.LAUNCHER_HINT
            )

    @classmethod
    def check(cls, downstream_expert: dict[str, Any], variant: str | None) -> tuple[HeadSection, DataSection, Any]:
        """Read the recipe's section strictly; ``-v`` names the fold where the recipe does not, as in the stock task."""
        section = HeadSection.read(downstream_expert, "downstream_expert")
        data = DataSection.read(section.datarc, "downstream_expert.datarc")
        if data.test_fold is None and variant:
            data = data.model_copy(update={"test_fold": variant})
        return section, data, cls.model_section.read(section.modelrc, "downstream_expert.modelrc")

    # --- what a head gives -----------------------------------------------------------------------------------------

    @abstractmethod
    def build_model(self, modelrc: Any, upstream_dim: int) -> nn.Module:
        """The network: ``features [B, T, D]``, ``lengths [B]`` to logits ``[B, K]``."""

    @abstractmethod
    def build_loss(self, modelrc: Any, weight: Tensor | None) -> nn.Module:
        """The loss: logits ``[B, K]``, class indices ``[B]`` to a scalar; ``weight [K]`` where classes are weighted."""

    def has_attention(self, modelrc: Any) -> bool:
        """Whether the head attends over frames, so that ``attention_dir`` has something to export."""
        return False

    # --- the host's interface --------------------------------------------------------------------------------------

    def get_downstream_name(self) -> str:
        """Name of the task with its fold, as the stock emotion task gives it."""
        return self.fold.replace("fold", "emotion")

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches of ``(waveforms, labels, names)``; training batches in the order of seed and epoch."""
        dataset = self._dataset(split)
        if not self._trains_on(split):
            batches = torch.arange(len(dataset)).split(self.data.eval_batch_size)
            shared = host.launched() and not self.superb_seeding  # else the leader evaluates alone, as in s3prl
            mine = batches[rank() :: world()] if shared else batches
            return self._loader(dataset, batch_sampler=[batch.tolist() for batch in mine])
        if self.superb_seeding:  # shuffled by the global generator, as the stock task does
            return self._loader(dataset, batch_size=self.data.train_batch_size, shuffle=True)
        weights = sampling_weights(self._labels()) if self.data.balanced_sampling else None
        order = (len(dataset), self.data.train_batch_size, self.seed, epoch, weights)
        batches = EpochBatches(*order, rank(), world(), stand_ins=host.launched())
        generator = torch.Generator().manual_seed(self.seed)  # the loader's own draws must not touch the global one
        return self._loader(dataset, batch_sampler=batches, generator=generator)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[int],
        names: Sequence[str],
        records: dict[str, list[Any]],
        **kwargs: Any,
    ) -> Tensor:
        """Loss of a batch; in distributed training that of the whole batch, in every process.

        Args:
            split: train, dev, test, …
            features: one ``[T_b, D]`` for each utterance
            labels: class indices
            names: of the utterances
            records: gathers what :meth:`log_records` needs

        Returns:
            scalar loss

        Raises:
            AudioError: an utterance is too short for the upstream to give a frame
        """
        logits = self.model(*pad_features(features, names))
        target = torch.as_tensor(labels, device=logits.device)
        if self._trains_on(split) and host.launched():
            own = target != STAND_IN
            logits, target = gather_rows(logits[own]), gather_rows(target[own])
        loss = self.objective(logits, target)
        records["loss"].append(loss.item())
        records["batch_size"].append(len(target))
        records["acc"] += (logits.argmax(dim=-1) == target).float().tolist()
        if not self._trains_on(split):
            records["probability"] += torch.softmax(logits.float(), dim=-1).tolist()
            records["name"] += names
            if self.attention_dir:
                records["attention"] += self._attention(features, names)
        return loss

    def log_records(
        self,
        split: str,
        records: dict[str, list[Any]],
        logger: Any,
        global_step: int,
        checkpoint: str | None = None,
        keep_log: bool = True,
        **kwargs: Any,
    ) -> list[str]:
        """Log the curves, and for evaluated splits compute the metrics once and write the files.

        Args:
            split: train, dev, test, …
            records: of :meth:`forward`
            logger: tensorboard writer
            global_step: of training
            checkpoint: file that the weights come from, ``None`` for those of the moment
            keep_log: whether the result belongs into ``log.log`` and the curves

        Returns:
            ``["dev-best.ckpt"]`` where dev was never better, else nothing
        """
        accuracy = results.float32_mean(records["acc"])
        metrics = {} if self._trains_on(split) else self._write_results(split, records, global_step, checkpoint)
        if not keep_log:
            return []
        logger.add_scalar(f"emotion-{self.fold}/{split}-acc", accuracy, global_step=global_step)
        logger.add_scalar(
            f"emotion-{self.fold}/{split}-loss", results.float32_mean(records["loss"]), global_step=global_step
        )
        lines = [f"{split} at step {global_step}: {accuracy}\n"]
        # SUPERB picks by accuracy in float32; the other metrics are the split's own.
        score = accuracy if self.best_metric == "WA" else metrics.get(self.best_metric, 0.0)
        is_best = split == "dev" and score > self.best_score.item()
        if is_best:
            self.best_score.fill_(score)
            lines.append(f"New best on {split} at step {global_step}: {score}\n")
        with (self.expdir / "log.log").open("a", encoding="utf-8") as file:
            file.writelines(lines)
        return [f"{split}-best.ckpt"] if is_best else []

    def load_audio(self, path: Path) -> Tensor:
        """Read a file for ``-m inference``: waveform ``[N]`` at 16 kHz."""
        self.waveform = np.ascontiguousarray(load_audio(path))
        return torch.from_numpy(self.waveform)

    def inference(self, features: Sequence[Tensor], names: Sequence[str]) -> list[dict[str, float]]:
        """Class probabilities of utterances, printed most probable first, and returned."""
        with torch.no_grad():
            logits = self.model(*pad_features(features, names))
        answers = []
        for name, row in zip(names, torch.softmax(logits.float(), dim=-1).tolist(), strict=True):
            answer = dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1]))
            sys.stdout.write(f"{name}\n" + "".join(f"  {label:<12} {share:.4f}\n" for label, share in answer.items()))
            answers.append(answer)
        if self.attention_dir:
            weights = self._attention(features, names)[0]
            drawn = attention.draw(Path(self.attention_dir), names[0], weights, self.waveform)
            sys.stdout.write(f"attention: {drawn}\n")
        return answers

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """What must agree before weights are loaded."""
        return {"head": self.head, "classes": list(self.classes)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Refuse weights of another head or of other classes.

        Raises:
            CheckpointError: says what differs
        """
        for key, ours in self.get_extra_state().items():
            if state.get(key) != ours:
                raise CheckpointError(
                    f"the checkpoint's {key} is {state.get(key)}, the recipe's is {ours}; they must be the same"
                )

    # --- inside ----------------------------------------------------------------------------------------------------

    def _can_do_without_corpus(self, kwargs: dict[str, Any]) -> bool:
        if kwargs.get("mode") != "inference":
            return False
        if not self.data.classes:
            raise ConfigError(
                "-m inference needs a trained checkpoint: give one with -e, or with -i and its recipe's classes"
            )
        return True

    def _draw_as_superb(self) -> None:
        """Leave the global generator as the stock task does before it builds layers: seeded, one permutation drawn."""
        torch.manual_seed(SPLIT_SEED)
        if self.corpus is not None:
            torch.randperm(len(self.corpus.splits["train"]) + len(self.corpus.splits["dev"]))

    def _dataset(self, split: str) -> UtteranceDataset:
        if self.corpus is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        limit = self.data.max_duration if self._trains_on(split) or self.data.cut_eval else None
        if (split, limit) not in self.datasets:
            self.datasets[split, limit] = UtteranceDataset(self.corpus.split(split), self.data.pre_load, limit)
        return self.datasets[split, limit]

    def _trains_on(self, split: str) -> bool:
        """Whether the split is being trained on; it can be evaluated as any other."""
        return self.training and split == self.train_split

    def _loader(self, dataset: UtteranceDataset, **options: Any) -> DataLoader:
        return DataLoader(dataset, num_workers=self.data.num_workers, collate_fn=collate, **options)

    def _labels(self) -> list[int]:
        return [utterance.label for utterance in self.corpus.split(self.train_split)] if self.corpus else []

    def _class_weights(self) -> Tensor | None:
        if self.data.class_weights == "none" or self.corpus is None:
            return None
        return class_weights(self._labels(), len(self.classes), self.data.class_weights)

    def _attention(self, features: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Attention weights ``[T_b]`` of each utterance; heads for which :meth:`has_attention` holds override it."""
        raise ConfigError(f"downstream_expert.attention_dir: {self.head} gives no attention weights; leave it out")

    def _write_results(
        self, split: str, records: dict[str, list[Any]], step: int, checkpoint: str | None
    ) -> dict[str, Any]:
        utterances = self.corpus.split(split) if self.corpus else ()
        made_by = {"split": split, "fold": self.fold, "step": step, "checkpoint": checkpoint, "classes": self.classes}
        made_by |= self.provenance | results.model_size(self.model)
        return write_evaluation(self.expdir, utterances, records, made_by, self.attention_dir)
