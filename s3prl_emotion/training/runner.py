"""The host's runner, plus exact resume, evaluation that does not affect training, and true lengths."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from s3prl.downstream.runner import ModelEntry, Runner
from s3prl.schedulers import get_scheduler
from s3prl.utility.helper import is_leader_process
from tensorboardX import SummaryWriter
from torch import Tensor

from s3prl_emotion import host
from s3prl_emotion.corpora.protocol import note_of_model
from s3prl_emotion.distributed import PATIENCE, be_patient, in_touch, leaders, rank, share_weights, world
from s3prl_emotion.errors import CheckpointError, ConfigError, EmotionError, UsageError
from s3prl_emotion.experts.heads import is_emotion_head
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.fit import load_weights
from s3prl_emotion.loading.means import MeanRows
from s3prl_emotion.metrics.results import config_hash
from s3prl_emotion.processes.collection import collection
from s3prl_emotion.recipe import EVALUATED_SPLITS, FinetuningSection
from s3prl_emotion.rng import own_seed, seed_everything
from s3prl_emotion.store.means import FRAMES, MEANS
from s3prl_emotion.training.best import first_is_best
from s3prl_emotion.training.evaluation import evaluate_split
from s3prl_emotion.training.longest import check_longest
from s3prl_emotion.training.loop import Training
from s3prl_emotion.training.no_dev import warn_without_dev
from s3prl_emotion.training.output_folder import attention_folder
from s3prl_emotion.training.run_folder import BEST, LAST, remove_if_empty
from s3prl_emotion.training.seen import SeenData
from s3prl_emotion.training.statistics import reads_means
from s3prl_emotion.training.summary import print_summary
from s3prl_emotion.upstreams.featurizer import Featurizer
from s3prl_emotion.upstreams.finetuning.check import check_finetuning, check_part, trains_part
from s3prl_emotion.upstreams.finetuning.part import Finetuning, count_trained
from s3prl_emotion.upstreams.kept_identity import checked_identity
from s3prl_emotion.upstreams.layer_choice import cut_upstream
from s3prl_emotion.upstreams.memory import MemoryGuard
from s3prl_emotion.upstreams.source import UpstreamSource, UpstreamSpec, failing_on
from s3prl_emotion.upstreams.split_features import pooled_features

logger = logging.getLogger(__name__)
ALWAYS_SAVED = ("Featurizer", "Downstream")  # in checkpoints; the upstream only where it is trained
READ_LR_ALONE = ("Adam", "AdamW")  # optimizers of s3prl that take other keys and do not use them
READ = ("name", "lr", "torch_optim_name")  # the last remains where -o changes the name
SEEDS_APART = 1_000_003  # between the seeds of the processes of a distributed training


class SuiteRunner(Runner):
    """Runs heads, and stock tasks as the host does.

    ``reads_means`` is true where the head gets means over frames in place of frames.
    ``host_order`` is true for stock tasks and in SUPERB's seeding mode: then random draws, batched features and
    evaluation are the host's, for exact parity. ``evaluates_alone`` is true where the process of rank 0 then evaluates
    for all, as in s3prl; heads in SUPERB's mode share the evaluation where there are several processes.
    """

    config: dict[str, Any]
    reads_means = False
    section: FinetuningSection | None = None  # the recipe's ``upstream:``, which says what ``-f`` trains
    finetuning: Finetuning | None = None

    def __init__(self, args: Any, config: dict[str, Any]) -> None:
        self.is_suite = is_emotion_head(args.downstream)
        self.host_order = not self.is_suite or config["runner"].get("seeding") == "superb"
        self.evaluates_alone = self.host_order and not (self.is_suite and world() > 1)
        if self.evaluates_alone:
            be_patient()
        self.device = torch.device(args.device)
        with _no_empty_experiment(Path(args.expdir)):
            super().__init__(args, config)
            self.seen = SeenData(self) if self.is_suite else None
        if self.is_suite:
            self.downstream.model.attention_dir = attention_folder(args, self.downstream.model.attention_dir)
        if args.mode == "evaluate" and not self.init_ckpt:
            logger.warning("no checkpoint given with -e or -i: evaluate an untrained head")

    # --- building --------------------------------------------------------------------------------------------------

    def _init_model(self, model: Any, name: str, trainable: bool, interfaces: Any = None) -> ModelEntry:
        """Load the weights; unlike the host, do not wrap in ``DistributedDataParallel``: see ``distributed.py``."""
        starts = name == "Downstream" and self.args.mode == "train"
        with first_is_best(model, Path(self.args.expdir)) if starts else nullcontext():
            self._load_weight(model, name)
        return ModelEntry(model, name, trainable, interfaces)

    def _load_weight(self, model: Any, name: str) -> None:
        if name == "Optimizer" and self.finetuning is not None:
            self.finetuning.split(model)
        if name == "Upstream" and trains_part(self.section):  # _get_upstream loads the part, once there are adapters
            return
        if self.init_ckpt and (name in self.init_ckpt or name in ALWAYS_SAVED):
            load_weights(model, self.init_ckpt.get(name), self.args.init_ckpt, name)

    def _get_upstream(self) -> ModelEntry:
        args, layer = self.args, self.args.upstream_layer_selection
        self.section = check_finetuning(args, self.config)
        check_part(self.init_ckpt, self.section, args.init_ckpt)
        host.replace_bars()  # of downloads
        with in_touch("the upstream", PATIENCE):  # the other processes wait until the first has downloaded it
            entry = super()._get_upstream()
        keeps_weights = trains_part(self.section) or not entry.trainable
        if not keeps_weights or self.host_order:
            layer = None
        options = (args.upstream_ckpt, args.upstream_model_config, args.upstream_feature_selection, layer)
        self.cut = cut_upstream(entry.model, args.upstream, *options)
        self.identity, self.upstream_note = checked_identity(self.init_ckpt, entry.model, args, keeps_weights)
        if self.section is not None:
            self.finetuning = Finetuning(entry.model, self.section, args.upstream, args.seed)
        if trains_part(self.section) and "Upstream" in self.init_ckpt:
            load_weights(self.trained(entry), self.init_ckpt["Upstream"], args.init_ckpt, "Upstream")
        return entry

    def trained(self, entry: ModelEntry) -> Any:
        """Return what a checkpoint holds of a model: of a partly trained upstream, that part."""
        if entry.name == "Upstream" and self.finetuning is not None and self.finetuning.part is not None:
            return self.finetuning.part
        return entry.model

    def _get_featurizer(self) -> ModelEntry:
        model = Featurizer(
            upstream=self.upstream.model,
            feature_selection=self.args.upstream_feature_selection,
            layer_selection=self.args.upstream_layer_selection,
            upstream_device=self.args.device,
            normalize=self.args.upstream_feature_normalize,
            as_host=self.host_order,
        ).to(self.args.device)
        return self._init_model(model, "Featurizer", True, ["output_dim", "downsample_rate"])

    def _get_downstream(self) -> ModelEntry:
        if not self.host_order:  # whatever upstream and featurizer drew, the head depends on --seed alone
            seed_everything(self.args.seed)
        if not self.is_suite:
            host.guard_task(self.args.downstream)
            host.replace_bars()
        entry = self._built_downstream()
        if rank():  # the head is the same in every process, its dropout masks differ
            seed_everything(self.args.seed + SEEDS_APART * rank())
        if self.is_suite:
            self.reads_means = reads_means(self, entry.model)
            if self.reads_means and entry.model.loaders is not None:
                entry.model.loaders.read_means(self.source)
            entry.model.provenance["statistics"] = MEANS if self.reads_means else FRAMES
            entry.model.check_upstream(self.source.identity)
            sizes = {"upstream_parameters": self.cut.parameters, "upstream_parameters_computed": self.cut.computed}
            store = self.source.store
            if self.upstream_note is not None:
                entry.model.provenance["upstream_check"] = self.upstream_note
            entry.model.provenance |= {**sizes, "store_key": None if store is None else store.identity.id}
            if self.upstream.trainable:
                models = {item.name: item.model for item in (self.upstream, self.featurizer, entry)}
                entry.model.provenance |= count_trained(models)
        return entry

    def _built_downstream(self) -> ModelEntry:
        """Build the head as the host does, which passes ``-u`` on by the name of the recipe's section ``upstream``."""
        whole = self.config
        self.config = {name: section for name, section in whole.items() if name != "upstream"}
        try:
            entry = super()._get_downstream()
        finally:
            self.config = whole
        if self.is_suite and self.finetuning is not None:
            recipe = entry.model.provenance["config"] | {"upstream": whole["upstream"]}
            entry.model.provenance |= {"config": recipe, "config_hash": config_hash(recipe)}
        return entry

    def _get_optimizer(self, model_params: Any) -> Any:
        if self.is_suite and not self.init_ckpt:
            _check_not_ignored(self.config["optimizer"])
        with collection(False):  # the first optimizer imports more of torch
            return self._built("optimizer", super()._get_optimizer, model_params)

    def _get_scheduler(self, optimizer: Any, total_steps: int | None = None) -> Any:
        """Build the learning-rate schedule; the host's own call has no ``total_steps`` and uses the recipe's.

        Args:
            optimizer: of the training
            total_steps: of the run, which ``runner.epochs`` may end before the recipe's ``total_steps``
        """
        steps = int(self.config["runner"]["total_steps"]) if total_steps is None else total_steps
        scheduler = self._built("scheduler", lambda item: get_scheduler(item, steps, self._schedule(steps)), optimizer)
        self._load_weight(scheduler, "Scheduler")
        return scheduler

    def _schedule(self, steps: int) -> dict[str, Any]:
        """Return the section ``scheduler`` as the host knows it, which counts the steps of warm-up."""
        options = dict(self.config["scheduler"])
        ratio = options.pop("warmup_ratio", None)
        if ratio is not None:
            options["num_warmup_steps"] = math.ceil(ratio * steps)
        elif self.is_suite and options.get("num_warmup_steps", 0) >= steps:
            logger.warning(
                "scheduler.num_warmup_steps: %s, but the run has %d steps, so its learning rate never reaches "
                "optimizer.lr; lower it, or use warmup_ratio",
                options["num_warmup_steps"],
                steps,
            )
        return options

    def _built(self, section: str, build: Any, argument: Any) -> Any:
        try:
            return build(argument)
        except (NameError, TypeError, AttributeError, KeyError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise ConfigError(f"{section}: s3prl cannot build it from {self.config[section]} ({error})") from error

    def set_modes(self) -> None:
        """Set the mode of every model for training."""
        for entry in self.all_entries:
            entry.model.train(entry.trainable)
        if self.finetuning is not None:
            self.finetuning.train()

    # --- features --------------------------------------------------------------------------------------------------

    def features(self, waveforms: Any, others: Sequence[Any] = ()) -> Sequence[Tensor]:
        """Return the features ``[T_b, D]`` of waveforms ``[N_b]``.

        A frozen upstream computes each utterance separately, so that neither its neighbours in the batch nor padding
        can change it, and the feature store can replace it; a trainable upstream, and every upstream in the host's
        order, computes the whole batch.

        Args:
            waveforms: of a batch, or :class:`~s3prl_emotion.loading.means.MeanRows` in their place
            others: the rest of the batch, of which the last entry names the utterances, for messages
        """
        if isinstance(waveforms, MeanRows):
            return self.featurizer.model.weigh_means(waveforms.rows())
        wavs = [torch.as_tensor(np.asarray(wav), dtype=torch.float32) for wav in waveforms]
        if self.reads_means:
            means = list(self.source.means(wavs, others[-1] if others else None))
            return self.featurizer.model.weigh_means(torch.stack(means).to(self.device))
        if self.host_order or self.upstream.trainable:
            with torch.set_grad_enabled(self.upstream.trainable and torch.is_grad_enabled()):
                for number, wav in enumerate(wavs):
                    self.memory.check(len(wav), str(others[-1][number]) if others else "audio")
            return self._together([wav.to(self.device) for wav in wavs])
        return self.featurizer.model.weigh_batch(self.source.stacks(wavs, others[-1] if others else None))

    def _together(self, wavs: list[Tensor]) -> list[Tensor]:
        with (
            torch.set_grad_enabled(self.upstream.trainable and torch.is_grad_enabled()),
            nullcontext() if self.host_order else failing_on(self.args.upstream, wavs),
        ):
            hidden = self.upstream.model(wavs)
        return self.featurizer.model(wavs, hidden)

    @cached_property
    def memory(self) -> MemoryGuard:
        """Knows what the upstream needs for audio of some length."""
        if self.reads_means or not (self.host_order or self.upstream.trainable):
            return self.source.memory
        model = self.featurizer.model
        rate = max(1, int(model.downsample_rate))
        return MemoryGuard(
            self.upstream.model, self.args.upstream, lambda wav: self._together([wav]), rate, self.device
        )

    @cached_property
    def source(self) -> UpstreamSource:
        """The source of the features of a frozen upstream: the upstream, or the feature store."""
        return UpstreamSource(
            self.upstream.model,
            self.featurizer.model,
            UpstreamSpec(self.args.upstream, self.args.upstream_ckpt, self.args.upstream_model_config),
            self.device,
            folder=self.args.feature_store,
            dtype=self.args.store_dtype,
            batched=self.args.store_batched,
            trainable=self.upstream.trainable,
            identity=self.cut.identity,
        )

    @cached_property
    def evaluated_splits(self) -> list[str]:
        """The splits that training evaluates: ``runner.eval_dataloaders``, without dev where the corpus has none."""
        names = list(self.config["runner"].get("eval_dataloaders", EVALUATED_SPLITS))
        corpus = self.downstream.model.corpus if self.is_suite else None
        return names if corpus is None else corpus.existing(names)

    @property
    def counts_last(self) -> bool:
        """Whether the last checkpoint counts, since the corpus has no dev split."""
        corpus = self.downstream.model.corpus if self.is_suite else None
        return corpus is not None and not corpus.protocol.has_dev

    # --- the three modes -------------------------------------------------------------------------------------------

    @collection(True)
    def train(self) -> None:
        """``-m train``: train, then evaluate the best checkpoint, whose predictions are kept."""
        with _no_empty_experiment(Path(self.args.expdir)):
            if self.seen is not None:
                warn_without_dev(self.downstream.model)
                check_longest(self, [self.downstream.model.train_split, *self.evaluated_splits])
                self.seen.before_training()
                self.downstream.model.fit(partial(pooled_features, self))
            training = Training(self)
        training.run()
        if self.is_suite and self.downstream.model.loaders is not None:
            self.downstream.model.loaders.say_faults()
        if self.args.push_to_hf_hub:
            self.push_to_huggingface_hub()
        if not self.host_order:
            self._evaluate_best()

    @collection(True)
    def evaluate(self, split: str | None = None, logger: Any = None, global_step: int = 0) -> list[str]:
        """``-m evaluate``, and the evaluations during training.

        Returns:
            names under which the head wants the current weights saved
        """
        if self.evaluates_alone and not is_leader_process():
            return []
        if split is None and self.is_suite:
            check_longest(self, [self.args.evaluate_split])
        if split is not None:
            return self._evaluate_split(split, logger, global_step)
        step = self.init_ckpt.get("Step", 0) if self.is_suite else 0
        checkpoint = Path(self.args.init_ckpt).name if self.args.init_ckpt else None
        with tempfile.TemporaryDirectory() as folder:
            writer = SummaryWriter(folder)
            self._evaluate_split(self.args.evaluate_split, writer, step, checkpoint=checkpoint)
            writer.close()
        if self.is_suite and is_leader_process():
            print_summary(self.downstream.model, [self.args.evaluate_split])
        return []

    @collection(True)
    def inference(self) -> None:
        """``-m inference``: print what the head predicts for one file."""
        path = Path(self.args.evaluate_split)
        if not path.is_file():
            raise UsageError(f"-t {path}: no such audio file")
        if not self.is_suite:
            super().inference()
            return
        waveform = self.downstream.model.load_audio(path)
        if self.seen is not None and self.seen.of_checkpoint.heard(waveform.numpy()):
            logger.warning("%s: %s was trained on this audio", path, self.args.init_ckpt)
        note = note_of_model(self.config)
        if note is not None:
            logger.warning("%s: %s", self.args.init_ckpt, note)
        for entry in self.all_entries:
            entry.model.eval()
        with torch.no_grad():
            self.downstream.model.inference(self.features([waveform], [[str(path)]]), [path.stem])

    # --- inside ----------------------------------------------------------------------------------------------------

    def _evaluate_split(self, split: str, writer: Any, step: int, **options: Any) -> list[str]:
        """Evaluate a split from ``--seed``, which in the host's order also reseeds training, as in s3prl."""
        if self.host_order:
            seed_everything(self.args.seed + SEEDS_APART * rank())
            return evaluate_split(self, split, writer, step, **options)
        with own_seed(self.args.seed):
            return evaluate_split(self, split, writer, step, **options)

    def _evaluate_best(self) -> None:
        """Write the predictions and metrics of the checkpoint that counts over those of the last step."""
        path = Path(self.args.expdir) / (LAST if self.counts_last else BEST)
        if not leaders(path.is_file()):
            why = "it was removed" if self.counts_last else "because dev was never evaluated (runner.eval_step)"
            logger.warning("%s: no %s, %s", self.args.expdir, path.name, why)
            return
        step = 0
        if is_leader_process():
            best = load_checkpoint(path, self.args.device)
            step = best["Step"]
            for entry in self.all_entries:
                if entry.trainable:
                    self.trained(entry).load_state_dict(best[entry.name])
        share_weights(entry.model for entry in self.all_entries if entry.trainable)
        with tempfile.TemporaryDirectory() as folder:
            writer = SummaryWriter(folder)
            for split in self.evaluated_splits:
                self._evaluate_split(split, writer, step, checkpoint=path.name, keep_log=False)
            writer.close()
        if is_leader_process():
            print_summary(self.downstream.model, self.evaluated_splits)


def _check_not_ignored(optimizer: dict[str, Any]) -> None:
    """Refuse keys that s3prl's own Adam and AdamW drop without a word, such as ``weight_decay``.

    Raises:
        ConfigError: names the key, and the optimizer that takes it
    """
    name = optimizer["name"]
    unread = [key for key in optimizer if key not in READ] if name in READ_LR_ALONE else []
    if unread:
        raise ConfigError(
            f"optimizer.{unread[0]}: s3prl's {name} reads lr alone; set optimizer.name: TorchOptim and "
            f"torch_optim_name: {name}, which reads it"
        )


@contextmanager
def _no_empty_experiment(folder: Path) -> Iterator[None]:
    """Remove the experiment directory if an error in the input ends the run before anything was computed."""
    try:
        yield
    except EmotionError:
        if is_leader_process():
            remove_if_empty(folder)
        raise
