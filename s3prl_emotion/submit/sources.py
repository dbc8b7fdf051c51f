"""Which runs a submission is made of: one for each fold, from a benchmark or from experiment directories."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.execution import BEST
from s3prl_emotion.benchmark.records import read_json
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.report.reading.study import RunResult, Study, load_study

SPLIT = "test"


@dataclass(frozen=True)
class Wanted:
    """What to take of a benchmark that ran several; ``None``: there is but one."""

    system: str | None = None
    upstream: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class FoldRun:
    """The run of one fold.

    Attributes:
        fold: as its files name it
        predictions: ``test_{fold}_predictions.csv``
        metrics: all that ``test_{fold}_metrics.json`` holds
        asked: for which fold it was named, where it was
    """

    fold: str
    predictions: Path
    metrics: dict[str, Any]
    asked: str | None = None

    @property
    def expdir(self) -> Path:
        """The experiment directory."""
        return self.predictions.parent

    @property
    def config(self) -> dict[str, Any]:
        """The recipe."""
        return self.metrics.get("config") or {}

    @property
    def data(self) -> dict[str, Any]:
        """Its section about the corpus."""
        return (self.config.get("downstream_expert") or {}).get("datarc") or {}


def find_runs(folders: Sequence[Path], named: Mapping[str, Path], wanted: Wanted) -> list[FoldRun]:
    """Runs of a benchmark's directory, or of experiment directories.

    Args:
        folders: a benchmark's directory, or experiment directories that hold one or more folds each
        named: experiment directories by the fold that each is to stand for
        wanted: what to take of a benchmark

    Returns:
        the runs, in the order of the folders

    Raises:
        UsageError: a folder is neither, has no test predictions, or it is not said which of several runs to take
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
    """Runs of a benchmark that are wanted and not finished, each with the reason; none of experiment directories."""
    parts = {wanted.system, wanted.upstream, None if wanted.seed is None else f"seed {wanted.seed}"} - {None}
    missing = load_study(folders).missing if folders else {}
    return {name: reason for name, reason in missing.items() if parts <= set(name.split(" | "))}


def check_best(run: FoldRun) -> None:
    """Refuse predictions that do not come from ``dev-best.ckpt``.

    Raises:
        UsageError: says where they come from, and how to get the right ones
    """
    made_by = run.metrics.get("checkpoint")
    if made_by is not None and Path(str(made_by)).name == BEST:
        return
    source = "the weights of the moment, in training" if made_by is None else str(made_by)
    if not (run.expdir / BEST).is_file():
        raise UsageError(
            f"{run.predictions}: made by {source} (step {run.metrics.get('step')}), and {run.expdir} has no {BEST}; "
            "train until dev is evaluated (runner.eval_step)"
        )
    words = ["run_downstream.py", "-m", "evaluate", "-e", str(run.expdir / BEST), "-t", SPLIT]
    command = shlex.join([*words, "-o", f"args.expdir={str(run.expdir)!r}"])
    raise UsageError(f"{run.predictions}: made by {source} (step {run.metrics.get('step')}), not by {BEST}; {command}")


def _named(fold: str, folder: Path) -> FoldRun:
    """The run that a folder holds; where it holds several folds, the one of that name."""
    runs = load_study([folder]).runs
    if any(run.upstream for run in runs):
        raise UsageError(f"--fold {fold}={folder}: is a benchmark's directory; name an experiment directory")
    runs = tuple(run for run in runs if run.fold == fold) or runs
    if len(runs) > 1:
        raise UsageError(f"--fold {fold}={folder}: holds {', '.join(run.fold for run in runs)}, but not {fold}")
    return replace(_fold_run(runs[0]), asked=fold)


def _chosen(study: Study, wanted: Wanted) -> Iterator[RunResult]:
    """Runs of the one system, upstream and seed that are to be submitted."""
    runs = list(study.runs)
    for name in ("system", "upstream", "seed"):
        asked = getattr(wanted, name)
        there = list(dict.fromkeys(getattr(run, name) for run in runs))
        if asked is None and len(there) > 1:
            names = ", ".join(shlex.quote(str(value)) for value in there)
            raise UsageError(f"{study.folder}: holds several; choose one with --{name}: {names}")
        if asked is not None and asked not in there:
            raise UsageError(f"{study.folder}: no finished run with --{name} {asked}{nearest(asked, there)}")
        runs = [run for run in runs if asked is None or getattr(run, name) == asked]
    yield from runs


def _refuse_choice(wanted: Wanted, instead: str) -> None:
    for name, value in vars(wanted).items():
        if value is not None:
            raise UsageError(f"--{name}: chooses from a benchmark's directory, and does not go with {instead}")


def _fold_run(run: RunResult) -> FoldRun:
    split = run.splits.get(SPLIT)
    if split is None:
        some = next(iter(run.splits.values())).predictions.parent
        raise UsageError(f"{some}: no {SPLIT}_{run.fold}_metrics.json; run_downstream.py -m evaluate writes it")
    path = split.predictions.with_name(split.predictions.name.replace("_predictions.csv", "_metrics.json"))
    metrics = read_json(path)  # a benchmark's results leave the recipe out
    if not metrics:
        raise UsageError(f"{path}: is missing or damaged; without it nothing says what made the predictions")
    return FoldRun(run.fold, split.predictions, metrics)
