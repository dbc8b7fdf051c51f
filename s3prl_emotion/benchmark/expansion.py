"""Expand a matrix for one cell: placeholders filled, recipe and flags as the run gets them.

An expansion for a hash keeps folders (the benchmark's directory, steps' folders) as placeholders and replaces files by
their content, so that the hash does not depend on where the benchmark lies.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.matrix import LEARNING_RATE, Matrix, PrepareSection, SystemSection, UpstreamSection
from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.recipe import read_recipe

SCOPE = ("upstream", "system", "fold", "seed")
FOLD_KEY = "downstream_expert.datarc.test_fold"
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
PREPARED = "prepared."


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: an upstream, a system, a fold and a seed."""

    upstream: str
    system: str
    fold: str | None
    seed: int
    rate: float | None = None
    """Learning rate that a trial of the search uses; ``None`` for a run."""

    @property
    def id(self) -> str:
        """The run's name in ``results.jsonl``."""
        parts = [self.upstream, self.system, self.fold, f"seed {self.seed}"]
        return " | ".join([*filter(None, parts), *([f"lr {self.rate}"] if self.rate is not None else [])])


class Expansion:
    """A matrix expanded for one cell.

    Args:
        matrix: as read
        cell: the cell
        out: the benchmark's absolute directory; ``None`` for a hash
        recipes: cache of recipes by path, filled here
    """

    def __init__(self, matrix: Matrix, cell: Cell, out: Path | None, recipes: dict[Path, dict[str, Any]]) -> None:
        self.matrix, self.cell, self.out, self.recipes = matrix, cell, out, recipes
        self.where = str(matrix.path)
        folders = {"dir": str(out), "matrix": str(matrix.folder)}
        folders |= {f"{PREPARED}{name}": str(self.step_folder(name)) for name in matrix.prepare}
        if out is None:
            folders = {name: f"{{{name}}}" for name in folders}
        scope = {name: getattr(cell, name) for name in SCOPE}
        self.values = {name: str(value) for name, value in scope.items() if value is not None} | folders
        store = matrix.section.store
        self.store = None if store is None else fill(store, self.values, f"{self.where}: store")
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
        """Return the recipe of the run."""
        config = self._recipe(self.system.recipe or self.matrix.section.recipe)
        common, own = f"{self.where}: overrides", f"{self.where}: systems.{self.cell.system}.overrides"
        apply(config, fill(self.matrix.section.overrides, self.values, common), common)
        apply(config, fill(self.system.overrides, self.values, own), own)
        if self.cell.fold is not None:
            apply(config, {FOLD_KEY: self.cell.fold}, f"{self.where}: folds")
        if self.cell.rate is not None:  # a search evaluates dev only
            apply(config, {LEARNING_RATE: self.cell.rate, "runner.eval_dataloaders": ["dev"]}, f"{self.where}: search")
        return config

    def upstream_flags(self) -> Iterator[str]:
        """Yield ``-u`` and the other flags of the upstream."""
        upstream, where = self.upstream, f"{self.where}: upstreams.{self.cell.upstream}"
        yield from ("-u", upstream.name or self.cell.upstream)
        if upstream.ckpt is not None:
            yield from ("-k", fill(upstream.ckpt, self.values, where))
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
            folder = fill(self.matrix.section.upstream_path, self.values, f"{self.where}: upstream_path")
            yield from ("--upstream_path", folder)

    def store_flags(self) -> Iterator[str]:
        """Yield ``--feature_store`` and its flags; the store's folder is no part of a hash."""
        if self.store is not None and not self.upstream.trainable:
            yield from () if self.out is None else ("--feature_store", self.store)
            if self.matrix.section.store_dtype != "float32":
                yield from ("--store_dtype", self.matrix.section.store_dtype)

    def model_options(self) -> Any:
        """Return the upstream's options that stand in the matrix itself; the benchmark writes them to a file."""
        values = {name: self.values[name] for name in ("dir", "matrix", "upstream", "store")}
        where = f"{self.where}: upstreams.{self.cell.upstream}.model_config"
        return fill(self.upstream.model_config_, values, where)

    def step_folder(self, name: str) -> Path:
        """Return the folder of a prepared step."""
        each = self.matrix.prepare[name].each
        scope = [slug(str(getattr(self.cell, part))) for part in SCOPE if part in each]
        return Path(self.out or "") / "prepared" / name / ("-".join(scope) or "all")

    def commands(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Return a step's commands, each split into words."""
        step, where = self.matrix.prepare[name], f"{self.where}: prepare.{name}"
        values = {key: value for key, value in self.values.items() if self._may_name(step, key)}
        folder, own = self.step_folder(name), {"out": "{out}", "recipe": "{recipe}"}
        values |= {"out": str(folder), "recipe": f"{folder}.yaml"} if self.out else own
        several = {"store_flags": [*self.store_flags()]}
        if "upstream" in step.each:
            several["upstream_flags"] = [*self.upstream_flags()]
        return tuple(tuple(split_command(command, values, several, where)) for command in step.commands)

    def step_recipe(self, name: str) -> dict[str, Any]:
        """Return the ``{recipe}`` of a step: the base recipe with the overrides that all systems share."""
        step, where = self.matrix.prepare[name], f"{self.where}: overrides"
        config = self._recipe(self.matrix.section.recipe)
        common = self.matrix.section.overrides
        ready = {key: value for key, value in common.items() if steps_named_in(value) <= set(step.needs)}
        apply(config, fill(ready, self.values, where), where)
        if "fold" in step.each:
            apply(config, {FOLD_KEY: self.cell.fold}, where)
        return config

    def _recipe(self, name: str) -> dict[str, Any]:
        path = self.matrix.folder / name
        if path not in self.recipes:
            self.recipes[path] = read_recipe(path)
        return copy.deepcopy(self.recipes[path])

    def _may_name(self, step: PrepareSection, name: str) -> bool:
        """Return whether a placeholder has the same value for all runs that share the step."""
        if name.startswith(PREPARED):
            return name.removeprefix(PREPARED) in needs_of(step)
        return name not in SCOPE or name in step.each

    def _model_config(self, options: str | dict[str, Any], where: str) -> str:
        """Return the path for ``-g``; for a hash, the content of that file."""
        if not isinstance(options, str):
            if self.out is None:
                return json.dumps(self.model_options(), sort_keys=True)
            return str(self.out / "upstreams" / f"{slug(self.cell.upstream)}.yaml")
        text = fill(options, self.values, where)
        if placeholders_in(options):
            return text
        path = self.matrix.folder / text
        if not path.is_file():
            raise ConfigError(f"{where}: {path}: no such file")
        return path.read_text(encoding="utf-8") if self.out is None else str(path)


def apply(config: dict[str, Any], overrides: Mapping[str, Any], where: str) -> None:
    """Set dotted keys of a recipe in place.

    Raises:
        ConfigError: not a dotted key, or a key below a value that is no section
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
    """Return the steps that a step needs."""
    return set(step.needs) | steps_named_in(step.commands)


def slug(name: str) -> str:
    """Return a name in a form that can be part of a path."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "_"


# --- placeholders such as {fold} --------------------------------------------------------------------------------------


def fill(value: Any, values: Mapping[str, str], where: str) -> Any:
    """Fill the placeholders in every string of a value from YAML.

    Args:
        value: a string, or lists and mappings of anything; a mapping's keys stay as they are
        values: value of each placeholder
        where: position in the matrix, for messages

    Raises:
        ConfigError: an unknown placeholder
    """
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: _value_of(match, values, where), value)
    if isinstance(value, list):
        return [fill(item, values, where) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, values, where) for key, item in value.items()}
    return value


def split_command(
    command: str, values: Mapping[str, str], several: Mapping[str, Sequence[str]], where: str
) -> list[str]:
    """Split a command as a shell does and fill each word; a placeholder of ``several`` becomes several words.

    Raises:
        ConfigError: an unknown placeholder, an open quotation mark, or an empty command
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where}: {command!r} cannot be split into words ({error})") from error
    if not parts:
        raise ConfigError(f"{where}: an empty command")
    filled: list[str] = []
    for part in parts:
        if part.startswith("{") and part[1:-1] in several:
            filled += several[part[1:-1]]
        else:
            filled.append(fill(part, values, where))
    return filled


def placeholders_in(value: Any) -> set[str]:
    """Return the placeholders in all strings of a value."""
    return {name for text in _strings(value) for name in PLACEHOLDER.findall(text) if name}


def steps_named_in(value: Any) -> set[str]:
    """Return the prepared steps whose folders a value names."""
    return {name.removeprefix(PREPARED) for name in placeholders_in(value) if name.startswith(PREPARED)}


def _value_of(match: re.Match[str], values: Mapping[str, str], where: str) -> str:
    if match.group() in ("{{", "}}"):
        return match.group()[0]
    name = match.group(1)
    if name not in values:
        raise ConfigError(
            f"{where}: no placeholder {{{name}}} here{nearest(name, values)}; write {{{{ for a literal brace"
        )
    return values[name]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
