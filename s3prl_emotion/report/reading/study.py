"""Read the runs of a study, with their metrics and predictions, from a benchmark or from experiment directories."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.benchmark.records import (
    ABOUT,
    RESULTS,
    TRIALS,
    damage_warnings,
    finished_runs,
    read_about,
    read_json,
    read_lines,
)
from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.metrics.stored import read_metrics
from s3prl_emotion.report.reading.searches import Search, end_warning, read_searches
from s3prl_emotion.report.reading.without_dev import dev_warnings

logger = logging.getLogger(__name__)
RUN_KEYS = ("num_parameters", "model_size_mb", "git", "upstream_options", "head", "config_hash", "host")
NOT_TESTED = ("train", "dev")  # left out of a report unless there is no other split


@dataclass(frozen=True)
class SplitResult:
    """One split of a run: its metrics, and the path of its predictions."""

    metrics: dict[str, Any]
    predictions: Path

    def whole(self) -> Mapping[str, Any]:
        """Return the whole metrics file, of which a benchmark's results keep a part; empty if it cannot be read."""
        if "config" in self.metrics:
            return self.metrics
        kept = self.metrics if "per_speaker" in self.metrics else {}  # of older experiments
        try:
            return read_metrics(self.beside("_metrics.json"))
        except LabelError:  # the details of the report name it
            return kept

    @property
    def evaluated(self) -> list[str] | None:
        """The classes that are evaluated, where these may be fewer than the head learns; ``None``: all."""
        return self.metrics.get("evaluated_classes")

    def damage(self) -> str:
        """Return why the whole metrics file cannot be read, or an empty string."""
        try:
            read_metrics(self.beside("_metrics.json"))
        except LabelError as error:
            return str(error)
        return ""

    def beside(self, ending: str) -> Path:
        """Return the path of another file of the split: ``{split}_{fold}{ending}``."""
        return self.predictions.with_name(self.predictions.name.replace("_predictions.csv", ending))


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    upstream: str
    system: str
    fold: str
    seed: int | None
    splits: dict[str, SplitResult]
    num_parameters: int | None = None
    model_size_mb: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git: str | None = None
    upstream_options: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    head: str | None = None
    config_hash: str | None = None
    host: str | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        """Fold and seed, which two runs must share to be compared."""
        return self.fold, self.seed


@dataclass(frozen=True)
class Study:
    """The runs that a report is about, and how they belong together.

    Attributes:
        title: title of the report
        notes: text below the title
        folder: the benchmark's or experiment's directory, or ``None`` for several experiments
        baseline: system that the others are compared with, ``None`` for a single experiment
        upstreams: upstreams in display order; ``("",)`` for experiments, whose upstreams may differ
        systems: description of each system by name, in display order
        splits: test splits in display order
        runs: the finished runs
        published: published numbers that belong beside those of the runs
        missing: reason why a run is not finished, by the run's name
        warnings: warnings shown at the top of the report
        searches: learning-rate searches, whose runs are not among ``runs``
        overrides: the recipe keys that the matrix sets in each system; empty for experiments
        speaker_dependent: systems whose train and test share speakers, each with the same system where they do not
    """

    title: str
    notes: str | None
    folder: Path | None
    baseline: str | None
    upstreams: tuple[str, ...]
    systems: dict[str, str]
    splits: tuple[str, ...]
    runs: tuple[RunResult, ...]
    published: tuple[PublishedNumber, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    speaker_dependent: Mapping[str, str | None] = field(default_factory=dict)

    def baseline_of(self, system: str) -> str | None:
        """Return the system that another is compared with: the baseline, under the same protocol."""
        others = self.speaker_dependent
        if self.baseline is None or (system in others) == (self.baseline in others):
            return self.baseline
        if system in others:
            return next((name for name, plain in others.items() if plain == self.baseline), None)
        return others[self.baseline]

    def of(self, upstream: str, system: str, split: str) -> list[RunResult]:
        """Return the runs of a system on an upstream that have a split."""
        return [run for run in self.runs if (run.upstream, run.system) == (upstream, system) and split in run.splits]


def expert_section(config: Any) -> dict[str, Any]:
    """Return ``downstream_expert`` of a recipe as a metrics file has it, or an empty one where there is none."""
    section = config.get("downstream_expert") if isinstance(config, dict) else None
    return section if isinstance(section, dict) else {}


def load_study(folders: Sequence[Path]) -> Study:
    """Read a benchmark's directory, or one or more experiment directories.

    Raises:
        UsageError: a folder is neither, or a benchmark has no finished run
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
    benchmarks = [folder for folder in folders if (folder / RESULTS).is_file() or (folder / ABOUT).is_file()]
    if not benchmarks:
        return _of_experiments(list(folders))
    if len(folders) > 1:
        raise UsageError(
            f"{benchmarks[0]}: is a benchmark's directory; report on one benchmark, or on experiment directories"
        )
    return _of_benchmark(benchmarks[0])


def _of_benchmark(folder: Path) -> Study:
    about, warnings = read_about(folder), list[str]()
    lines, trials = _finished(folder / RESULTS, warnings), _finished(folder / TRIALS, warnings)
    wanted = {entry["run"]: entry for entry in about.get("runs") or ()} or {name: {} for name in lines}
    runs, missing, finished = [], {}, []
    for name, entry in wanted.items():
        line = lines.get(name)
        if line is not None and entry.get("definition") in (None, line.get("definition")):
            runs.append(_run_of(line, folder))
            finished.append(line)
        else:
            state = read_json(folder / entry.get("folder", "") / "state.json")
            outdated = "was run from an earlier version of the matrix" if line is not None else "not run yet"
            missing[name] = " ".join(str(state.get("error") or outdated).split())
    if not runs:
        raise UsageError(f"{folder}: no finished run in {RESULTS}; s3prl-emotion benchmark fills it")
    systems = dict.fromkeys(run.system for run in runs)
    upstreams = about.get("upstreams") or dict.fromkeys(run.upstream for run in runs)
    splits = about.get("tests") or dict.fromkeys(split for run in runs for split in run.splits if split != "dev")
    described = about.get("systems") or dict.fromkeys(systems)
    searches = read_searches(finished, trials.values(), about.get("search") or {})
    at_end = end_warning(searches)
    return Study(
        title=about.get("title") or folder.resolve().name,
        notes=about.get("notes"),
        folder=folder,
        baseline=about.get("baseline") or next(iter(systems)),
        upstreams=tuple(upstreams),
        systems={name: _described(overrides) for name, overrides in described.items()},
        splits=tuple(splits),
        runs=tuple(runs),
        published=tuple(_published(entry) for entry in about.get("published") or ()),
        missing=missing,
        warnings=(*warnings, *_run_warnings(runs), *([at_end] if at_end else [])),
        searches=searches,
        overrides={name: overrides or {} for name, overrides in described.items()},
    )


def _finished(path: Path, warnings: list[str]) -> dict[str, dict[str, Any]]:
    """Return the finished runs of a file, and add what is wrong with it to the report's warnings."""
    lines = read_lines(path)
    damaged = damage_warnings(path, lines)
    warnings += damaged
    for warning in damaged:
        logger.warning("%s", warning)
    return finished_runs(lines)


def _published(entry: Mapping[str, Any]) -> PublishedNumber:
    known = [item.name for item in fields(PublishedNumber) if item.name in entry]  # of older matrices: no spread
    return PublishedNumber(**{name: entry[name] for name in known})


def _run_of(line: dict[str, Any], folder: Path) -> RunResult:
    splits = {
        name: SplitResult(split["metrics"], folder / split["predictions"]) for name, split in line["splits"].items()
    }
    fold = line.get("fold") or next((str(split.metrics.get("fold")) for split in splits.values()), "")
    about: dict[str, Any] = {name: line.get(name) for name in RUN_KEYS}
    about |= {name: line.get(name) or {} for name in ("versions", "seconds")}
    return RunResult(line["upstream"], line["system"], fold, line.get("seed"), splits, **about)


def _of_experiments(folders: list[Path]) -> Study:
    names, damaged = _short_names(folders), list[str]()
    runs = [run for folder, name in zip(folders, names, strict=True) for run in _experiment(folder, name, damaged)]
    splits = dict.fromkeys(split for run in runs for split in run.splits)
    tested = [split for split in splits if split not in NOT_TESTED] or list(splits)
    return Study(
        title=" against ".join(names) if len(names) == 2 else ", ".join(names),
        notes=None,
        folder=folders[0] if len(folders) == 1 else None,
        baseline=names[0] if len(names) > 1 else None,
        upstreams=("",),
        systems={name: str(folder) for name, folder in zip(names, folders, strict=True)},
        splits=tuple(tested),
        runs=tuple(runs),
        warnings=(*damaged, *_run_warnings(runs)),
    )


def _experiment(folder: Path, name: str, damaged: list[str]) -> list[RunResult]:
    """Return the runs of an experiment directory, one for each fold; splits that cannot be read are named."""
    folds: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*_metrics.json")):
        try:
            metrics = read_metrics(path)
        except LabelError as error:
            damaged.append(f"{error}; it is left out")
            logger.warning("%s", damaged[-1])
            continue
        if {"split", "fold"} <= set(metrics):
            metrics["predictions"] = path.with_name(path.name.replace("_metrics.json", "_predictions.csv"))
            folds.setdefault(str(metrics["fold"]), {})[str(metrics["split"])] = metrics
    if not folds:
        raise UsageError(
            f"{folder}: neither a benchmark's directory ({RESULTS}) nor an experiment's (SPLIT_FOLD_metrics.json)"
        )
    runs = []
    for fold, files in folds.items():
        about = next(iter(files.values()))
        splits = {split: SplitResult(metrics, metrics.pop("predictions")) for split, metrics in files.items()}
        numbers: dict[str, Any] = {key: about.get(key) for key in ("num_parameters", "model_size_mb")}
        numbers |= {"versions": about.get("versions") or {}, "upstream_options": about.get("upstream")}
        numbers |= {key: about.get(key) for key in ("head", "config_hash")}
        runs.append(RunResult("", name, fold, None, splits, **numbers))
    return runs


def _short_names(folders: list[Path]) -> list[str]:
    """Return the shortest endings of the folders' paths that tell them apart."""
    parts = [list(folder.resolve().parts) for folder in folders]
    for index, path in enumerate(parts):
        if path in parts[:index]:
            raise UsageError(f"{folders[index]}: is named twice")
    while len(parts) > 1 and len({path[-1] for path in parts}) == 1:
        parts = [path[:-1] for path in parts]
    names = [""]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names


def _described(overrides: Any) -> str:
    if not isinstance(overrides, dict) or not overrides:
        return "the recipe as it is"
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items())


def _version_warnings(runs: Sequence[RunResult]) -> list[str]:
    """Return warnings about runs made with different versions of a package or revisions of this suite."""
    warnings = []
    for name in sorted({name for run in runs for name in run.versions}):
        used = sorted({run.versions[name] for run in runs if name in run.versions})
        if len(used) > 1:
            warnings.append(f"runs were made with different versions of {name}: {', '.join(used)}")
    revisions = sorted({f"{run.git[:12]}{run.git[40:]}" for run in runs if run.git})
    if len(revisions) > 1:
        warnings.append(f"runs were made from {len(revisions)} revisions of this suite: {', '.join(revisions)}")
    return warnings


def _run_warnings(runs: Sequence[RunResult]) -> list[str]:
    return [*_version_warnings(runs), *seen_warnings(runs), *dev_warnings(runs)]


def seen_warnings(runs: Sequence[RunResult]) -> list[str]:
    """Return warnings about splits that hold what was trained on, or whose runs do not know what that was."""
    warnings: dict[str, dict[str, None]] = {}
    for run in runs:
        name = ", ".join(word for word in (run.upstream, run.system, run.fold) if word)
        for split, result in run.splits.items():
            for note in _notes(split, result.metrics):
                warnings.setdefault(note, {})[name] = None
    return [f"{note}: {'; '.join(names)}" for note, names in warnings.items()]


def _notes(split: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    seen, protocol = metrics.get("seen"), metrics.get("protocol")
    if isinstance(seen, dict) and seen.get("note"):
        yield f"{split}: {seen['note']}"
    if isinstance(protocol, dict) and protocol.get("valid_from"):
        yield str(protocol.get("note"))
