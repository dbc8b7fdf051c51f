"""Running a plan: what is finished is skipped, what fails is reported, and the others go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from s3prl_emotion.benchmark.execution import execute
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.benchmark.prepare import Preparation, write_json
from s3prl_emotion.benchmark.processes import Processes
from s3prl_emotion.benchmark.results_file import NAME, ResultsFile, locked, read_results
from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.results import write_text

logger = logging.getLogger(__name__)
ABOUT = "matrix.json"  # what a report needs to know of the matrix
DEFINITIONS = "matrix.yaml"  # a copy of what was run


@dataclass
class Summary:
    """What a benchmark did; ``failed`` maps a run to its error."""

    finished: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_matrix(plan: Plan, jobs: int = 1, device: str | None = None) -> Summary:
    """Run what is not finished.

    Args:
        plan: the matrix, expanded
        jobs: runs at a time
        device: ``--device`` of the runs

    Returns:
        what was finished, skipped, and failed

    Raises:
        UsageError: ``jobs`` out of range, or another benchmark works in the directory
        ConfigError: the matrix holds a run that cannot work
        TrainingError: the directory cannot be written
    """
    from s3prl_emotion.benchmark.checks import check_plan

    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be 1 or more")
    check_plan(plan)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{plan.out}: cannot be made ({error.strerror}); name another folder") from error
    with locked(plan.out / ".lock", f"{plan.out}: another benchmark is at work there"):
        _write_about(plan)
        done = read_results(plan.out / NAME)
        summary = Summary(skipped=[run.cell.id for run in plan.runs if is_finished(run, done)])
        waiting = [run for run in plan.runs if not is_finished(run, done)]
        if summary.skipped:
            logger.info("%d of %d runs are finished already", len(summary.skipped), len(plan.runs))
        _work(plan, waiting, jobs, device, summary)
    return summary


def is_finished(run: Run, done: dict[str, dict[str, Any]]) -> bool:
    """Whether ``results.jsonl`` holds the run, as it is defined now, with all splits."""
    line = done.get(run.cell.id)
    return line is not None and line.get("definition") == run.definition and set(run.tests) <= set(line["splits"])


def _work(plan: Plan, waiting: list[Run], jobs: int, device: str | None, summary: Summary) -> None:
    processes = Processes(max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None)
    preparation, results = Preparation(processes), ResultsFile(plan.out)
    with _progress(len(waiting)) as (progress, overall), ThreadPoolExecutor(jobs) as pool:

        def work(run: Run) -> dict[str, Any]:
            task = progress.add_task(run.cell.id, total=None)
            try:
                return execute(
                    run, processes, preparation, device,
                    lambda doing: progress.update(task, description=f"{run.cell.id}: {doing}"),
                )  # fmt: skip
            finally:
                progress.remove_task(task)

        futures: dict[Future[dict[str, Any]], Run] = {pool.submit(work, run): run for run in waiting}
        pending = set(futures)
        try:
            while pending:
                ended, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in (one for one in futures if one in ended):  # those that end at once, in their order
                    _take(futures[future], future, results, summary)
                    progress.advance(overall)
        except BaseException:  # Ctrl-C, a full disk: no run is left behind
            for future in pending:
                future.cancel()
            processes.stop()
            raise


def _take(run: Run, future: Future[dict[str, Any]], results: ResultsFile, summary: Summary) -> None:
    try:
        line = future.result()
    except (TrainingError, OSError) as error:
        summary.failed[run.cell.id] = " ".join(str(error).split())
        logger.error("failed: %s: %s", run.cell.id, summary.failed[run.cell.id])
        return
    results.append(line)
    summary.finished.append(run.cell.id)
    logger.info("finished: %s (%.0f s)", run.cell.id, sum(line["seconds"].values()))


@contextmanager
def _progress(total: int) -> Iterator[tuple[Progress, Any]]:
    """A line for all runs and one for each at work, on a terminal; nothing elsewhere, where the log says it."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress, progress.add_task("runs", total=total)


def _write_about(plan: Plan) -> None:
    """Leave the matrix for the report, and the upstreams' options for the runs."""
    matrix = plan.matrix
    write_text(plan.out / DEFINITIONS, matrix.path.read_text(encoding="utf-8"))
    for path, options in plan.model_options.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    about = {
        "title": matrix.section.title,
        "notes": matrix.section.notes,
        "head": matrix.section.head,
        "baseline": matrix.baseline,
        "upstreams": list(matrix.upstreams),
        "systems": {name: system.overrides for name, system in matrix.systems.items()},
        "tests": matrix.section.tests,
        "published": [vars(number) for number in matrix.published],
        "runs": [
            {"run": run.cell.id, "definition": run.definition, "folder": str(run.folder.relative_to(plan.out))}
            for run in plan.runs
        ],
    }
    write_json(plan.out / ABOUT, about)
