"""Train one model in several processes: ``torchrun --nproc_per_node N run_downstream.py …``.

Every process computes its share of a batch. Outputs are gathered before the loss, so that every process computes the
loss of the whole batch (also losses over batch statistics), and gradients are summed: they equal those of one process
with the same batch. ``DistributedDataParallel`` is not used: its buffers deadlock while a single process evaluates, and
it averages the losses of unequal shares.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from s3prl_emotion.errors import CheckpointError, TrainingError, UsageError

PATIENCE = timedelta(hours=12)  # the others wait while one process evaluates a stock task or downloads an upstream
STUCK = timedelta(hours=1)  # a wait for processes that all take part in the same step; a loader gives up before
POLL = 5.0  # s


def join(args: Namespace, given: Sequence[str]) -> None:
    """Set ``--local_rank``, the only flag that the host knows, from torchrun's environment.

    Args:
        args: of the command line; ``local_rank`` and ``backend`` are filled in
        given: destinations of the flags on the command line

    Raises:
        UsageError: more processes than GPUs, or a mode for a single process
    """
    if args.local_rank is None and dist.is_available() and dist.is_torchelastic_launched():
        args.local_rank = int(os.environ["LOCAL_RANK"])
    if args.local_rank is None:
        return
    if "RANK" not in os.environ:
        raise UsageError("--local_rank: is set by torchrun; start one process without torchrun")
    if args.mode == "inference":
        raise UsageError("-m inference: runs in one process; start it without torchrun")
    if torch.device(args.device).type == "cpu":
        if "backend" in given and args.backend == "nccl":
            raise UsageError("--backend nccl: needs GPUs; omit it for gloo on CPUs")
        args.backend = "gloo"
        return
    if torch.device(args.device).index is not None:
        raise UsageError(f"--device {args.device}: torchrun gives each process its own GPU; use --device cuda")
    wanted, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if wanted > gpus:
        raise UsageError(f"torchrun --nproc_per_node {wanted}: there are {gpus} GPUs; use that many, or --device cpu")


def is_first(args: Namespace) -> bool:
    """Return whether this process is the one of rank 0, which alone writes; also before the processes have joined."""
    return args.local_rank is None or int(os.environ.get("RANK", 0)) == 0


def check_world(state: dict[str, Any], path: Path, local_rank: int | None) -> None:
    """Check that a training resumes with as many processes as before, to which data order and generators belong.

    Raises:
        CheckpointError: another number of processes
    """
    before, now = state.get("WorldSize", 1), int(os.environ.get("WORLD_SIZE", 1)) if local_rank is not None else 1
    single = state["Args"].local_rank is None
    if before != now or single != (local_rank is None):
        how = "without torchrun" if single else f"by torchrun with {before} processes"
        raise CheckpointError(f"{path}: was trained {how}; resume it in the same way (this start has {now})")


def start(backend: str) -> None:
    """Join the other processes, once; replaces ``torch.distributed.init_process_group`` in the host's script."""
    if dist.is_initialized():  # already, to agree on the name of the run
        return
    dist.init_process_group(backend, timeout=PATIENCE)


def leave(code: int) -> None:
    """End this process, if it joined others, as soon as its exit hooks have run.

    Gloo's threads sometimes abort an ordinary exit (torch 2.4 to 2.11), upon which torchrun kills the other processes
    before they finish; and ``destroy_process_group`` sometimes never returns (torch 2.4).
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def set_device(index: int) -> None:
    """Select the process's own GPU, if there is one."""
    if index < torch.cuda.device_count():
        torch.cuda.set_device(index)


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


class _Watch:
    """Ends this process, upon which torchrun ends the others, when it waits too long for them."""

    def __init__(self) -> None:
        self.patience: timedelta | None = None
        self.waiting: tuple[float, timedelta, str] | None = None  # since when, how long at most, and for what
        self._thread: threading.Thread | None = None

    @contextmanager
    def during(self, what: str, patience: timedelta | None) -> Iterator[None]:
        """Watch the wait of the block; inside another such block, that one counts."""
        if self.waiting is not None or world() == 1:
            yield
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="waits", daemon=True)
            self._thread.start()
        self.waiting = time.monotonic(), patience or self.patience or STUCK, what
        try:
            yield
        finally:
            self.waiting = None

    def _run(self) -> None:
        while True:
            time.sleep(min(POLL, STUCK.total_seconds() / 4))
            waiting = self.waiting
            if waiting is None or time.monotonic() - waiting[0] < waiting[1].total_seconds():
                continue
            sys.stderr.write(
                f"{Path(sys.argv[0]).name}: error: rank {rank()} of {world()} has waited for {waiting[2]} of the other "
                f"ranks for {waiting[1]} h, so one of them is stuck; all are ended, and the same command (of a "
                "training: with -a) goes on from the last checkpoint\n"
            )
            sys.stderr.flush()
            os._exit(1)


_WATCH = _Watch()


def be_patient() -> None:
    """Wait for other processes up to :data:`PATIENCE` from now on: one of them evaluates alone."""
    _WATCH.patience = PATIENCE


@contextmanager
def in_touch(what: str = "results", patience: timedelta | None = None) -> Iterator[None]:
    """Turn the error of a collective into a message that another process ended; other errors pass through.

    A wait longer than an hour ends the process with one line, upon which torchrun ends the others.

    Args:
        what: what the other processes have to send
        patience: the longest wait, where it is not :data:`STUCK`

    Raises:
        TrainingError: another process ended
    """
    try:
        with _WATCH.during(what, patience):
            yield
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise TrainingError("another process of this training ended; its own message says why") from error


@in_touch()
def everyones(value: Any) -> list[Any]:
    """Return the ``value`` of every process, in the order of ranks."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


@in_touch()
def leaders(value: Any) -> Any:
    """Return the ``value`` of the process of rank 0."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


@in_touch("outputs")
def gather_rows(rows: Tensor) -> Tensor:
    """Gather rows ``[B_r, ...]`` of every process as ``[B, ...]``; gradients flow to this process's own rows."""
    if world() == 1:
        return rows
    counts = everyones(len(rows))
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    own = rank()
    parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
    parts[own] = rows
    return torch.cat(parts)


@in_touch("gradients")
def sum_gradients(parameters: Iterable[nn.Parameter], scale: float = 1.0, asks: bool = False) -> bool:
    """Sum the gradients of all processes; a parameter that no process used has none.

    Args:
        parameters: of which gradients are summed
        scale: factor on the sum
        asks: a question of this process, such as whether to end after this step

    Returns:
        whether any process ``asks``: the same in all, without a collective of its own
    """
    if world() == 1:
        return asks
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=trained[0].device)
    gradients = [torch.zeros_like(item) if item.grad is None else item.grad for item in trained]
    asked = used.new_full((1,), float(asks))
    flat = torch.cat([asked, used, *(gradient.reshape(-1).float() for gradient in gradients)])
    dist.all_reduce(flat)
    asked, used, *summed = flat.split([1, len(used), *(gradient.numel() for gradient in gradients)])
    for parameter, gradient, count in zip(trained, summed, used.tolist(), strict=True):
        parameter.grad = (scale * gradient).view_as(parameter).to(parameter.dtype) if count else None
    return bool(asked.item())


@in_touch("weights")
def share_weights(models: Iterable[nn.Module]) -> None:
    """Give every process the weights and buffers of rank 0."""
    if world() == 1:
        return
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.data, src=0)
