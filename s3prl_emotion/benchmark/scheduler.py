"""Run a plan: skip finished runs, retry failed ones, and report the runs that failed for good."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from s3prl_emotion.benchmark import search
from s3prl_emotion.benchmark.execution import State, best_damage
from s3prl_emotion.benchmark.executors import Executor
from s3prl_emotion.benchmark.live import Board, shown
from s3prl_emotion.benchmark.plan import Choice, Plan, Run
from s3prl_emotion.benchmark.prepare import FailedStepError
from s3prl_emotion.benchmark.processes import FullDiskError, InterruptedRunError, is_full_disk
from s3prl_emotion.benchmark.records import SESSION, TRIALS, ResultsFile, read_results, write_about
from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.files.locks import locked
from s3prl_emotion.files.outputs import check_folder, new_folder

logger = logging.getLogger(__name__)
RETRIES = 1
WAIT_SECONDS = 0.5
NO_RUNS = (".lock", SESSION)  # what a benchmark leaves that could not start


@dataclass
class Summary:
    """The outcome of a benchmark.

    Attributes:
        finished: ids of the runs, in the order in which they ended
        skipped: ids of the runs that were finished before
        failed: error of each failed run
        given_up: error of each run that was not tried again because it had failed too often before
        choices: learning rates that the search chose, by upstream or by upstream and system
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
        jobs: runs at a time; ``None``: 1 on this machine; with Ray, as many as there are resources for
        device: ``--device`` of the runs
        ray_address: address of a cluster; ``None`` starts one
        retries: how often a failed run is tried again
        retry_failed: whether to try again the runs that had failed too often before, and finished ones whose best
            checkpoint is damaged
        isolate: start each of a run's commands in a fresh interpreter; else they are forked from a process that has
            imported what runs need
    """

    executor: str = "local"
    jobs: int | None = None
    device: str | None = None
    ray_address: str | None = None
    retries: int = RETRIES
    retry_failed: bool = False
    isolate: bool = False


def run_matrix(
    plan: Plan,
    jobs: int | None = None,
    device: str | None = None,
    before: Callable[[], None] | None = None,
    **options: Any,
) -> Summary:
    """Run all runs of a plan that are not finished.

    Args:
        plan: the expanded matrix
        jobs: runs at a time
        device: ``--device`` of the runs
        before: called once the matrix is checked and the directory locked, before the first run starts
        options: the other attributes of :class:`Execution`

    Raises:
        UsageError: an option is out of range, or another benchmark works in the directory
        ConfigError: the matrix holds a run that cannot work
        TrainingError: the directory cannot be written, the disk is full, or Ray has died
    """
    from s3prl_emotion.benchmark.checks import check_plan

    how = Execution(jobs=jobs, device=device, **options)
    _check(how)
    check_plan(plan)
    check_folder(plan.out)
    with (
        new_folder(plan.out, "--out ", notes=NO_RUNS),
        locked(plan.out / ".lock", f"{plan.out}: another benchmark is running there"),
    ):
        if before is not None:
            before()
        session = uuid.uuid4().hex
        with _executor(plan, session, how) as executor:
            write_about(plan)
            return _Work(plan, executor, session, how).run()


def is_finished(run: Run, done: dict[str, dict[str, Any]]) -> bool:
    """Return whether ``results.jsonl`` holds the run as it is defined now, with all splits and the chosen rate."""
    line = done.get(run.cell.id)
    if line is None or line.get("definition") != run.definition or not set(run.tests) <= set(line["splits"]):
        return False
    return run.choice is None or (line.get("search") or {}).get("rate") == run.choice.rate


def is_given_up(run: Run, retries: int) -> str | None:
    """Return the error of a run that has failed too often to be tried again, else ``None``."""
    state = State.of(run)
    return state.error or "" if state is not None and state.failures > retries else None


def _check(how: Execution) -> None:
    if how.jobs is not None and how.jobs < 1:
        raise UsageError(f"--jobs {how.jobs}: must be 1 or more")
    if how.retries < 0:
        raise UsageError(f"--retries {how.retries}: must be 0 or more")
    if how.ray_address is not None and how.executor != "ray":
        raise UsageError("--ray-address needs --executor ray")


def _executor(plan: Plan, session: str, how: Execution) -> Executor:
    if how.executor == "ray":
        from s3prl_emotion.benchmark.executors.ray_cluster import RayExecutor

        return RayExecutor(plan, session, how.device, how.ray_address, how.jobs, how.isolate)
    from s3prl_emotion.benchmark.executors.local import LocalExecutor

    upstreams = sorted(filter(None, {run.upstream_flag("-u") for run in plan.runs}))
    return LocalExecutor(how.jobs or 1, session, how.device, how.isolate, upstreams)


class _Work:
    """The loop over the runs to do; nothing else writes results."""

    def __init__(self, plan: Plan, executor: Executor, session: str, how: Execution) -> None:
        self.plan, self.executor, self.how = plan, executor, how
        self.summary = Summary()
        self.results, self.trials = ResultsFile(plan.out), ResultsFile(plan.out, TRIALS)
        for file in (self.results, self.trials):
            file.set_damaged_aside()
        self.lines = read_results(self.trials.path)  # finished trials of the search
        self.lost: dict[str, str] = {}  # errors of trials that failed for good
        self.unfinished: dict[str, str] = {}  # errors of trials that were interrupted or could not start
        self.tries: Counter[str] = Counter()
        self.queue: list[Run] = []
        self.board = Board(session, self.queue)
        self.futures: dict[Future[dict[str, Any]], Run] = {}

    def run(self) -> Summary:
        """Execute all runs that are not finished."""
        done = read_results(self.results.path)
        for trial in self.plan.trials:
            if not is_finished(trial, self.lines):
                self.lines.pop(trial.cell.id, None)
                self._enqueue(trial)
        for run in self.plan.runs:
            if self._is_finished(run, done) and not self._is_to_repeat(run):
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
        self._save_choices()
        return self.summary

    def _is_finished(self, run: Run, done: dict[str, dict[str, Any]]) -> bool:
        try:
            chosen = self._with_rate(run)
        except TrainingError:  # no rate could be trained; reported when the run is due
            return False
        return chosen is not None and is_finished(chosen, done)

    def _is_to_repeat(self, run: Run) -> bool:
        """Return whether a finished run failed after all: nothing can be evaluated from a damaged checkpoint."""
        return self.how.retry_failed and best_damage(self._with_rate(run) or run) is not None

    def _enqueue(self, run: Run) -> None:
        """Queue a run, or give it up if it has failed too often."""
        error = is_given_up(run, self.how.retries)
        if error is not None and self.how.retry_failed:
            state = State.of(run)
            if state is not None:
                state.failures = 0
                state.save(run)
        elif error is not None:
            self.lost[run.cell.id] = error
            self.summary.given_up[run.cell.id] = error
            self.board.failed += 1
            return
        self.queue.append(run)

    def _fill(self) -> None:
        """Submit the runs that are ready, as far as the executor has free slots."""
        for run in list(self.queue):
            if self.executor.slots is not None and len(self.futures) >= self.executor.slots:
                return
            if not self._is_ready(run):
                continue
            self.queue.remove(run)
            try:
                chosen = self._with_rate(run)
            except TrainingError as error:
                self._fail(run, str(error))
                continue
            self.futures[self.executor.submit(chosen or run)] = chosen or run
            self.board.submit(chosen or run)

    def _is_ready(self, run: Run) -> bool:
        """Return whether the search for a run's learning rate has ended."""
        return all(
            trial.cell.id in self.lines or trial.cell.id in self.lost or trial.cell.id in self.unfinished
            for trial in run.trials
        )

    def _with_rate(self, run: Run) -> Run | None:
        """Return the run with its searched learning rate; ``None`` while the search goes on.

        Raises:
            TrainingError: no rate could be trained, or the search was interrupted
        """
        if not run.trials:
            return run
        if not self._is_ready(run):
            return None
        for trial in run.trials:
            if trial.cell.id in self.unfinished:
                raise TrainingError(f"the search for its learning rate is not finished: {trial.cell.id}")
        section = self.plan.matrix.section.search
        metric = search.metric_of(run.trials[0], section.metric if section else None)
        choice = search.choose(run.trials, self.lines, metric)
        cell = run.trials[0].cell
        per_system = section is not None and "system" in section.per
        self.summary.choices[f"{cell.upstream} | {cell.system}" if per_system else cell.upstream] = choice
        return run.with_rate(choice)

    def _wait(self) -> None:
        """Collect runs that have ended; poll the others meanwhile."""
        ended, _ = wait(self.futures, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        self.board.poll()
        for future in [one for one in self.futures if one in ended]:  # in the order of submission
            self._collect(self.futures.pop(future), future)
        if not ended:
            self.executor.check()

    def _collect(self, run: Run, future: Future[dict[str, Any]]) -> None:
        try:
            line = future.result()
        except (TrainingError, OSError) as error:
            self.board.end(run)
            if isinstance(error, FullDiskError) or is_full_disk(error):
                raise TrainingError(
                    f"{run.cell.id}: {error}; free room, then start the same command again to resume"
                ) from error
            self._retry_or_report(run, error)
            return
        seconds = sum(line["seconds"].values())
        self.board.end(run, seconds)
        if run.cell.rate is None:
            self.results.append(line)
            self.summary.finished.append(run.cell.id)
            self.board.finished += 1
        else:
            self.trials.append(line)
            self.lines[run.cell.id] = line
        logger.info("finished: %s (%.0f s)", run.cell.id, seconds)

    def _retry_or_report(self, run: Run, error: Exception) -> None:
        """Queue a failed run again, or report it."""
        message = " ".join(str(error).split())
        self.tries[run.cell.id] += 1
        state = State.of(run)
        interrupted = isinstance(error, InterruptedRunError)
        if interrupted:
            self.executor.check()
        tries = self.tries[run.cell.id]
        if state is not None and not interrupted:
            tries = max(tries, state.failures)  # failures in earlier benchmarks count too
        if tries <= self.how.retries and not isinstance(error, FailedStepError):
            logger.warning("failed: %s: %s; retry %d of %d follows", run.cell.id, message, tries, self.how.retries)
            self.queue.append(run)
            return
        if run.cell.rate is not None:
            unfinished = interrupted or isinstance(error, FailedStepError)
            (self.unfinished if unfinished else self.lost)[run.cell.id] = message
        self._fail(run, message)

    def _fail(self, run: Run, message: str) -> None:
        self.summary.failed[run.cell.id] = message
        self.board.failed += 1
        logger.error("failed: %s: %s", run.cell.id, message)

    def _save_choices(self) -> None:
        """Write the learning rates that the search chose, for the report."""
        if self.summary.choices:
            write_about(self.plan, self.summary.choices)
