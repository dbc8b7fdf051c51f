"""Execute runs on this machine: a fixed number at a time, in processes that share the GPUs."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from s3prl_emotion.benchmark.execution import execute
from s3prl_emotion.benchmark.plan import Run
from s3prl_emotion.benchmark.processes import Processes

VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalExecutor:
    """A pool of threads that wait for the processes of runs.

    Args:
        jobs: runs at a time, which share the processor's cores
        session: id of the benchmark's session
        device: ``--device``; with cuda and several GPUs, a run sees the GPU with the fewest runs
        isolate: start each command in a fresh interpreter
        upstreams: of the runs, whose code is imported once for all
    """

    slots: int | None

    def __init__(
        self, jobs: int, session: str, device: str | None, isolate: bool = False, upstreams: Sequence[str] = ()
    ) -> None:
        self.slots, self.session, self.device = jobs, session, device
        threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
        self.processes = Processes(threads, isolate=isolate, upstreams=upstreams)
        self.gpus = _Turns(visible_gpus(device))
        self.pool = ThreadPoolExecutor(jobs)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # Ctrl-C or a full disk: leave no run behind
            self.processes.stop()
        self.pool.shutdown(cancel_futures=True)
        self.processes.close()

    def submit(self, run: Run) -> Future[dict[str, Any]]:
        """Execute a run."""
        return self.pool.submit(self._execute, run)

    def check(self) -> None:
        """Do nothing: a pool of threads cannot break."""

    def _execute(self, run: Run) -> dict[str, Any]:
        with self.gpus.next() as gpu:
            processes = self.processes if gpu is None else self.processes.variant(environment={VISIBLE: gpu})
            return execute(run, processes, self.session, self.device)


def visible_gpus(device: str | None) -> list[str]:
    """Return the GPUs to share among the runs, as ``CUDA_VISIBLE_DEVICES`` names them; empty with fewer than two.

    Args:
        device: ``--device``; ``cuda:1`` and ``cpu`` leave nothing to share
    """
    if device not in (None, "cuda"):
        return []
    named = os.environ.get(VISIBLE)
    if named is not None:
        names = [name.strip() for name in named.split(",") if name.strip()]
    else:
        import torch

        names = [str(number) for number in range(torch.cuda.device_count())]
    return names if len(names) > 1 else []


class _Turns:
    """Lends out names, always one of the least used."""

    def __init__(self, names: Sequence[str]) -> None:
        self.used = Counter(dict.fromkeys(names, 0))
        self.lock = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[str | None]:
        """Yield a name while the context is open; ``None`` if there are no names."""
        with self.lock:
            name = min(self.used, key=lambda one: self.used[one], default=None)
            if name is not None:
                self.used[name] += 1
        try:
            yield name
        finally:
            if name is not None:
                with self.lock:
                    self.used[name] -= 1
