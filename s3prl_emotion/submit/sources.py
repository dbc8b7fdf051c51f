"""Find the runs of a submission, one for each fold, in a benchmark or in experiment directories."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.execution import BEST
from s3prl_emotion.errors import LabelError, UsageError, nearest
from s3prl_emotion.metrics.stored import read_metrics
from s3prl_emotion.report.reading.study import RunResult, Study, load_study

SPLIT = "test"


@dataclass(frozen=True)
class Wanted:
    """System, upstream and seed to take from a benchmark; ``None`` where the benchmark has only one."""

    system: str | None = None
    upstream: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class FoldRun:
    """The run of one fold.

    Attributes:
        fold: fold in the names of its files
        predictions: path of ``test_{fold}_predictions.csv``
        metrics: content of ``test_{fold}_metrics.json``
        named: fold that ``--fold`` gives it, or ``None``
    """

    fold: str
    predictions: Path
    metrics: dict[str, Any]
    named: str | None = None

    @property
    def expdir(self) -> Path:
        """Experiment directory of the run."""
        return self.predictions.parent

    @property
    def config(self) -> dict[str, Any]:
        """Recipe of the run."""
        return self.metrics.get("config") or {}

    @property
    def data(self) -> dict[str, Any]:
        """Section ``datarc`` of the recipe."""
        return (self.config.get("downstream_expert") or {}).get("datarc") or {}


def find_runs(folders: Sequence[Path], named: Mapping[str, Path], wanted: Wanted) -> list[FoldRun]:
    """Find the runs of a benchmark's directory, or of experiment directories.

    Args:
        folders: a benchmark's directory, or experiment directories that hold one or more folds each
        named: experiment directories by fold
        wanted: system, upstream and seed to take from a benchmark

    Returns:
        the runs, in the order of the folders

    Raises:
        UsageError: a folder is neither or has no test predictions, or ``wanted`` leaves several runs of a fold
    """
    if bool(folders) == bool(named):
        raise UsageError("name a benchmark's directory, or experiment directories, or --fold FOLD=DIR for each fold")
    if named:
        _refuse_choice(wanted, "--fold")
        return [_named(fold, folder) for fold, folder in named.items()]
    study = load_study(folders)
    if study.upstreams == ("",):
        _refuse_choice(wanted, "experiment directories")
        return [_fold_run(run) for run in study.runs]
    return [_fold_run(run) for run in _chosen(study, wanted)]


def missing_runs(folders: Sequence[Path], wanted: Wanted) -> dict[str, str]:
    """Return the wanted runs of a benchmark that are not finished, each with the reason; none for experiments."""
    parts = {wanted.system, wanted.upstream, None if wanted.seed is None else f"seed {wanted.seed}"} - {None}
    missing = load_study(folders).missing if folders else {}
    return {name: reason for name, reason in missing.items() if parts <= set(name.split(" | "))}


def check_best(run: FoldRun) -> None:
    """Raise an error unless the predictions come from ``dev-best.ckpt``.

    Raises:
        UsageError: they do not; the message has the command that makes them
    """
    made_by = run.metrics.get("checkpoint")
    if made_by is not None and Path(str(made_by)).name == BEST:
        return
    source = "the current weights during training" if made_by is None else str(made_by)
    if not (run.expdir / BEST).is_file():
        raise UsageError(
            f"{run.predictions}: made by {source} (step {run.metrics.get('step')}), and {run.expdir} has no {BEST}; "
            "train until dev is evaluated (runner.eval_step)"
        )
    command = shlex.join(["run_downstream.py", "-m", "evaluate", "-e", str(run.expdir / BEST), "-t", SPLIT])
    raise UsageError(f"{run.predictions}: made by {source} (step {run.metrics.get('step')}), not by {BEST}; {command}")


def _named(fold: str, folder: Path) -> FoldRun:
    """Return the run in a folder; if the folder holds several folds, the one of this name."""
    runs = load_study([folder]).runs
    if any(run.upstream for run in runs):
        raise UsageError(f"--fold {fold}={folder}: is a benchmark's directory; name an experiment directory")
    runs = tuple(run for run in runs if run.fold == fold) or runs
    if len(runs) > 1:
        known = ", ".join(run.fold for run in runs)
        raise UsageError(f"--fold {fold}={folder}: holds {known}, but not {fold}; name another directory")
    return replace(_fold_run(runs[0]), named=fold)


def _chosen(study: Study, wanted: Wanted) -> Iterator[RunResult]:
    """Yield the runs of the system, upstream and seed to submit."""
    runs = list(study.runs)
    for name in ("system", "upstream", "seed"):
        value = getattr(wanted, name)
        known = list(dict.fromkeys(getattr(run, name) for run in runs))
        if value is None and len(known) > 1:
            names = ", ".join(shlex.quote(str(choice)) for choice in known)
            raise UsageError(f"{study.folder}: holds several; choose one with --{name}: {names}")
        if value is not None and value not in known:
            raise UsageError(f"{study.folder}: no finished run with --{name} {value}{nearest(value, known)}")
        runs = [run for run in runs if value is None or getattr(run, name) == value]
    yield from runs


def _refuse_choice(wanted: Wanted, instead: str) -> None:
    for name, value in vars(wanted).items():
        if value is not None:
            raise UsageError(f"--{name}: chooses from a benchmark's directory; leave it out with {instead}")


def _fold_run(run: RunResult) -> FoldRun:
    split = run.splits.get(SPLIT)
    if split is None:
        expdir = next(iter(run.splits.values())).predictions.parent
        raise UsageError(f"{expdir}: no {SPLIT}_{run.fold}_metrics.json; run_downstream.py -m evaluate writes it")
    path = split.beside("_metrics.json")
    try:
        metrics = read_metrics(path)  # a benchmark's results leave the recipe out
    except LabelError as error:
        raise UsageError(f"{path}: missing or damaged, so nothing says what made the predictions ({error})") from error
    return FoldRun(run.fold, split.predictions, metrics)
