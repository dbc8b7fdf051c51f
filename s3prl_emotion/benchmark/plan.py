"""Expand a matrix to runs, each with its recipe, its prepared steps and a hash that defines it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.expansion import Cell, Expansion, apply, needs_of, placeholders_in, slug, steps_named_in
from s3prl_emotion.benchmark.matrix import LEARNING_RATE, Matrix, ResourcesSection
from s3prl_emotion.corpora.protocol import FOLDS
from s3prl_emotion.recipe import ALWAYS, AUTO

OTHER_CORPORA = ("corpora", "extra_tests")  # sections of datarc whose entries have labels and votes of their own


@dataclass(frozen=True)
class Step:
    """A prepared step for one upstream, fold, …: its commands, and the folder that they fill."""

    name: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    recipe: dict[str, Any]
    definition: str

    def beside(self, suffix: str) -> Path:
        """Return the path of a file beside the step's folder: ``.log``, ``.json``, ``.yaml`` or ``.lock``."""
        return self.folder.with_name(self.folder.name + suffix)


@dataclass(frozen=True)
class Choice:
    """The learning rate that a search chose.

    Attributes:
        rate: the rate with the best score; of equal ones the lowest
        metric: name of the dev metric that was compared
        tried: dev score of each rate; ``None`` where training failed
    """

    rate: float
    metric: str
    tried: dict[float, float | None]


@dataclass(frozen=True)
class Run:
    """One run: the recipe, the upstream, and the steps to prepare before."""

    cell: Cell
    head: str
    config: dict[str, Any]
    upstream_flags: tuple[str, ...]
    store_flags: tuple[str, ...]
    statistics_flags: tuple[str, ...]
    steps: tuple[Step, ...]
    tests: tuple[str, ...]
    folder: Path
    definition: str
    resources: ResourcesSection
    trials: tuple[Run, ...] = ()
    """Runs of the search that choose this run's learning rate."""
    choice: Choice | None = None
    """Their choice; ``None`` until the search has ended."""
    allow_seen: bool = False
    """Whether it may be tested on what it was trained on (``--allow_seen``)."""

    @property
    def rate(self) -> float | None:
        """The learning rate that a search chose for this run, or that this trial tries."""
        return self.choice.rate if self.choice else self.cell.rate

    def upstream_flag(self, flag: str) -> str | None:
        """Return the value of one of the upstream's flags; ``None`` where it is not set."""
        flags = self.upstream_flags
        return flags[flags.index(flag) + 1] if flag in flags else None

    def with_rate(self, choice: Choice) -> Run:
        """Return the run with the learning rate that the search chose."""
        config = copy.deepcopy(self.config)
        apply(config, {LEARNING_RATE: choice.rate}, "search")
        return replace(self, config=config, choice=choice)

    @property
    def expdir(self) -> Path:
        """The experiment directory."""
        return self.folder / "exp"


class Plan:
    """A matrix expanded for a directory.

    Args:
        matrix: as read
        out: the benchmark's directory
        allow_seen: whether runs may be tested on what they were trained on

    Raises:
        ConfigError: from :attr:`runs` and :attr:`trials`: an unknown placeholder, or overrides that do not fit the
            recipe
    """

    def __init__(self, matrix: Matrix, out: Path, allow_seen: bool = False) -> None:
        self.matrix, self.allow_seen = matrix, allow_seen
        self.out = out.expanduser().resolve()
        self.recipes: dict[Path, dict[str, Any]] = {}
        self._searched: dict[tuple[str, str], tuple[Run, ...]] = {}

    @property
    def cells(self) -> list[Cell]:
        """All cells. Systems are innermost, so that a fold's steps are prepared once and its systems compared early."""
        section = self.matrix.section
        return [
            Cell(upstream, system, fold, seed)
            for upstream in self.matrix.upstreams
            for seed in section.seeds
            for fold in (section.folds or (None,))
            for system in self.matrix.systems
            if self.matrix.runs_on(system, upstream) and seed in self.matrix.seeds_of(system)
        ]

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, in the order of :attr:`cells`."""
        return [self._run(cell) for cell in self.cells]

    @cached_property
    def trials(self) -> list[Run]:
        """All runs of the search for learning rates, each once."""
        return list({trial.cell.id: trial for run in self.runs for trial in run.trials}.values())

    @property
    def model_options(self) -> dict[Path, Any]:
        """Upstreams' options that stand in the matrix itself, by the file that they are written to."""
        cells = {cell.upstream: cell for cell in self.cells}
        expanded = {name: self._expansion(cell, self.out) for name, cell in cells.items()}
        return {
            self.out / "upstreams" / f"{slug(name)}.yaml": expanded[name].model_options()
            for name, upstream in self.matrix.upstreams.items()
            if isinstance(upstream.model_config_, dict)
        }

    def _expansion(self, cell: Cell, out: Path | None) -> Expansion:
        return Expansion(self.matrix, cell, out, self.recipes)

    def _run(self, cell: Cell) -> Run:
        ours, symbolic = self._expansion(cell, self.out), self._expansion(cell, None)
        config = ours.config()
        statistics = self.matrix.section.statistics
        stores = statistics == ALWAYS or not is_superb(config)
        steps = tuple(self._step(name, ours, symbolic) for name in self._steps_of(ours))
        head = ours.system.head or self.matrix.section.head
        symbolic_config = symbolic.config()
        content = {
            "head": head,
            "config": _with_number_of_folds(symbolic_config),
            "upstream": [*symbolic.upstream_flags()],
            "store": [*symbolic.store_flags()] if stores else [],
            "seed": cell.seed,
            "steps": [step.definition for step in steps],
            **_label_digests(config, symbolic_config),
        }
        if statistics != AUTO:
            content["statistics"] = statistics
        trials = self._trials_of(cell)
        if self.matrix.section.search is not None and trials:
            metric = self.matrix.section.search.metric
            content["search"] = {"metric": metric, "trials": [trial.definition for trial in trials]}
        return Run(
            cell=cell,
            head=head,
            config=config,
            upstream_flags=tuple(ours.upstream_flags()),
            store_flags=tuple(ours.store_flags()) if stores else (),
            statistics_flags=() if statistics == AUTO else ("--statistics", statistics),
            steps=steps,
            tests=tuple(self.matrix.section.tests) if cell.rate is None else ("dev",),
            folder=self._folder(cell),
            definition=digest(content),
            resources=ours.system.resources.over(self.matrix.section.resources),
            trials=trials,
            allow_seen=self.allow_seen,
        )

    def _folder(self, cell: Cell) -> Path:
        kind, name = "runs", f"{slug(cell.fold or 'run')}-seed{cell.seed}"
        if cell.rate is not None:
            kind, name = "search", f"{name}-lr{cell.rate}"
        return self.out / kind / slug(cell.upstream) / slug(cell.system) / name

    def _trials_of(self, cell: Cell) -> tuple[Run, ...]:
        """Return the runs that choose a run's learning rate: every rate on every fold and seed of the search."""
        section, search = self.matrix.section, self.matrix.section.search
        if search is None or cell.rate is not None:
            return ()
        system = cell.system if "system" in search.per else search.system or self.matrix.baseline
        if (cell.upstream, system) not in self._searched:
            self._searched[cell.upstream, system] = tuple(
                self._run(Cell(cell.upstream, system, fold, seed, rate))
                for rate in search.learning_rates
                for fold in search.folds or section.folds[:1] or (None,)
                for seed in search.seeds or self.matrix.seeds_of(system)[:1]
            )
        return self._searched[cell.upstream, system]

    def _steps_of(self, ours: Expansion) -> list[str]:
        """Return the steps that a run needs, each after the steps that it needs itself."""
        system, upstream = ours.system, ours.upstream
        named = [self.matrix.section.overrides, system.overrides, upstream.ckpt, upstream.model_config_]
        direct = set(system.needs).union(*(steps_named_in(value) for value in named))
        ordered: list[str] = []

        def visit(name: str) -> None:
            for other in sorted(needs_of(self.matrix.prepare[name])):
                visit(other)
            if name not in ordered:
                ordered.append(name)

        for name in self.matrix.prepare:
            if name in direct:
                visit(name)
        return ordered

    def _step(self, name: str, ours: Expansion, symbolic: Expansion) -> Step:
        section = self.matrix.prepare[name]
        uses_recipe = "recipe" in placeholders_in(section.commands)
        content = {
            "commands": symbolic.commands(name),
            "recipe": _with_number_of_folds(symbolic.step_recipe(name)) if uses_recipe else None,
            "needs": [self._step(other, ours, symbolic).definition for other in sorted(needs_of(section))],
        }
        return Step(name, ours.step_folder(name), ours.commands(name), ours.step_recipe(name), digest(content))


def is_superb(config: Mapping[str, Any]) -> bool:
    """Return whether a recipe keeps SUPERB's order of the data, which has neither store nor exact resume."""
    runner = config.get("runner")
    return isinstance(runner, dict) and runner.get("seeding") == "superb"


def _with_number_of_folds(config: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe as it defines a run: ``num_folds: auto`` is the 5 of earlier versions, whose runs stay valid.

    The two differ only for corpora of fewer speakers, which cannot be split into 5 folds.
    """
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    if not isinstance(data, dict) or data.get("num_folds") != "auto":
        return config
    config = copy.deepcopy(config)
    config["downstream_expert"]["datarc"]["num_folds"] = FOLDS
    return config


def digest(content: Any) -> str:
    """Return the SHA-256 of plain data, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


# --- label files ------------------------------------------------------------------------------------------------------


def _label_digests(config: Mapping[str, Any], symbolic: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of the label files that a recipe names: corrected labels make another run.

    Args:
        config: the recipe; it may be malformed, which a later check reports
        symbolic: the recipe with placeholders. Files that a prepared step makes are left out, since the definition of
            that step is part of the run's definition.

    Returns:
        ``labels``, and where there are any ``other labels`` by their key in ``datarc``
    """
    paths, with_placeholders = dict(_label_files(config)), dict(_label_files(symbolic))
    others = {
        key: _file_digest(Path(path).expanduser())
        for key, path in paths.items()
        if not steps_named_in(with_placeholders.get(key))
    }
    return {"labels": others.pop("labels", None), **({"other labels": others} if others else {})}


def _label_files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys of ``datarc`` that name label files (``degraded``: a folder of them), with their paths."""
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    if not isinstance(data, dict):
        return
    yield "labels", str(data.get("labels"))
    if data.get("degraded"):
        yield "degraded", str(data["degraded"])
    yield from _votes(data, "")
    for kind in OTHER_CORPORA:
        named = data.get(kind)
        for name, entry in named.items() if isinstance(named, dict) else ():
            if isinstance(entry, dict):
                yield f"{kind}.{name}", str(entry.get("labels"))
                yield from _votes(entry, f"{kind}.{name}.")


def _votes(entry: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    distribution = entry.get("distribution")
    if isinstance(distribution, dict) and distribution.get("votes"):
        yield f"{prefix}votes", str(distribution["votes"])


def _file_digest(path: Path) -> Any:
    """Return the SHA-256 of a file; for a folder, of each table or SUPERB list in it; ``None`` where there is none."""
    if path.is_dir():
        files = sorted([*path.glob("*.csv"), *path.glob("Session*/*_meta_data.json")])
        return {str(file.relative_to(path)): _file_digest(file) for file in files} or None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
