"""The training loop: as s3prl's, which has no hooks, but with checkpoints that resume exactly.

The order of operations is that of ``s3prl/downstream/runner.py:train``; ``tests/training/test_parity.py`` compares
them. What differs: a checkpoint also has the generators' states and the position in the epoch, a new checkpoint is
written before older ones are deleted, and a non-finite gradient ends the run instead of being printed (stock tasks skip
the step).
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from argparse import Namespace
from collections import defaultdict
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from s3prl.utility.helper import get_model_state, is_leader_process
from tensorboardX import SummaryWriter
from torch.distributed import get_world_size, is_initialized
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from s3prl_emotion.distributed import everyones, leaders, rank, share_weights, sum_gradients, world
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.checkpoint import save_checkpoint
from s3prl_emotion.files.values import restoring
from s3prl_emotion.recipe import EVALUATED_SPLITS
from s3prl_emotion.rng import restore_rng, rng_state
from s3prl_emotion.training.own_arguments import TRUST_FLAGS
from s3prl_emotion.training.run_folder import states_of
from s3prl_emotion.upstreams.kept_identity import KEY

logger = logging.getLogger(__name__)
STORE_FLAGS = (
    "feature_store",
    "store_dtype",
    "store_batched",
    *TRUST_FLAGS,
    "allow_seen",
)  # not restored by -e


class Training:
    """A training run; ``runner`` is the :class:`~s3prl_emotion.training.runner.SuiteRunner`."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.args, self.options = runner.args, runner.config["runner"]
        self.expdir = Path(self.args.expdir)
        self.total_steps = int(self.options["total_steps"])
        self.accumulate = int(self.options.get("gradient_accumulate_steps") or 1)
        models = self._set_modes()
        share_weights(models)
        self.parameters = [parameter for model in models for parameter in model.parameters()]
        self.optimizer = runner._get_optimizer(models)
        self.scheduler = runner._get_scheduler(self.optimizer) if runner.config.get("scheduler") else None
        self.specaug = self._specaug()
        self.amp = bool(self.options.get("fp16", False)) and runner.device.type == "cuda"
        if self.options.get("fp16") and not self.amp:
            logger.warning("runner.fp16: half precision needs CUDA; on %s training runs in float32", runner.device.type)
        self.scaler = torch.amp.GradScaler(runner.device.type, enabled=self.amp)
        state = runner.init_ckpt
        self.step, self.epoch, self.batch = state.get("Step", 0), state.get("Epoch", 0), state.get("Batch", 0)
        self.records: dict[str, list[Any]] = defaultdict(list, state.get("Records", {}))
        self.batch_ids: list[int] = list(state.get("BatchIds", []))
        self.patience = self.options.get("early_stopping")
        self.unimproved = state.get("Unimproved", 0)  # number of evaluations since dev was best
        self.backward_steps = 0
        if self.scheduler is not None and "Scheduler" in state:  # the new scheduler has set the first step's rate
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = rate
        if "Scaler" in state:
            with restoring(f"{self.args.init_ckpt}: its Scaler does not fit this experiment"):
                self.scaler.load_state_dict(state["Scaler"])

    def run(self) -> None:
        """Train to ``total_steps``."""
        if "Rng" in self.runner.init_ckpt and not self.runner.host_order:
            with restoring(f"{self.args.init_ckpt}: its Rng does not fit this experiment"):
                restore_rng(self.runner.init_ckpt["Rng"][rank()])
        leader = is_leader_process()
        file = sys.stderr if leader else open(os.devnull, "w")  # noqa: SIM115  # closed with the progress bar
        with (
            closing(SummaryWriter(self.args.expdir)) if leader else nullcontext() as self.writer,
            tqdm(total=self.total_steps, initial=self.step, desc="overall", dynamic_ncols=True, file=file) as self.bar,
        ):
            while not self._done():
                self._run_epoch(tqdm_file=file)
                if not self._done():
                    self.epoch, self.batch = self.epoch + 1, 0
        if self._out_of_patience() and leader:  # repeated if a finished run is resumed
            logger.info("step %d: dev has not improved in %d evaluations, training ends", self.step, self.unimproved)

    def _done(self) -> bool:
        """Return whether all steps are done, or dev has not improved for ``early_stopping`` evaluations."""
        return self.step >= self.total_steps or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        return bool(self.patience and self.unimproved >= self.patience)

    def _run_epoch(self, tqdm_file: Any) -> None:
        loader = self._loader()
        total = len(loader) + (0 if self.runner.host_order else self.batch)
        batches = tqdm(
            loader,
            desc="train",
            dynamic_ncols=True,
            file=tqdm_file,
            leave=False,
            total=total,
            initial=total - len(loader),
        )
        for batch_id, (waveforms, *others) in enumerate(batches, start=total - len(loader)):
            if self._done():
                break
            self.batch = batch_id + 1
            if not self._backward(waveforms, others, batch_id):
                continue
            self.backward_steps += 1
            if self.backward_steps % self.accumulate == 0:
                self._update()
                self._after_update(total)

    def _loader(self) -> DataLoader:
        """Return the training batches of this epoch, from the position of the checkpoint on."""
        expert, split = self.runner.downstream.model, self.options.get("train_dataloader", "train")
        if "epoch" in inspect.signature(expert.get_dataloader).parameters:
            loader = expert.get_dataloader(split, epoch=self.epoch)
        else:
            loader = expert.get_dataloader(split)
            if isinstance(loader.sampler, DistributedSampler):
                loader.sampler.set_epoch(self.epoch)
        if self.runner.host_order:
            self.batch = 0
        elif self.batch:
            loader.batch_sampler.skip(self.batch)
        return loader

    def _backward(self, waveforms: Any, others: list[Any], batch_id: int) -> bool:
        """Do a forward and a backward pass; return false if a stock task's batch did not fit on the GPU."""
        split = self.options.get("train_dataloader", "train")
        try:
            with torch.autocast(self.runner.device.type, dtype=torch.float16, enabled=self.amp):
                features = self.runner.features(waveforms, others)
                if self.specaug is not None:
                    features, _ = self.specaug(features)
                loss = self.runner.downstream.model(split, features, *others, records=self.records)
            self.batch_ids.append(batch_id)
            self.scaler.scale(loss / self.accumulate).backward()
        except torch.cuda.OutOfMemoryError as error:
            if not self.runner.host_order or is_initialized():
                raise TrainingError(
                    f"CUDA out of memory at step {self.step + 1}; lower datarc.train_batch_size and raise "
                    "runner.gradient_accumulate_steps, or set datarc.max_duration"
                ) from error
            logger.warning("CUDA out of memory at step %d: skip this batch, as s3prl does", self.step + 1)
            torch.cuda.empty_cache()
            self.optimizer.zero_grad()
            return False
        return True

    def _update(self) -> None:
        """Clip the gradients, take a step, and update the learning rate."""
        sum_gradients(self.parameters, 1 / world() if self.runner.host_order else 1.0)  # s3prl averages over processes
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options["gradient_clipping"])
        if self.amp or torch.isfinite(norm):
            self._step()
            self.scaler.update()
        elif self.runner.host_order:
            logger.warning("gradient norm is %s at step %d: skip this step, as s3prl does", norm.item(), self.step + 1)
        else:
            raise TrainingError(
                f"gradient norm is {norm.item()} at step {self.step + 1}; lower optimizer.lr or check the data of "
                f"epoch {self.epoch}, batch {self.batch}; the last checkpoint in {self.expdir} is intact"
            )
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()

    def _step(self) -> None:
        try:
            self.scaler.step(self.optimizer)  # skips the step itself if half precision overflowed
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise TrainingError(f"the update overflows at step {self.step + 1}; lower optimizer.lr") from error

    def _after_update(self, total_batches: int) -> None:
        """Log, evaluate and save, if this step is due for it."""
        step = self.step + 1
        if step % self.options["log_step"] == 0:
            if is_leader_process():
                self.runner.downstream.model.log_records(
                    self.options.get("train_dataloader", "train"),
                    records=self.records,
                    logger=self.writer,
                    global_step=step,
                    batch_ids=self.batch_ids,
                    total_batch_num=total_batches,
                )
            self.records, self.batch_ids = defaultdict(list), []
        names = []
        evaluates, saves = step % self.options["eval_step"] == 0, step % self.options["save_step"] == 0
        if evaluates:
            for split in self.options.get("eval_dataloaders", EVALUATED_SPLITS):
                names += self.runner.evaluate(split, self.writer, step)
            saves = self._count_unimproved(names) or saves
        if saves:
            names.append(f"states-{step}.ckpt")
        if evaluates or saves:
            self._save(names, step)
        self.step = step
        self.bar.update(1)

    def _count_unimproved(self, names: list[str]) -> bool:
        """Count evaluations since dev was best, alike in all processes; return whether training ends here."""
        if self.patience:
            self.unimproved = 0 if leaders(bool(names)) else self.unimproved + 1
        return self._out_of_patience()

    def _save(self, names: list[str], step: int) -> None:
        generators, seen = everyones(rng_state()), self.runner.seen.state() if self.runner.seen is not None else {}
        if not names or not is_leader_process():
            return
        if self.runner.is_suite:
            self.runner.downstream.model.before_evaluation()
        state = self._state(step, generators) | seen
        for name in names:
            save_checkpoint(state, self.expdir / name)
        for path in states_of(self.expdir)[: -int(self.options.get("max_keep", 1))]:
            path.unlink()

    def _state(self, step: int, generators: list[Any]) -> dict[str, Any]:
        """Return the host's checkpoint with what an exact resume needs too, such as every process's ``generators``."""
        state = {
            "Optimizer": self.optimizer.state_dict(),
            "Step": step,
            "Epoch": self.epoch,
            "Args": Namespace(**{name: value for name, value in vars(self.args).items() if name not in STORE_FLAGS}),
            "Config": self.runner.config,
            KEY: self.runner.identity,
        }
        for entry in self.runner.all_entries:
            if entry.trainable:
                state[entry.name] = get_model_state(entry.model)
        if self.scheduler is not None:
            state["Scheduler"] = self.scheduler.state_dict()
        if is_initialized():
            state["WorldSize"] = get_world_size()
        if self.amp:
            state["Scaler"] = self.scaler.state_dict()
        if not self.runner.host_order:
            state |= {
                "Batch": self.batch,
                "Rng": generators,
                "Records": dict(self.records),
                "BatchIds": self.batch_ids,
                "Unimproved": self.unimproved,
            }
        return state

    def _set_modes(self) -> list[Any]:
        trainable = []
        for entry in self.runner.all_entries:
            if entry.trainable:
                entry.model.train().to(self.args.device)
                trainable.append(entry.model)
            else:
                entry.model.eval()
        return trainable

    def _specaug(self) -> Any:
        if not self.runner.config.get("specaug"):
            return None
        from s3prl.downstream.specaug import SpecAug

        return self.runner._built("specaug", lambda options: SpecAug(**options), self.runner.config["specaug"])
