"""Predict files in this process or in several, each with its own model; results and their order are the same."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, redirect_stdout
from multiprocessing import resource_tracker
from typing import Any

from s3prl_emotion.corpora.seen import NOT_KNOWN
from s3prl_emotion.errors import UsageError
from s3prl_emotion.predict.about import About
from s3prl_emotion.predict.arguments import ModelArguments
from s3prl_emotion.predict.files import FileResult, Options, predict_files
from s3prl_emotion.predict.inputs import AudioFile
from s3prl_emotion.predict.predictor import Predictor, load_predictor
from s3prl_emotion.processes.parent import end_with_parent

logger = logging.getLogger(__name__)
AHEAD = 2  # batches per process that are submitted before the first result is back


class ThisProcess:
    """Predicts in this process."""

    def __init__(self, arguments: Sequence[ModelArguments]) -> None:
        self.predictor = load_predictor(arguments, quiet=True)
        self.about = self.predictor.about

    def longest(self) -> float:
        """Return how many samples fit into the memory at once."""
        with redirect_stdout(sys.stderr):
            return self.predictor.longest()

    def predict(self, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
        """Predict files, ``batch_size`` of them at a time."""
        for batch in _batches(files, options):
            with redirect_stdout(sys.stderr):  # upstreams may print; standard output holds the results
                results = list(predict_files(self.predictor, batch, options))
            yield from results


class Processes:
    """Predicts in several processes, each with its own model: for many cores, or a GPU that one does not fill.

    Each process gets ``batch_size`` files at a time. They share the cores evenly, unless ``OMP_NUM_THREADS`` sets their
    number of threads.
    """

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self.pool, self.jobs = pool, jobs
        self.about: About = self._result(self._submit(_about))
        for name in self._result(self._submit(_of_unknown_training)):
            logger.warning("%s: %s", name, NOT_KNOWN)

    def longest(self) -> float:
        """Return how many samples fit into the share of a process in the memory at once."""
        return self._result(self._submit(_longest, self.jobs))

    def predict(self, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
        """Predict files, with a bounded number of batches submitted ahead."""
        submitted: deque[Future[list[FileResult]]] = deque()
        for batch in _batches(files, options):
            submitted.append(self._submit(_predict, batch, options))
            if len(submitted) >= AHEAD * self.jobs:
                yield from self._result(submitted.popleft())
        while submitted:
            yield from self._result(submitted.popleft())

    def _submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit with SIGINT blocked, so that a process started here never sees Ctrl-C; this process ends it."""
        resource_tracker.ensure_running()  # starts it before SIGINT is blocked
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self.pool.submit(function, *args)
        except BrokenProcessPool as error:
            raise _died() from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _died() from error


@contextmanager
def workers(arguments: Sequence[ModelArguments], jobs: int) -> Iterator[ThisProcess | Processes]:
    """Yield what predicts files: this process for one job, else several processes, which end with the context.

    Raises:
        UsageError: ``jobs`` is below 1
        CheckpointError: as :func:`s3prl_emotion.load`
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be 1 or more")
    if jobs == 1:
        yield ThisProcess(arguments)
        return
    others = set(multiprocessing.active_children())
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, len(os.sched_getaffinity(0)) // jobs)
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(arguments, threads)
    )
    with ExitStack() as stack:
        stack.callback(pool.shutdown, cancel_futures=True)  # else Python's exit may write to its thread's closed pipe
        stack.callback(_end, others)
        yield Processes(pool, jobs)
        pool.shutdown()


def _end(others: set[Any]) -> None:
    """End the processes that were started since, whatever they are doing."""
    for process in set(multiprocessing.active_children()) - others:
        process.terminate()
        process.join()


def _batches(files: Sequence[AudioFile], options: Options) -> Iterator[Sequence[AudioFile]]:
    for start in range(0, len(files), options.batch_size):
        yield files[start : start + options.batch_size]


def _died() -> UsageError:
    return UsageError("--jobs: a process died, most often for lack of memory, since each holds a model; use fewer")


# --- in the processes ------------------------------------------------------------------------------------------------


class _Worker:
    """The state of a process: it keeps its model from one batch to the next."""

    arguments: Sequence[ModelArguments]
    predictor: Predictor | None = None

    @classmethod
    def get(cls) -> Predictor:
        """Return the model; the first call loads it, so that an error reaches the caller."""
        if cls.predictor is None:
            cls.predictor = load_predictor(cls.arguments, quiet=True)
        return cls.predictor


def _begin(arguments: Sequence[ModelArguments], threads: int | None) -> None:
    import torch

    end_with_parent(os.getppid())
    threading.Thread(target=_leave_with_parent, daemon=True).start()  # where the kernel cannot
    sys.stdout = sys.stderr  # only the main process writes to standard output
    if threads is not None:
        torch.set_num_threads(threads)
    _Worker.arguments = arguments


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to receive results


def _about() -> About:
    return _Worker.get().about


def _of_unknown_training() -> tuple[str, ...]:
    return _Worker.get().of_unknown_training


def _longest(jobs: int) -> float:
    return _Worker.get().longest(jobs)


def _predict(files: Sequence[AudioFile], options: Options) -> list[FileResult]:
    return list(predict_files(_Worker.get(), files, options))
