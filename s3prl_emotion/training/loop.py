"""The training loop: as s3prl's, which has no hooks, but with checkpoints that resume exactly.

The order of operations is that of ``s3prl/downstream/runner.py:train``; ``tests/training/test_parity.py`` compares
them. What differs: a checkpoint also has the generators' states and the position in the epoch, a new checkpoint is
written before older ones are deleted, and a non-finite gradient ends the run instead of being printed (stock tasks skip
the step).
"""

from __future__ import annotations

import inspect
import logging
import math
from argparse import Namespace
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from s3prl.utility.helper import get_model_state, is_leader_process
from torch import Tensor, nn
from torch.distributed import get_world_size, is_initialized
from torch.utils.data import DataLoader, DistributedSampler

from s3prl_emotion.distributed import everyones, leaders, rank, share_weights, sum_gradients, world
from s3prl_emotion.errors import ConfigError, EmotionError, TrainingError, is_out_of_memory
from s3prl_emotion.files.checkpoint import save_checkpoint
from s3prl_emotion.files.fit import load_weights
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.values import restoring
from s3prl_emotion.loading.means import Batch, joined
from s3prl_emotion.processes import ending
from s3prl_emotion.recipe import NO_AVERAGES
from s3prl_emotion.rng import draws_part_by_part, restore_rng, rng_state
from s3prl_emotion.store.means import FRAMES, MEANS
from s3prl_emotion.training.averages import KEY as UNAVERAGED
from s3prl_emotion.training.averages import Averages
from s3prl_emotion.training.curves import curves
from s3prl_emotion.training.evaluation import AbandonedError
from s3prl_emotion.training.own_arguments import TRUST_FLAGS
from s3prl_emotion.training.run_folder import LAST, states_of
from s3prl_emotion.training.statistics import KEY as STATISTICS
from s3prl_emotion.upstreams.finetuning.part import TrainedPart
from s3prl_emotion.upstreams.kept_identity import KEY

logger = logging.getLogger(__name__)
STORE_FLAGS = (
    "feature_store",
    "store_dtype",
    "store_batched",
    "statistics",
    *TRUST_FLAGS,
    "allow_seen",
)  # not restored by -e
MOST_OVERFLOWS = 20  # steps in a row, in which the scaler's first factor, 65536, falls below 1


class Training:
    """A training run; ``runner`` is the :class:`~s3prl_emotion.training.runner.SuiteRunner`."""

    def __init__(self, runner: Any) -> None:
        self.runner, self.finetuning = runner, runner.finetuning
        self.args, self.options = runner.args, runner.config["runner"]
        self.expdir = Path(self.args.expdir)
        self.accumulate = int(self.options.get("gradient_accumulate_steps") or 1)
        steps = int(self.options["total_steps"])
        self.total_steps = min(steps, self._steps_of_epochs() or steps)
        self.joins_batches = self._may_join()
        models = self._set_modes()
        self.averages = self._load_averages()
        share_weights(models)
        self.parameters = [parameter for model in models for parameter in model.parameters()]
        self.optimizer = runner._get_optimizer(models)
        scheduled = runner.config.get("scheduler")
        self.scheduler = runner._get_scheduler(self.optimizer, self.total_steps) if scheduled else None
        self.specaug = self._specaug()
        self.amp = bool(self.options.get("fp16", False)) and runner.device.type == "cuda"
        if self.options.get("fp16") and not self.amp:
            logger.warning("runner.fp16: half precision needs CUDA; on %s training runs in float32", runner.device.type)
        self.half = torch.bfloat16 if self.options.get("bf16") else torch.float16
        self.is_mixed = self.amp or self.half is torch.bfloat16
        self.overflows, self.is_finite = 0, torch.tensor(True)  # steps in a row; whether this step's losses are
        self.scaler = torch.amp.GradScaler(runner.device.type, enabled=self.amp)
        state = runner.init_ckpt
        self.step, self.epoch, self.batch = state.get("Step", 0), state.get("Epoch", 0), state.get("Batch", 0)
        self.records: dict[str, list[Any]] = defaultdict(list, state.get("Records", {}))
        self.batch_ids: list[int] = list(state.get("BatchIds", []))
        self.patience = self.options.get("early_stopping")
        self.unimproved = state.get("Unimproved", 0)  # number of evaluations since dev was best
        self.backward_steps = 0
        self.ends = False  # whether a signal, of any process, asks to end after this step
        self.at_boundary = True  # whether the state is that after a whole step
        self.left: dict[str, list[str]] | None = state.get("Left")  # of an evaluation that a signal ended
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
        counts = {"total": self.total_steps, "initial": self.step}
        with (
            curves(self.expdir) if leader else nullcontext() as self.writer,
            progress(name="overall", unit="steps", **counts, hidden=not leader) as self.bar,
            ending.deferred(),
        ):
            self._train()
        if self._out_of_patience() and leader:  # repeated if a finished run is resumed
            logger.info("step %d: dev has not improved in %d evaluations, training ends", self.step, self.unimproved)

    def _train(self) -> None:
        """Train until all is done, or until a signal asks to end: then save the last whole step."""
        try:
            if self.left is not None:
                self._evaluate_and_save(self.step)
            while not self._done():
                self._run_epoch()
                if not self._done():
                    self.epoch, self.batch = self.epoch + 1, 0
        except (RuntimeError, EmotionError):
            if not (ending.is_asked() and self.at_boundary and world() == 1):
                raise
            self._end(self.step)  # a loader process got the signal too, before the next batch was there

    def _steps_of_epochs(self) -> int | None:
        """Return the steps of ``runner.epochs``, counted from the training split that the head keeps."""
        expert, epochs = self.runner.downstream.model, self.options.get("epochs")
        if epochs is None or not self.runner.is_suite:
            return None
        utterances = len(expert.corpus.split(expert.train_split))
        batches = math.ceil(utterances / (expert.data.train_batch_size * world()))
        return max(1, int(epochs) * batches // self.accumulate)

    def _may_join(self) -> bool:
        """Return whether the batches of a step go through one forward pass, which must not change what is drawn."""
        expert = self.runner.downstream.model
        if not self.runner.reads_means or not expert.joins_batches or self.accumulate == 1 or world() > 1:
            return False
        drops = any(isinstance(part, (nn.Dropout, nn.Dropout1d)) and part.p > 0 for part in expert.modules())
        return not drops or draws_part_by_part(self.runner.device)

    def _is_end_of_epochs(self, step: int) -> bool:
        """Return whether the last step was taken; it need not be a multiple of ``eval_step``."""
        return self.options.get("epochs") is not None and step >= self.total_steps

    def _done(self) -> bool:
        """Return whether all steps are done, or dev has not improved for ``early_stopping`` evaluations."""
        return self.step >= self.total_steps or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        return bool(self.patience and self.unimproved >= self.patience)

    def _run_epoch(self) -> None:
        loader = self._loader()
        total = len(loader) + (0 if self.runner.host_order else self.batch)
        counts = {"total": total, "initial": total - len(loader)}
        batches = progress(
            loader, "train", "batches", **counts, leave=False, lines=False, hidden=not is_leader_process()
        )
        group: list[Batch] = []
        for batch_id, (waveforms, *others) in enumerate(batches, start=total - len(loader)):
            if self._done():
                break
            if self.at_boundary and ending.is_asked() and world() == 1:
                self._end(self.step)
            self.batch, self.at_boundary = batch_id + 1, False
            group.append((batch_id, waveforms, others))
            if self.joins_batches and (self.backward_steps + len(group)) % self.accumulate and self.batch < total:
                continue  # computed together with the next
            done, group = self._backward(group), []
            if not done:
                continue
            self.backward_steps += done
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

    def _backward(self, group: list[Batch]) -> int:
        """Do a forward and a backward pass; return the number of batches, 0 if a stock task's did not fit on a GPU."""
        split = self.options.get("train_dataloader", "train")
        batch_ids, (waveforms, others, options) = [batch_id for batch_id, *_ in group], joined(group)
        try:
            with torch.autocast(self.runner.device.type, self.half) if self.is_mixed else nullcontext():
                features = self.runner.features(waveforms, others)
                if self.specaug is not None:
                    features, _ = self.specaug(features)
                loss = self.runner.downstream.model(split, features, *others, records=self.records, **options)
            self.batch_ids += batch_ids
            if self.amp:
                self.is_finite = self.is_finite.to(loss.device) & loss.detach().isfinite()
            self.scaler.scale(loss / self.accumulate).backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if not self.runner.host_order or is_initialized() or not isinstance(error, torch.cuda.OutOfMemoryError):
                raise TrainingError(
                    f"out of memory on {self.runner.device} at step {self.step + 1}; lower datarc.train_batch_size and "
                    "raise runner.gradient_accumulate_steps, or set datarc.max_duration"
                ) from error
            logger.warning("CUDA out of memory at step %d: skip this batch, as s3prl does", self.step + 1)
            torch.cuda.empty_cache()
            self.optimizer.zero_grad()
            return 0
        return len(group)

    def _update(self) -> None:
        """Clip the gradients, take a step, and update the learning rate."""
        scale = 1.0 if self.runner.is_suite else 1 / world()  # s3prl averages over processes
        self.ends = sum_gradients(self.parameters, scale, asks=ending.is_asked())
        if self.finetuning is not None:
            self.finetuning.check_reached()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options["gradient_clipping"])
        if self.amp:
            self._check_overflow(norm)
        if self.amp or torch.isfinite(norm):
            self._step()
            self.scaler.update()
        elif self.runner.host_order:
            logger.warning("gradient norm is %s at step %d: skip this step, as s3prl does", norm.item(), self.step + 1)
        else:
            raise TrainingError(
                f"gradient norm is {norm.item()} at step {self.step + 1}{self._in_half()}; lower optimizer.lr or check "
                f"the data of epoch {self.epoch}, batch {self.batch}; the last checkpoint in {self.expdir} is intact"
            )
        self.optimizer.zero_grad()
        if self.averages is not None:
            self.averages.update(self.step + 1)
        if self.scheduler is not None:
            self.scheduler.step()

    def _check_overflow(self, norm: Tensor) -> None:
        """Refuse to skip step after step: float16 overflows now and then, upon which the scaler lowers its factor.

        Raises:
            TrainingError: the loss itself is not finite, or no gradient was for many steps
        """
        self.overflows = 0 if torch.isfinite(norm) else self.overflows + 1
        lost, self.is_finite = not self.is_finite, torch.tensor(True)
        if self.runner.is_suite and (self.overflows > MOST_OVERFLOWS or (self.overflows and lost)):
            what = "the loss" if lost else f"the gradient of {self.overflows} steps in a row"
            raise TrainingError(
                f"{what} is not finite at step {self.step + 1}{self._in_half()}; use runner.bf16 in place of fp16, or "
                f"lower the learning rates; the last checkpoint in {self.expdir} is intact"
            )

    def _in_half(self) -> str:
        """Say in a message that the training is in mixed precision."""
        name = "fp16" if self.amp else "bf16" if self.half is torch.bfloat16 else None
        return f" in mixed precision (runner.{name})" if name else ""

    def _step(self) -> None:
        warming_up = self.finetuning.warming_up(self.optimizer, self.step) if self.finetuning else nullcontext()
        try:
            with warming_up:
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
        if step % self.options["eval_step"] == 0 or self._is_end_of_epochs(step):
            self.left = {"splits": list(self.runner.evaluated_splits), "names": []}
        self._evaluate_and_save(step)
        self.step, self.at_boundary = step, True
        self.bar.update(1)
        if self.ends or (world() == 1 and ending.is_asked()):
            self._end(step)

    def _evaluate_and_save(self, step: int) -> None:
        """Evaluate the splits that are left to evaluate at this step, and save the checkpoints that are due.

        Raises:
            Ended: a signal ended the evaluation; the checkpoint says which splits are left
        """
        evaluates, names = self.left is not None, []
        saves = step % self.options["save_step"] == 0 or self._is_end_of_epochs(step)
        if self.left is not None:
            try:
                self._evaluate(self.left, step)
            except AbandonedError:
                self._end(step)
            names, self.left = self.left["names"], None
            saves = self._count_unimproved(names) or saves
        if self.runner.counts_last and step >= self.total_steps:
            names.append(LAST)
        if saves:
            names.append(f"states-{step}.ckpt")
        if evaluates or names:
            self._save(names, step)

    def _evaluate(self, left: dict[str, list[str]], step: int) -> None:
        with nullcontext() if self.averages is None else self.averages.applied():
            while left["splits"]:
                left["names"] += self.runner.evaluate(left["splits"][0], self.writer, step)
                del left["splits"][0]

    def _end(self, step: int) -> None:
        """Save the state after a whole step if the recipe saves any, alike in all processes, and end the run.

        Raises:
            Ended: always
        """
        self.step = step
        if step == 0:
            ending.end("no step was complete; start the same command again")
        if self.options["save_step"] > self.total_steps and self.options.get("epochs") is None:
            ending.end(f"the recipe saves no checkpoints (runner.save_step), so the {step} steps are lost")
        path = self.expdir / f"states-{step}.ckpt"
        if self.left is not None or not leaders(path.is_file()):
            self._save([*(self.left["names"] if self.left is not None else ()), path.name], step)
        ending.end(f"the same command with -a goes on from step {step} ({path})")

    def _count_unimproved(self, names: list[str]) -> bool:
        """Count evaluations since dev was best, alike in all processes; return whether training ends here."""
        if self.patience:
            self.unimproved = 0 if leaders(bool(names)) else self.unimproved + 1
        return self._out_of_patience()

    def _save(self, names: list[str], step: int) -> None:
        generators, seen = everyones(rng_state()), self.runner.seen.state() if self.runner.seen is not None else {}
        if not names or not is_leader_process():
            return
        with nullcontext() if self.averages is None else self.averages.applied() as unaveraged:
            if self.runner.is_suite:
                self.runner.downstream.model.before_evaluation()
            state = self._state(step, generators) | seen
            if unaveraged is not None:
                state[UNAVERAGED] = unaveraged
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
        if self.runner.is_suite:
            state[STATISTICS] = MEANS if self.runner.reads_means else FRAMES
        for entry in self.runner.all_entries:
            if entry.trainable:
                state[entry.name] = get_model_state(self.runner.trained(entry))
        if self.scheduler is not None:
            state["Scheduler"] = self.scheduler.state_dict()
        if self.left is not None:
            state["Left"] = {name: list(values) for name, values in self.left.items()}
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

    def _load_averages(self) -> Averages | None:
        """Return the averages of ``runner.ema_decay``, and load the weights that a resumed training goes on with.

        Raises:
            ConfigError: a stock task, or SUPERB's mode, which have none
        """
        decay, path = self.options.get("ema_decay"), self.args.init_ckpt
        if decay is not None and self.runner.host_order:
            raise ConfigError(NO_AVERAGES)
        parameters = {
            f"{entry.name}.{name}": parameter
            for entry in self.runner.all_entries
            if entry.trainable
            for name, parameter in entry.model.named_parameters()
            if parameter.requires_grad
        }
        averages = None if decay is None else Averages(parameters, float(decay))
        if UNAVERAGED in self.runner.init_ckpt:
            load_weights(TrainedPart(parameters), self.runner.init_ckpt[UNAVERAGED], path, UNAVERAGED)
        return averages

    def _set_modes(self) -> list[Any]:
        trainable = [entry.model.to(self.args.device) for entry in self.runner.all_entries if entry.trainable]
        self.runner.set_modes()
        return trainable

    def _specaug(self) -> Any:
        if not self.runner.config.get("specaug"):
            return None
        from s3prl.downstream.specaug import SpecAug

        return self.runner._built("specaug", lambda options: SpecAug(**options), self.runner.config["specaug"])
