"""From a matrix to the runs that it asks for, each with its recipe, its prepared steps and a hash that defines it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark import label_files, placeholders
from s3prl_emotion.benchmark.expansion import Cell, Expansion, apply, needs_of, slug
from s3prl_emotion.benchmark.matrix import LEARNING_RATE, Matrix, ResourcesSection
from s3prl_emotion.errors import ConfigError, nearest


@dataclass(frozen=True)
class Step:
    """A prepared step for one scope: commands, and the folder that they fill."""

    name: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    recipe: dict[str, Any]
    definition: str

    def beside(self, suffix: str) -> Path:
        """The step's files beside its folder: ``.log``, ``.json``, ``.yaml``, ``.lock``."""
        return self.folder.with_name(self.folder.name + suffix)


@dataclass(frozen=True)
class Choice:
    """The learning rate that a search chose.

    Attributes:
        rate: with the best score, the lowest of equal ones
        metric: that was compared
        tried: score of each rate on dev, ``None`` where training failed
    """

    rate: float
    metric: str
    tried: dict[float, float | None]


@dataclass(frozen=True)
class Run:
    """One run: what to train on which upstream, and what must be prepared before."""

    cell: Cell
    head: str
    config: dict[str, Any]
    upstream_flags: tuple[str, ...]
    store_flags: tuple[str, ...]
    steps: tuple[Step, ...]
    tests: tuple[str, ...]
    folder: Path
    definition: str
    resources: ResourcesSection
    trials: tuple[Run, ...] = ()
    """Runs of the search that decide this one's learning rate."""
    choice: Choice | None = None
    """What they decided, once they have."""

    @property
    def rate(self) -> float | None:
        """The learning rate that a search chose or tries."""
        return self.choice.rate if self.choice else self.cell.rate

    def decided(self, choice: Choice) -> Run:
        """The run with the learning rate that was chosen."""
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

    Raises:
        ConfigError: an unknown placeholder or step, overrides that do not fit the recipe, names that clash on disk
    """

    def __init__(self, matrix: Matrix, out: Path) -> None:
        self.matrix = matrix
        self.out = out.expanduser().resolve()
        self.recipes: dict[Path, dict[str, Any]] = {}
        self._searched: dict[tuple[str, str], tuple[Run, ...]] = {}
        _check_needs(matrix)
        for kind, names in (("upstreams", matrix.upstreams), ("systems", matrix.systems)):
            _check_distinct(list(names), f"{matrix.path}: {kind}")

    @property
    def cells(self) -> list[Cell]:
        """All cells, systems innermost, so that what a fold needs is prepared once and compared early."""
        section = self.matrix.section
        return [
            Cell(upstream, system, fold, seed)
            for upstream in self.matrix.upstreams
            for seed in section.seeds
            for fold in (section.folds or (None,))
            for system in self.matrix.systems
            if self.matrix.runs_on(system, upstream)
        ]

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, in the order of :attr:`cells`."""
        return [self._run(cell) for cell in self.cells]

    @cached_property
    def trials(self) -> list[Run]:
        """Runs of the search for learning rates, each once."""
        return list({trial.cell.id: trial for run in self.runs for trial in run.trials}.values())

    @property
    def model_options(self) -> dict[Path, Any]:
        """Options of upstreams that the matrix itself holds, by the file that they go to."""
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
        store_flags = () if is_superb(config) else tuple(ours.store_flags())
        steps = tuple(self._step(name, ours, symbolic) for name in self._steps_of(ours))
        head = ours.system.head or self.matrix.section.head
        named = symbolic.config()
        content = {
            "head": head,
            "config": named,
            "upstream": [*symbolic.upstream_flags()],
            "store": [] if is_superb(config) else [*symbolic.store_flags()],
            "seed": cell.seed,
            "steps": [step.definition for step in steps],
            **label_files.digests(config, named),
        }
        trials = self._trials_of(cell)
        if self.matrix.section.search is not None and trials:
            metric = self.matrix.section.search.metric
            content["search"] = {"metric": metric, "trials": [trial.definition for trial in trials]}
        return Run(
            cell=cell,
            head=head,
            config=config,
            upstream_flags=tuple(ours.upstream_flags()),
            store_flags=store_flags,
            steps=steps,
            tests=tuple(self.matrix.section.tests) if cell.rate is None else ("dev",),
            folder=self._folder(cell),
            definition=digest(content),
            resources=ours.system.resources.over(self.matrix.section.resources),
            trials=trials,
        )

    def _folder(self, cell: Cell) -> Path:
        kind, name = "runs", f"{slug(cell.fold or 'run')}-seed{cell.seed}"
        if cell.rate is not None:
            kind, name = "search", f"{name}-lr{cell.rate}"
        return self.out / kind / slug(cell.upstream) / slug(cell.system) / name

    def _trials_of(self, cell: Cell) -> tuple[Run, ...]:
        """Runs that decide a run's learning rate: every rate on every fold and seed of the search."""
        section, search = self.matrix.section, self.matrix.section.search
        if search is None or cell.rate is not None:
            return ()
        system = cell.system if "system" in search.per else search.system or self.matrix.baseline
        if (cell.upstream, system) not in self._searched:
            self._searched[cell.upstream, system] = tuple(
                self._run(Cell(cell.upstream, system, fold, seed, rate))
                for rate in search.learning_rates
                for fold in search.folds or section.folds[:1] or (None,)
                for seed in search.seeds or section.seeds[:1]
            )
        return self._searched[cell.upstream, system]

    def _steps_of(self, ours: Expansion) -> list[str]:
        """Steps that a run needs, each after those that it needs itself."""
        system, upstream = ours.system, ours.upstream
        named = [self.matrix.section.overrides, system.overrides, upstream.ckpt, upstream.model_config_]
        direct = set(system.needs).union(*(placeholders.prepared_in(value) for value in named))
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
        uses_recipe = "recipe" in placeholders.names_in(section.commands)
        content = {
            "commands": symbolic.commands(name),
            "recipe": symbolic.step_recipe(name) if uses_recipe else None,
            "needs": [self._step(other, ours, symbolic).definition for other in sorted(needs_of(section))],
        }
        return Step(name, ours.place(name), ours.commands(name), ours.step_recipe(name), digest(content))


def is_superb(config: Mapping[str, Any]) -> bool:
    """Whether a recipe keeps SUPERB's own order, without store and exact resume."""
    runner = config.get("runner")
    return isinstance(runner, dict) and runner.get("seeding") == "superb"


def digest(content: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _check_needs(matrix: Matrix) -> None:
    """Steps that are named must exist, be made at least as often as what needs them, and not need each other."""
    named = {"overrides": placeholders.prepared_in(matrix.section.overrides)}
    for name, upstream in matrix.upstreams.items():
        named[f"upstreams.{name}"] = placeholders.prepared_in([upstream.ckpt, upstream.model_config_])
    for name, system in matrix.systems.items():
        named[f"systems.{name}"] = placeholders.prepared_in(system.overrides) | set(system.needs)
    for name, step in matrix.prepare.items():
        named[f"prepare.{name}"] = needs_of(step)
    for where, steps in named.items():
        for other in sorted(steps - set(matrix.prepare)):
            raise ConfigError(f"{matrix.path}: {where}: no prepared step {other!r}{nearest(other, matrix.prepare)}")
    for name, step in matrix.prepare.items():
        _check_circle(matrix, name, ())
        for other in sorted(needs_of(step)):
            missing = sorted(set(matrix.prepare[other].each) - set(step.each))
            if missing:
                raise ConfigError(
                    f"{matrix.path}: prepare.{name}.each: needs {other}, which is made for each {missing[0]}; "
                    f"add {missing[0]}"
                )


def _check_circle(matrix: Matrix, name: str, above: tuple[str, ...]) -> None:
    if name in above:
        raise ConfigError(f"{matrix.path}: prepare: {' needs '.join([*above, name])}, a circle")
    for other in sorted(needs_of(matrix.prepare[name])):
        _check_circle(matrix, other, (*above, name))


def _check_distinct(names: list[str], where: str) -> None:
    places: dict[str, str] = {}
    for name in names:
        other = places.setdefault(slug(name), name)
        if other != name:
            raise ConfigError(f"{where}: {other!r} and {name!r} would both be the folder {slug(name)!r}; rename one")
