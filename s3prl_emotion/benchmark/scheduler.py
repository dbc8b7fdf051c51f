"""Running a plan: what is finished is skipped, what fails is tried again and reported, and the others go on."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from s3prl_emotion.benchmark import search
from s3prl_emotion.benchmark.about import ABOUT, write_about
from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.executors import Executor
from s3prl_emotion.benchmark.live import Board, shown
from s3prl_emotion.benchmark.plan import Choice, Plan, Run
from s3prl_emotion.benchmark.prepare import FailedStepError
from s3prl_emotion.benchmark.processes import FullDiskError, InterruptedRunError, is_full_disk
from s3prl_emotion.benchmark.results_file import ResultsFile, read_results
from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.files.locks import locked

logger = logging.getLogger(__name__)
__all__ = ["ABOUT", "Execution", "Summary", "is_finished", "is_given_up", "run_matrix"]
RETRIES = 1
WAIT_SECONDS = 0.5


@dataclass
class Summary:
    """What a benchmark did.

    Attributes:
        finished: runs, in the order in which they ended
        skipped: runs that were finished before
        failed: runs with their errors
        given_up: runs that failed too often before and were not tried again, with their errors
        choices: of the search, by what they are for
    """

    finished: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)


@dataclass(frozen=True)
class Execution:
    """How a plan is executed.

    Attributes:
        executor: ``local`` or ``ray``
        jobs: runs at a time; ``None``: 1 here, as many as there are resources for by Ray
        device: ``--device`` of the runs
        ray_address: of a cluster, ``None`` for one of its own
        retries: how often a run that failed is tried again
        retry_failed: whether those are tried again that failed too often before
    """

    executor: str = "local"
    jobs: int | None = None
    device: str | None = None
    ray_address: str | None = None
    retries: int = RETRIES
    retry_failed: bool = False


def run_matrix(plan: Plan, jobs: int | None = None, device: str | None = None, **options: Any) -> Summary:
    """Run what is not finished.

    Args:
        plan: the matrix, expanded
        jobs: runs at a time
        device: ``--device`` of the runs
        options: the rest of :class:`Execution`

    Raises:
        UsageError: an option is out of range, or another benchmark works in the directory
        ConfigError: the matrix holds a run that cannot work
        TrainingError: the directory cannot be written, the disk is full, or Ray is gone
    """
    from s3prl_emotion.benchmark.checks import check_plan

    how = Execution(jobs=jobs, device=device, **options)
    _check(how)
    check_plan(plan)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{plan.out}: cannot be made ({error.strerror}); name another folder") from error
    with locked(plan.out / ".lock", f"{plan.out}: another benchmark is at work there"):
        write_about(plan)
        session = uuid.uuid4().hex
        with _executor(plan, session, how) as executor:
            return _Work(plan, executor, session, how).run()


def is_finished(run: Run, done: dict[str, dict[str, Any]]) -> bool:
    """Whether ``results.jsonl`` holds the run, as it is defined now, with all splits and the rate that was chosen."""
    line = done.get(run.cell.id)
    if line is None or line.get("definition") != run.definition or not set(run.tests) <= set(line["splits"]):
        return False
    return run.choice is None or (line.get("search") or {}).get("rate") == run.choice.rate


def is_given_up(run: Run, retries: int) -> str | None:
    """The error of a run that has failed too often to be tried again, else ``None``."""
    state = State.of(run)
    return state.error or "" if state is not None and state.failures > retries else None


def _check(how: Execution) -> None:
    if how.jobs is not None and how.jobs < 1:
        raise UsageError(f"--jobs {how.jobs}: must be 1 or more")
    if how.retries < 0:
        raise UsageError(f"--retries {how.retries}: must be 0 or more")
    if how.ray_address is not None and how.executor != "ray":
        raise UsageError("--ray-address: goes with --executor ray")


def _executor(plan: Plan, session: str, how: Execution) -> Executor:
    if how.executor == "ray":
        from s3prl_emotion.benchmark.executors.ray_cluster import RayExecutor

        return RayExecutor(plan, session, how.device, how.ray_address, how.jobs)
    from s3prl_emotion.benchmark.executors.local import LocalExecutor

    return LocalExecutor(how.jobs or 1, session, how.device)


class _Work:
    """The loop over what is to be done; it alone writes results."""

    def __init__(self, plan: Plan, executor: Executor, session: str, how: Execution) -> None:
        self.plan, self.executor, self.how = plan, executor, how
        self.summary = Summary()
        self.results, self.found = ResultsFile(plan.out), ResultsFile(plan.out, search.NAME)
        self.lines = read_results(self.found.path)
        self.lost: dict[str, str] = {}  # runs of the search without a line: failed for good, or not finished
        self.open: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.queue: list[Run] = []
        self.board = Board(session, self.queue)
        self.futures: dict[Future[dict[str, Any]], Run] = {}

    def run(self) -> Summary:
        """Do it all."""
        done = read_results(self.results.path)
        for trial in self.plan.trials:
            if not is_finished(trial, self.lines):
                self.lines.pop(trial.cell.id, None)
                self._enqueue(trial)
        for run in self.plan.runs:
            if self._is_finished(run, done):
                self.summary.skipped.append(run.cell.id)
                self.board.finished += 1
            else:
                self._enqueue(run)
        if self.summary.skipped:
            logger.info("%d of %d runs are finished already", len(self.summary.skipped), len(self.plan.runs))
        with shown(self.board):
            while self.queue or self.futures:
                self._fill()
                self._wait()
        self._keep_choices()
        return self.summary

    def _is_finished(self, run: Run, done: dict[str, dict[str, Any]]) -> bool:
        try:
            decided = self._decided(run)
        except TrainingError:  # no rate could be trained: it is told when the run's turn comes
            return False
        return decided is not None and is_finished(decided, done)

    def _enqueue(self, run: Run) -> None:
        """Put a run that is not finished where it belongs."""
        error = is_given_up(run, self.how.retries)
        if error is not None and self.how.retry_failed:
            state = State.of(run)
            if state is not None:
                state.failures = 0
                state.keep(run)
        elif error is not None:
            self.lost[run.cell.id] = error
            self.summary.given_up[run.cell.id] = error
            self.board.failed += 1
            return
        self.queue.append(run)

    def _fill(self) -> None:
        """Submit what can be begun, as far as there is room."""
        for run in list(self.queue):
            if self.executor.slots is not None and len(self.futures) >= self.executor.slots:
                return
            if not self._is_ready(run):
                continue
            self.queue.remove(run)
            try:
                decided = self._decided(run)
            except TrainingError as error:
                self._fail(run, str(error))
                continue
            self.futures[self.executor.submit(decided or run)] = decided or run
            self.board.submit(decided or run)

    def _is_ready(self, run: Run) -> bool:
        """Whether the search for a run's learning rate has ended."""
        return all(
            trial.cell.id in self.lines or trial.cell.id in self.lost or trial.cell.id in self.open
            for trial in run.trials
        )

    def _decided(self, run: Run) -> Run | None:
        """The run with the learning rate that was searched for; ``None`` where the search has not ended.

        Raises:
            TrainingError: no rate could be trained, or the search was interrupted
        """
        if not run.trials:
            return run
        if not self._is_ready(run):
            return None
        for trial in run.trials:
            if trial.cell.id in self.open:
                raise TrainingError(f"the search for its learning rate is not finished: {trial.cell.id}")
        section = self.plan.matrix.section.search
        metric = search.metric_of(run.trials[0], section.metric if section else None)
        choice = search.choose(run.trials, self.lines, metric)
        cell = run.trials[0].cell
        per_system = section is not None and "system" in section.per
        self.summary.choices[f"{cell.upstream} | {cell.system}" if per_system else cell.upstream] = choice
        return run.decided(choice)

    def _wait(self) -> None:
        """Take what has ended; look after the others meanwhile."""
        ended, _ = wait(self.futures, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        self.board.poll()
        for future in [one for one in self.futures if one in ended]:  # those that end at once, in their order
            self._take(self.futures.pop(future), future)
        if not ended:
            self.executor.check()

    def _take(self, run: Run, future: Future[dict[str, Any]]) -> None:
        try:
            line = future.result()
        except (TrainingError, OSError) as error:
            self.board.end(run)
            if isinstance(error, FullDiskError) or is_full_disk(error):
                raise TrainingError(f"{run.cell.id}: {error}; free room, then the same command goes on") from error
            self._failed(run, error)
            return
        seconds = sum(line["seconds"].values())
        self.board.end(run, seconds)
        if run.cell.rate is None:
            self.results.append(line)
            self.summary.finished.append(run.cell.id)
            self.board.finished += 1
        else:
            self.found.append(line)
            self.lines[run.cell.id] = line
        logger.info("finished: %s (%.0f s)", run.cell.id, seconds)

    def _failed(self, run: Run, error: Exception) -> None:
        """Try again later, or report."""
        said = " ".join(str(error).split())
        self.tries[run.cell.id] += 1
        state = State.of(run)
        interrupted = isinstance(error, InterruptedRunError)
        if interrupted:
            self.executor.check()
        tries = self.tries[run.cell.id]
        if state is not None and not interrupted:
            tries = max(tries, state.failures)  # also those of earlier benchmarks
        if tries <= self.how.retries and not isinstance(error, FailedStepError):
            logger.warning("failed: %s: %s; %d of %d retries follows", run.cell.id, said, tries, self.how.retries)
            self.queue.append(run)
            return
        if run.cell.rate is not None:
            (self.open if interrupted or isinstance(error, FailedStepError) else self.lost)[run.cell.id] = said
        self._fail(run, said)

    def _fail(self, run: Run, said: str) -> None:
        self.summary.failed[run.cell.id] = said
        self.board.failed += 1
        logger.error("failed: %s: %s", run.cell.id, said)

    def _keep_choices(self) -> None:
        """Leave what the search found for the report."""
        if self.summary.choices:
            write_about(self.plan, self.summary.choices)
