"""Files judged in this process, or in several that have a model each; results come in order and are the same."""

from __future__ import annotations

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
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.predict.files import FileResult, Options, judge_files
from s3prl_emotion.predict.inputs import AudioFile
from s3prl_emotion.predict.predictor import About, Predictor, load

AHEAD = 2  # batches for each process that are given out before the first is back


@dataclass(frozen=True)
class Loading:
    """Arguments of :func:`~s3prl_emotion.predict.predictor.load`."""

    ckpt: str
    device: str | None = None
    upstream_ckpt: str | None = None
    upstream_model_config: str | None = None
    upstream_path: str | None = None

    def load(self) -> Predictor:
        """Load."""
        return load(**vars(self))


class Here:
    """Judges in this process."""

    def __init__(self, loading: Loading) -> None:
        with redirect_stdout(sys.stderr):  # upstreams may print, results go to the standard output
            self.predictor = loading.load()
        self.about = self.predictor.about

    def judge(self, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
        """Judge files, ``batch_size`` of them at a time."""
        for batch in _batches(files, options):
            with redirect_stdout(sys.stderr):
                results = list(judge_files(self.predictor, batch, options))
            yield from results


class Processes:
    """Judges in processes of its own, each with its own model: for many cores, or a GPU that one does not fill.

    Each takes ``batch_size`` files at a time. The cores are divided among them, unless ``OMP_NUM_THREADS`` says how
    many threads each has.
    """

    def __init__(self, loading: Loading, jobs: int) -> None:
        threads = None if "OMP_NUM_THREADS" in os.environ else max(1, len(os.sched_getaffinity(0)) // jobs)
        self.jobs = jobs
        self.pool = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(loading, threads)
        )
        self.about: About = self._result(self._submit(_about))

    def judge(self, files: Sequence[AudioFile], options: Options) -> Iterator[FileResult]:
        """Judge files, with a bounded number of batches given out."""
        out: deque[Future[list[FileResult]]] = deque()
        for batch in _batches(files, options):
            out.append(self._submit(_judge, batch, options))
            if len(out) >= AHEAD * self.jobs:
                yield from self._result(out.popleft())
        while out:
            yield from self._result(out.popleft())

    def _submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit with Ctrl-C held back, so that processes started here never see it: this one ends them."""
        resource_tracker.ensure_running()  # it is started with a mask of its own
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
def judging(loading: Loading, jobs: int) -> Iterator[Here | Processes]:
    """What judges files: in this process for one job, else in processes that end with the context.

    Raises:
        UsageError: ``jobs`` is below 1
        CheckpointError: as :func:`~s3prl_emotion.predict.predictor.load`
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be 1 or more")
    if jobs == 1:
        yield Here(loading)
        return
    others = set(multiprocessing.active_children())
    with ExitStack() as stack:
        stack.callback(_end, others)
        processes = Processes(loading, jobs)
        yield processes
        processes.pool.shutdown()


def _end(others: set[Any]) -> None:
    """End the processes that were not there before, whatever they are at."""
    for process in set(multiprocessing.active_children()) - others:
        process.terminate()
        process.join()


def _batches(files: Sequence[AudioFile], options: Options) -> Iterator[Sequence[AudioFile]]:
    for start in range(0, len(files), options.batch_size):
        yield files[start : start + options.batch_size]


def _died() -> UsageError:
    return UsageError("--jobs: a process died, most often for lack of memory, since each holds a model; take fewer")


# --- in the processes ------------------------------------------------------------------------------------------------


class _Own:
    """What a process keeps from one batch to the next."""

    loading: Loading
    predictor: Predictor | None = None

    @classmethod
    def get(cls) -> Predictor:
        """Load at the first call, so that an error reaches the caller."""
        if cls.predictor is None:
            cls.predictor = cls.loading.load()
        return cls.predictor


def _begin(loading: Loading, threads: int | None) -> None:
    import torch

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # results go to the standard output of the process that asked
    if threads is not None:
        torch.set_num_threads(threads)
    _Own.loading = loading


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nothing is left to be done, and nobody to give it to


def _about() -> About:
    return _Own.get().about


def _judge(files: Sequence[AudioFile], options: Options) -> list[FileResult]:
    return list(judge_files(_Own.get(), files, options))
