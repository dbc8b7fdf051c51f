"""What a matrix says for one cell: placeholders filled, recipe and flags as the run gets them.

The same for a hash: places (the benchmark's directory, steps' folders) then stay placeholders, so that a hash does not
depend on where the benchmark lies, and files stand for what they hold.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark import placeholders
from s3prl_emotion.benchmark.matrix import LEARNING_RATE, Matrix, PrepareSection, SystemSection, UpstreamSection
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.recipe import read_recipe

SCOPE = ("upstream", "system", "fold", "seed")
FOLD_KEY = "downstream_expert.datarc.test_fold"


@dataclass(frozen=True)
class Cell:
    """One square of the matrix."""

    upstream: str
    system: str
    fold: str | None
    seed: int
    rate: float | None = None
    """Learning rate that a run of the search tries."""

    @property
    def id(self) -> str:
        """Identifies the run in ``results.jsonl``."""
        parts = [self.upstream, self.system, self.fold, f"seed {self.seed}"]
        return " | ".join([*filter(None, parts), *([f"lr {self.rate}"] if self.rate is not None else [])])


class Expansion:
    """A matrix for one cell.

    Args:
        matrix: as read
        cell: which square of it
        out: the benchmark's directory, absolute; ``None`` for a hash
        recipes: that were read before, by path
    """

    def __init__(self, matrix: Matrix, cell: Cell, out: Path | None, recipes: dict[Path, dict[str, Any]]) -> None:
        self.matrix, self.cell, self.out, self.recipes = matrix, cell, out, recipes
        self.where = str(matrix.path)
        places = {"dir": str(out), "matrix": str(matrix.folder)}
        places |= {f"{placeholders.PREPARED}{name}": str(self.place(name)) for name in matrix.prepare}
        if out is None:
            places = {name: f"{{{name}}}" for name in places}
        scope = {name: getattr(cell, name) for name in SCOPE}
        self.values = {name: str(value) for name, value in scope.items() if value is not None} | places
        store = matrix.section.store
        self.store = None if store is None else placeholders.fill(store, self.values, f"{self.where}: store")
        self.values["store"] = self.store or ""

    @property
    def system(self) -> SystemSection:
        """The cell's system."""
        return self.matrix.systems[self.cell.system]

    @property
    def upstream(self) -> UpstreamSection:
        """The cell's upstream."""
        return self.matrix.upstreams[self.cell.upstream]

    def config(self) -> dict[str, Any]:
        """The recipe of the run."""
        config = self._recipe(self.system.recipe or self.matrix.section.recipe)
        common, own = f"{self.where}: overrides", f"{self.where}: systems.{self.cell.system}.overrides"
        apply(config, placeholders.fill(self.matrix.section.overrides, self.values, common), common)
        apply(config, placeholders.fill(self.system.overrides, self.values, own), own)
        if self.cell.fold is not None:
            apply(config, {FOLD_KEY: self.cell.fold}, f"{self.where}: folds")
        if self.cell.rate is not None:  # a search looks at dev alone
            apply(config, {LEARNING_RATE: self.cell.rate, "runner.eval_dataloaders": ["dev"]}, f"{self.where}: search")
        return config

    def upstream_flags(self) -> Iterator[str]:
        """``-u`` and what goes with it."""
        upstream, where = self.upstream, f"{self.where}: upstreams.{self.cell.upstream}"
        yield from ("-u", upstream.name or self.cell.upstream)
        if upstream.ckpt is not None:
            yield from ("-k", placeholders.fill(upstream.ckpt, self.values, where))
        if upstream.model_config_ is not None:
            yield from ("-g", self._model_config(upstream.model_config_, f"{where}.model_config"))
        if upstream.feature != "hidden_states":
            yield from ("-s", upstream.feature)
        if upstream.layer is not None:
            yield from ("-l", str(upstream.layer))
        if upstream.normalize:
            yield "--upstream_feature_normalize"
        if upstream.trainable:
            yield "-f"
        if self.matrix.section.upstream_path:
            folder = placeholders.fill(self.matrix.section.upstream_path, self.values, f"{self.where}: upstream_path")
            yield from ("--upstream_path", folder)

    def store_flags(self) -> Iterator[str]:
        """``--feature_store`` and what goes with it; the place does not belong into a hash."""
        if self.store is not None and not self.upstream.trainable:
            yield from () if self.out is None else ("--feature_store", self.store)
            if self.matrix.section.store_dtype != "float32":
                yield from ("--store_dtype", self.matrix.section.store_dtype)

    def model_options(self) -> Any:
        """Options of the upstream that the matrix itself holds, to be written to a file."""
        values = {name: self.values[name] for name in ("dir", "matrix", "upstream", "store")}
        where = f"{self.where}: upstreams.{self.cell.upstream}.model_config"
        return placeholders.fill(self.upstream.model_config_, values, where)

    def place(self, name: str) -> Path:
        """Folder of a prepared step."""
        each = self.matrix.prepare[name].each
        scope = [slug(str(getattr(self.cell, part))) for part in SCOPE if part in each]
        return Path(self.out or "") / "prepared" / name / ("-".join(scope) or "all")

    def commands(self, name: str) -> tuple[tuple[str, ...], ...]:
        """A step's commands, in words."""
        step, where = self.matrix.prepare[name], f"{self.where}: prepare.{name}"
        values = {key: value for key, value in self.values.items() if self._may_name(step, key)}
        place = self.place(name)
        values |= {"out": str(place), "recipe": f"{place}.yaml"} if self.out else {"out": "{out}", "recipe": "{recipe}"}
        several = {"store_flags": [*self.store_flags()]}
        if "upstream" in step.each:
            several["upstream_flags"] = [*self.upstream_flags()]
        return tuple(tuple(placeholders.words(command, values, several, where)) for command in step.commands)

    def step_recipe(self, name: str) -> dict[str, Any]:
        """``{recipe}`` of a step: what is common to all systems."""
        step, where = self.matrix.prepare[name], f"{self.where}: overrides"
        config = self._recipe(self.matrix.section.recipe)
        common = self.matrix.section.overrides
        ready = {key: value for key, value in common.items() if placeholders.prepared_in(value) <= set(step.needs)}
        apply(config, placeholders.fill(ready, self.values, where), where)
        if "fold" in step.each:
            apply(config, {FOLD_KEY: self.cell.fold}, where)
        return config

    def _recipe(self, name: str) -> dict[str, Any]:
        path = self.matrix.folder / name
        if path not in self.recipes:
            self.recipes[path] = read_recipe(path)
        return copy.deepcopy(self.recipes[path])

    def _may_name(self, step: PrepareSection, name: str) -> bool:
        """Whether a placeholder means the same for all runs that the step is made for."""
        if name.startswith(placeholders.PREPARED):
            return name.removeprefix(placeholders.PREPARED) in needs_of(step)
        return name not in SCOPE or name in step.each

    def _model_config(self, options: str | dict[str, Any], where: str) -> str:
        """Where ``-g`` finds its file; for a hash, what it holds."""
        if not isinstance(options, str):
            if self.out is None:
                return json.dumps(self.model_options(), sort_keys=True)
            return str(self.out / "upstreams" / f"{slug(self.cell.upstream)}.yaml")
        text = placeholders.fill(options, self.values, where)
        if placeholders.names_in(options):
            return text
        path = self.matrix.folder / text
        if not path.is_file():
            raise ConfigError(f"{where}: {path}: no such file")
        return path.read_text(encoding="utf-8") if self.out is None else str(path)


def apply(config: dict[str, Any], overrides: Mapping[str, Any], where: str) -> None:
    """Set dotted keys of a recipe.

    Raises:
        ConfigError: a key that leads through a value that is no section
    """
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        if not last or not all(path):
            raise ConfigError(f"{where}: {dotted!r} is no dotted key such as runner.total_steps")
        target = config
        for name in path:
            if target.get(name) is None:
                target[name] = {}
            target = target[name]
            if not isinstance(target, dict):
                raise ConfigError(f"{where}: {dotted}: {name!r} holds a value in the recipe, not a section")
        target[last] = copy.deepcopy(value)


def needs_of(step: PrepareSection) -> set[str]:
    """Steps that a step needs."""
    return set(step.needs) | placeholders.prepared_in(step.commands)


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "_"
