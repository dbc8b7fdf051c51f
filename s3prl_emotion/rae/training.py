"""Pretrain the autoencoder: Adam on the root mean squared error of reconstruction, with exact resume.

Several processes (torchrun) share a batch, and each computes the loss of the whole batch. So a step equals a
single-process step on the combined batch, except for dropout masks, which each process draws itself.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s3prl_emotion.audio import FaultCounts
from s3prl_emotion.distributed import everyones, gather_rows, rank, share_weights, sum_gradients, world
from s3prl_emotion.errors import AudioError, TrainingError, UsageError, is_out_of_memory
from s3prl_emotion.files.checkpoint import save_checkpoint
from s3prl_emotion.files.fit import load_weights
from s3prl_emotion.files.progress import progress
from s3prl_emotion.files.values import restoring
from s3prl_emotion.files.versions import versions
from s3prl_emotion.processes import ending
from s3prl_emotion.rae import log
from s3prl_emotion.rae.adapter import (
    CHECKPOINT,
    Configuration,
    RecurrentAutoencoder,
    check_resumable,
    read_state,
    root_mean,
    squared_error,
)
from s3prl_emotion.rae.audio_index import AudioIndex
from s3prl_emotion.rae.audio_stream import Batch, BatchOrder, Spectrograms, batches, batches_of
from s3prl_emotion.rae.evaluation import held_out_loss
from s3prl_emotion.rng import restore_rng, rng_state, seed_everything

logger = logging.getLogger(__name__)
SEEDS_APART = 1_000_003  # distance of the processes' seeds
EARLY = 10  # steps before the first log of the speed


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pretraining."""

    steps: int
    """steps in total, earlier runs included"""
    loss: float | None
    """mean over the last logged steps; ``None`` if there was no step"""
    dev_loss: float | None
    dev_mean_loss: float | None
    """dev loss of predicting each band's mean, a lower bar for any model"""
    hours: float
    """audio in this run"""
    seconds: float
    """duration of this run"""
    skipped: Counter[str]
    """number of skipped files and segments, by reason"""


class _AbandonedError(Exception):
    """A signal ended the pretraining while it evaluated."""


class Pretraining:
    """A pretraining: model, optimizer, and position in the data.

    Args:
        config: configuration of the run
        index: the audio
        out: folder for ``rae.ckpt`` and ``log.jsonl``; a checkpoint of this run in it is resumed
        device: device to train on
        num_workers: number of processes that read audio, per training process

    Raises:
        CheckpointError: ``out`` holds the checkpoint of another run
        UsageError: too few files to hold a share out, or half precision without a GPU
    """

    def __init__(
        self, config: Configuration, index: AudioIndex, out: Path, device: torch.device, num_workers: int = 0
    ) -> None:
        self.config, self.options = config, config.training
        self.index, self.out, self.device, self.num_workers = index, out, device, num_workers
        if self.options.precision == "fp16" and device.type != "cuda":
            raise UsageError(f"--precision fp16: is for a CUDA device, this is {device.type}; leave it out")
        self.numbers, self.dev = index.held_out(self.options.valid, self.options.seed)
        self.frames = np.frombuffer(index.frames, dtype=np.int64)
        self.dataset = Spectrograms(index, config.spectrogram)
        self.audio = index.signature()
        seed_everything(self.options.seed)
        self.model = RecurrentAutoencoder(config.spectrogram.num_mels, config.model).to(device)
        share_weights([self.model])
        seed_everything(self.options.seed + SEEDS_APART * rank())  # each process draws its own dropout masks
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.options.lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.options.precision == "fp16")
        self.step = self.epoch = self.batch = 0
        self.losses: list[float] = []  # since the last log line
        self.last: dict[str, float] = {}
        self.unread: dict[int, tuple[str, str]] = {}  # segment -> why it could not be read, and the message
        self.faulty: dict[str, tuple[str, ...]] = {}  # file that was read -> kinds of its faults
        self.warned: set[str] = set()  # of them
        self.seconds = 0.0  # of audio, in this run and process
        self.generators: list[Any] | None = None
        self.ends = False  # whether a signal, of any process, asks to end after this step
        self.unevaluated = False  # whether a signal ended the run before the evaluation that was due
        path = out / CHECKPOINT
        if path.exists():
            self._resume(path)
        self.total = self.options.steps or self.options.epochs * self._batches_an_epoch()

    def run(self) -> Outcome:
        """Train to the last step.

        Raises:
            TrainingError: a loss or gradient is not finite, or the GPU's memory does not suffice
            AudioError: nothing could be read in an epoch
        """
        if self.generators is not None:
            with restoring(f"{self.out / CHECKPOINT}: its Rng does not fit this pretraining"):
                restore_rng(self.generators[rank()])
        self.begun, self.resumed_at = time.perf_counter(), self.step
        counts = {"total": self.total, "initial": self.step}
        with progress(name="pretrain-rae", unit="steps", **counts, hidden=rank() > 0) as self.bar:
            try:
                with ending.deferred():
                    self._train()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(
                    f"out of memory at step {self.step + 1}; lower --batch_size or --max_seconds"
                ) from error
        return self._outcome()

    def _train(self) -> None:
        unfinished = self.unevaluated
        try:
            if self.unevaluated and self.step < self.total:
                self._evaluate()
            while self.step < self.total:
                self._run_epoch()
            if self.step > self.resumed_at or unfinished:
                self._finish()
                self._say_faults()
        except _AbandonedError:
            self._end()

    def _end(self) -> None:
        """Save the state after a whole step, alike in all processes, and end the run.

        Raises:
            Ended: always
        """
        if not self.step:
            ending.end("no step was complete; start the same command again")
        self._save()
        ending.end(f"the same command goes on from step {self.step} ({self.out / CHECKPOINT})")

    def _run_epoch(self) -> None:
        order = BatchOrder(
            self.numbers,
            self.frames,
            self.options.batch_size,
            self.options.seed,
            self.epoch,
            rank(),
            world(),
            self.batch,
        )
        before, ahead = self.step, len(order)
        for batch in batches(self.dataset, order, self.num_workers) if ahead else ():
            self.batch += 1
            self._note(batch)
            self.seconds += batch.seconds
            if self._update(batch):
                self._after_update()
            if self.step >= self.total:
                return
        if ahead == self._batches_an_epoch() and self.step == before:
            raise AudioError(f"--audio: nothing of it could be read{self._an_example()}")
        self.epoch, self.batch = self.epoch + 1, 0
        self._say_faults()

    def _update(self, batch: Batch) -> bool:
        """Make a step; return false where no process could read anything of the batch."""
        self.model.train()
        whole = gather_rows(self._errors(batch).unsqueeze(0)).sum(dim=0)
        if not whole[1]:
            return False
        loss = root_mean(whole)
        value = loss.item()
        if loss.requires_grad:  # false where this process has nothing of the batch
            self.scaler.scale(loss).backward()
        self.ends = sum_gradients(self.model.parameters(), asks=ending.is_asked())
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), float("inf"))
        if not np.isfinite(value) or not (self.scaler.is_enabled() or torch.isfinite(norm)):
            raise TrainingError(
                f"step {self.step + 1}: loss {value}, gradient norm {norm.item()}; lower training.lr; "
                f"the last checkpoint in {self.out} is intact"
            )
        torch.nn.utils.clip_grad_value_(self.model.parameters(), self.options.gradient_clip)
        self.scaler.step(self.optimizer)  # skips the step where half precision overflowed
        self.scaler.update()
        self.optimizer.zero_grad()
        self.losses.append(value)
        self.step += 1
        return True

    def _errors(self, batch: Batch) -> Tensor:
        if not len(batch):
            return torch.zeros(2, device=self.device)
        features, lengths = batch.features.to(self.device), batch.lengths.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.scaler.is_enabled()):
            reconstruction = self.model(features, lengths)
        return squared_error(features, reconstruction, lengths)

    def _after_update(self) -> None:
        """Log, evaluate and save at the steps for it."""
        self.bar.update(1)
        if self.step % self.options.log_step == 0:
            self._log_loss()
        elif self.step - self.resumed_at == EARLY:
            self._report(float(np.mean(self.losses)))
        if self.step >= self.total:
            return  # _finish evaluates and saves
        if self.step % self.options.eval_step == 0:
            self.unevaluated = True
            self._evaluate()
        if self.ends or (world() == 1 and ending.is_asked()):
            self._end()
        if self.step % self.options.save_step == 0:
            self._save()

    def _finish(self) -> None:
        self.unevaluated = True
        if self.losses:
            self._log_loss()
        self._evaluate()
        self._save()

    def _log_loss(self) -> None:
        self.last["loss"], self.losses = float(np.mean(self.losses)), []
        self._report(self.last["loss"])
        self._log({"loss": self.last["loss"]})

    def _report(self, loss: float) -> None:
        elapsed, hours = time.perf_counter() - self.begun, sum(everyones(self.seconds)) / 3600
        to_go = elapsed / max(1, self.step - self.resumed_at) * (self.total - self.step) / 3600
        if rank() == 0:
            logger.info(
                "step %d of %d: loss %.4f, %.0f h of audio an hour, %.2f h to go",
                *(self.step, self.total, loss, hours / elapsed * 3600, to_go),
            )

    def _log(self, values: dict[str, float]) -> None:
        if rank() == 0:
            log.append(self.out, self.step, self.epoch, values)

    def _evaluate(self) -> None:
        """Log the loss on the held-out audio.

        Raises:
            _AbandonedError: a signal asks to end
        """
        if self.ends:
            raise _AbandonedError
        if not len(self.dev):
            self.unevaluated = False
            return
        ordered = self.dev[np.argsort(self.frames[self.dev], kind="stable")]
        parts = [ordered[at : at + self.options.batch_size] for at in range(0, len(ordered), self.options.batch_size)]
        mine = [part.tolist() for part in parts[rank() :: world()]]
        losses = held_out_loss(self.model, self._dev_batches(mine), self.config.spectrogram.num_mels)
        if losses is None:
            raise AudioError(f"--valid: nothing of the held-out audio could be read{self._an_example()}")
        self.last |= {"dev_loss": losses[0], "dev_mean_loss": losses[1]}
        if rank() == 0:
            logger.info("step %d: dev loss %.4f (%.4f from each band's mean)", self.step, *losses)
        self._log({"dev_loss": losses[0], "dev_mean_loss": losses[1]})
        self.unevaluated = False

    def _dev_batches(self, numbers: list[list[int]]) -> Iterator[Batch]:
        for batch in batches(self.dataset, numbers, self.num_workers) if numbers else ():
            if world() == 1 and ending.is_asked():  # several processes evaluate to the end, for they wait for another
                raise _AbandonedError
            self._note(batch)
            yield batch

    def _note(self, batch: Batch) -> None:
        """Note the segments that could not be read, each once, and the faulty files."""
        for number, reason, message in batch.skipped:
            if number not in self.unread:
                logger.warning("skipped: %s", message)
            self.unread[number] = (reason, message)
        for number, kinds in batch.faulty:
            self.faulty[self.index.name(number)] = kinds

    def _say_faults(self) -> None:
        """Warn of the faulty files of all processes by count, of each file once."""
        found = {name: kinds for part in everyones(self.faulty) for name, kinds in part.items()}
        if rank() == 0:
            counts = FaultCounts()
            for name in found.keys() - self.warned:
                counts.add(name, found[name])
            counts.say("pretrain-rae", len(self.index.ends))
            self.warned |= found.keys()

    def _an_example(self) -> str:
        """Return the first message about unreadable audio, for the end of an error."""
        return f": {next(iter(self.unread.values()))[1]}" if self.unread else ""

    def _save(self) -> None:
        generators, unread = everyones(rng_state()), everyones(self.unread)
        if rank():
            return
        state = {
            "Rae": self.config.dump(),
            "Model": self.model.state_dict(),
            "Optimizer": self.optimizer.state_dict(),
            "Scaler": self.scaler.state_dict(),
            "Step": self.step,
            "Epoch": self.epoch,
            "Batch": self.batch,
            "Losses": self.losses,
            "Last": self.last,
            "Rng": generators,
            "Unread": unread,
            "Unevaluated": self.unevaluated,
            "WorldSize": world(),
            "Audio": self.audio,
            "Versions": versions(),
        }
        save_checkpoint(state, self.out / CHECKPOINT, remedy="free room on the disk and start the same command again")

    def _resume(self, path: Path) -> None:
        state = read_state(path)
        with restoring(f"{path}: does not fit this pretraining"):
            check_resumable(path, state, self.config, self.audio, world())
            load_weights(self.model, state["Model"], str(path), "Model")
            load_weights(self.optimizer, state["Optimizer"], str(path), "Optimizer")
            self.scaler.load_state_dict(state["Scaler"])
            self.step, self.epoch, self.batch = state["Step"], state["Epoch"], state["Batch"]
            self.losses, self.last, self.generators = list(state["Losses"]), dict(state["Last"]), state["Rng"]
            self.unread = dict(state["Unread"][rank()])
            self.unevaluated = state.get("Unevaluated", False)
        if rank() == 0:
            logger.info("%s: resuming from step %d", path, self.step)
            log.cut_after(self.out, self.step)

    def _batches_an_epoch(self) -> int:
        return batches_of(len(self.numbers), self.options.batch_size * world())

    def _outcome(self) -> Outcome:
        elapsed = time.perf_counter() - self.begun
        unread = {number: reason for part in everyones(self.unread) for number, (reason, _) in part.items()}
        skipped = self.index.skipped + Counter(unread.values())
        hours = sum(everyones(self.seconds)) / 3600
        loss, dev, guess = (self.last.get(key) for key in ("loss", "dev_loss", "dev_mean_loss"))
        return Outcome(self.step, loss, dev, guess, hours, elapsed, skipped)
