"""What every head shares as an s3prl downstream expert: loaders, records, metrics, files, best checkpoint, inference.

A head subclasses the expert for what it learns (:mod:`s3prl_emotion.experts.categorical`,
:mod:`s3prl_emotion.experts.dimensional`) and gives its ``model_section``, ``build_model`` and ``build_loss``. Nothing
here needs the suite's own launcher, so s3prl's unchanged script can run it.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from s3prl_emotion import host
from s3prl_emotion.audio import load_audio
from s3prl_emotion.corpora import load_corpus
from s3prl_emotion.corpora.superb import SPLIT_SEED
from s3prl_emotion.distributed import gather_rows
from s3prl_emotion.errors import CheckpointError, ConfigError
from s3prl_emotion.experts import attention
from s3prl_emotion.experts.contract import ExpertContract
from s3prl_emotion.figures import embeddings
from s3prl_emotion.loading.dataset import STAND_IN
from s3prl_emotion.loading.loaders import Loaders
from s3prl_emotion.metrics import results
from s3prl_emotion.recipe import DataSection, HeadSection
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.upstreams.layer_choice import read_layer_file

logger = logging.getLogger(__name__)


class EmotionExpert(ExpertContract):
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

    best_score: Tensor

    def __init__(
        self, upstream_dim: int, upstream_rate: int, downstream_expert: dict[str, Any], expdir: str, **kwargs: Any
    ) -> None:
        super().__init__()
        self.head = type(self).__module__.split(".")[-2]
        self.expdir = Path(expdir)
        self.upstream_rate = upstream_rate
        self.seed = int(kwargs.get("seed", 0))
        self.device = str(kwargs.get("device", "cpu"))
        self.options = kwargs
        runner = dict(kwargs.get("runner") or {})
        self.superb_seeding = runner.get("seeding") == "superb"
        self.train_split = runner.get("train_dataloader", "train")
        section, self.data, modelrc = self.check(downstream_expert, kwargs.get("downstream_variant"), runner)
        self.best_metric, self.attention_dir = section.best_metric or self.metrics[0], section.attention_dir
        self.corpus = None if self._can_do_without_corpus(modelrc) else load_corpus(self.data, self.needs(modelrc))
        self.classes = self.corpus.classes if self.corpus else tuple(self.data.classes or ())
        if self.classes:  # so that checkpoints know them without the corpus
            downstream_expert["datarc"]["classes"] = list(self.classes)
        self.fold = self.corpus.fold if self.corpus else (self.data.test_fold or "fold1")
        self.loaders = Loaders(self.corpus, self.data, self.seed, self.superb_seeding) if self.corpus else None
        if self.attention_dir and not self.has_attention(modelrc):
            raise ConfigError(
                f"downstream_expert.attention_dir: {self.head} has no attention with modelrc {modelrc}; leave it out"
            )
        self.layer_file = read_layer_file(
            section.layer_file, self.corpus, self.train_split, self.data.max_duration, bool(kwargs.get("init_ckpt"))
        )
        modelrc = self.resolve(modelrc, downstream_expert, upstream_dim)
        self.provenance = results.provenance(self.head, downstream_expert, kwargs)
        if self.superb_seeding:
            self._draw_as_superb()
        self.model = self.build_model(modelrc, upstream_dim)
        self.objective = self.make_objective(modelrc)
        self.embedded = embeddings.EmbeddingTap(self.last_layer()) if section.embeddings else None
        self.register_buffer("best_score", torch.full((1,), self.worst))
        if not host.launched() and "run_downstream" in Path(sys.argv[0]).stem:
            logger.warning(
                "under s3prl's own script: no exact resume and no safe loading of checkpoints; %s", host.LAUNCHER_HINT
            )

    @classmethod
    def check(
        cls, downstream_expert: dict[str, Any], variant: str | None, runner: dict[str, Any] | None = None
    ) -> tuple[HeadSection, DataSection, Any]:
        """Read the recipe's section strictly; ``-v`` names the fold where the recipe does not, as in the stock task."""
        section = HeadSection.read(downstream_expert, "downstream_expert")
        if section.best_metric not in (None, *cls.metrics):
            raise ConfigError(
                f"downstream_expert.best_metric: this head has {', '.join(cls.metrics)}, got {section.best_metric}"
            )
        data = DataSection.read(section.datarc, "downstream_expert.datarc")
        if data.test_fold is None and variant:
            data = data.model_copy(update={"test_fold": variant})
        return section, data, cls.model_section.read(section.modelrc, "downstream_expert.modelrc")

    # --- the host's interface --------------------------------------------------------------------------------------

    def get_downstream_name(self) -> str:
        """Name of the task with its fold, as the stock emotion task gives it."""
        return self.fold.replace("fold", "emotion")

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches of ``(waveforms, labels, names)``; training batches in the order of seed and epoch."""
        if self.loaders is None:
            raise ConfigError(f"split {split!r}: -m inference has no corpus")
        return self.loaders.training(split, epoch) if self._trains_on(split) else self.loaders.evaluation(split)

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
        output = self.model(*self.inputs(split, features, names))
        target = self.targets(split, labels, names).to(output.device)
        if self._trains_on(split) and host.launched():
            own = torch.as_tensor(labels, device=output.device) != STAND_IN
            output, target = gather_rows(output[own]), gather_rows(target[own])
        loss = self.objective(output, target)
        records["loss"].append(loss.item())
        records["batch_size"].append(len(target))
        self.observe(split, records, output.detach(), target)
        if not self._trains_on(split):
            records["name"] += names
            if self.embedded:
                records["embedding"] += self.embedded.take()
            if self.attention_dir:
                records["attention"] += self.attention_weights(features, names)
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
        metrics = {} if self._trains_on(split) else self._results(split, records, global_step, checkpoint)
        if not keep_log:
            return []
        curves = self.curves(records)
        for name, value in {**curves, "loss": results.float32_mean(records["loss"])}.items():
            if not math.isnan(value):  # no curve of what is not known of a split
                logger.add_scalar(f"emotion-{self.fold}/{split}-{name}", value, global_step=global_step)
        lines = [f"{split} at step {global_step}: {next(iter(curves.values()))}\n"]
        score = self.score(curves, metrics)
        is_best = False
        if split == "dev" and score is not None and score > self.best_score.item():
            is_best = True
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
        """What the head says of utterances, printed and returned."""
        with torch.no_grad():
            answers = self.answer(self.model(*self.inputs(None, features, names)))
        for name, answer in zip(names, answers, strict=True):
            sys.stdout.write(f"{name}\n" + "".join(f"  {label:<12} {value:.4f}\n" for label, value in answer.items()))
        if self.attention_dir:
            weights = self.attention_weights(features, names)[0]
            drawn = attention.draw(Path(self.attention_dir), names[0], weights, self.waveform)
            sys.stdout.write(f"attention: {drawn}\n")
        return answers

    def meet_upstream(self, identity: Callable[[], Identity]) -> None:
        """Told by the suite's runner what the features depend on, who minds asks ``identity``.

        Raises:
            ConfigError: a saliency file is of another upstream
        """
        if self.layer_file is not None:
            self.layer_file.check_upstream(identity().values, self.options.get("upstream_layer_selection"))

    def asked_splits(self) -> list[str]:
        """Splits that this run trains on or evaluates."""
        if self.options.get("mode") == "evaluate":
            return [self.options["evaluate_split"]]
        return [self.train_split, *dict(self.options.get("runner") or {}).get("eval_dataloaders", [])]

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

    def _can_do_without_corpus(self, modelrc: Any) -> bool:
        if self.options.get("mode") != "inference":
            return False
        if self.needs(modelrc).classes and not self.data.classes:
            raise ConfigError(
                "-m inference needs a trained checkpoint: give one with -e, or with -i and its recipe's classes"
            )
        return True

    def _draw_as_superb(self) -> None:
        """Leave the global generator as the stock task does before it builds layers: seeded, one permutation drawn."""
        torch.manual_seed(SPLIT_SEED)
        if self.corpus is not None:
            torch.randperm(len(self.corpus.splits["train"]) + len(self.corpus.splits["dev"]))

    def _trains_on(self, split: str) -> bool:
        """Whether the split is being trained on; it can be evaluated as any other."""
        return self.training and split == self.train_split

    def _results(self, split: str, records: dict[str, list[Any]], step: int, checkpoint: str | None) -> dict[str, Any]:
        """Write what an evaluated split leaves behind, in the records' order."""
        known = {utterance.name: utterance for utterance in (self.corpus.split(split) if self.corpus else ())}
        made_by = {"split": split, "fold": self.fold, "step": step, "checkpoint": checkpoint, "classes": self.classes}
        made_by |= self.provenance | results.model_size(self.model)
        made_by["loss"] = self.loss_of(records)
        metrics = self.write_results([known[name] for name in records["name"]], records, made_by)
        if records.get("embedding"):
            embeddings.save(self.expdir, f"{split}_{self.fold}", records["name"], records["embedding"])
        if records.get("attention"):
            weights = dict(zip(records["name"], records["attention"], strict=True))
            attention.save(Path(str(self.attention_dir)), f"{split}_{self.fold}", weights)
        return metrics
