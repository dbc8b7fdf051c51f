"""Read a matrix from YAML and check what can be checked from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.expansion import needs_of, slug, steps_named_in
from s3prl_emotion.benchmark.matrix import (
    KIND,
    LEARNING_RATE,
    Matrix,
    MatrixSection,
    PrepareSection,
    SearchSection,
    SystemSection,
    UpstreamSection,
)
from s3prl_emotion.benchmark.protocols import with_protocols
from s3prl_emotion.benchmark.published import published_numbers
from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.limits import shown
from s3prl_emotion.metrics.registry import LOSS, best_metrics
from s3prl_emotion.yaml_files import read_yaml


def read_matrix(path: str | Path) -> Matrix:
    """Read a matrix and check everything that can be checked from the file alone.

    Raises:
        UsageError: no such file
        ConfigError: not a matrix, or malformed; says where
    """
    path = Path(path)
    return matrix_of(path, _read_mapping(path), path.read_text(encoding="utf-8"))


def matrix_of(path: Path, values: dict[str, Any], text: str) -> Matrix:
    """Check the content of a matrix file.

    Args:
        path: of the file, for messages and for the paths in it; it need not exist
        values: what it holds
        text: the file as it is written

    Raises:
        ConfigError: not a matrix, or malformed; says where
    """
    if values.get("kind") != KIND:
        raise ConfigError(f"{path}: kind: must be {KIND}, got {shown(values.get('kind'))}; a recipe is no matrix")
    section = with_protocols(MatrixSection.read(values, str(path)), str(path))
    matrix = Matrix(
        path,
        section,
        {
            name: UpstreamSection.read(part or {}, f"{path}: upstreams.{name}")
            for name, part in section.upstreams.items()
        },
        {name: SystemSection.read(part or {}, f"{path}: systems.{name}") for name, part in section.systems.items()},
        {name: PrepareSection.read(part or {}, f"{path}: prepare.{name}") for name, part in section.prepare.items()},
        published_numbers(section.published, str(path), section.upstreams, section.systems, section.tests),
        text,
    )
    _check_lists(matrix)
    _check_upstreams(matrix)
    _check_seeds(matrix)
    _check_needs(matrix)
    for kind, names in (("upstreams", matrix.upstreams), ("systems", matrix.systems)):
        _check_folders_differ(list(names), f"{path}: {kind}")
    if section.search is not None:
        _check_search(matrix, section.search)
    return matrix


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read the file's mapping; names must be text, since YAML reads an unquoted ``1`` or ``on`` as something else."""
    values = read_yaml(path, f"no such matrix; give a YAML file with kind: {KIND}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a matrix is a mapping with kind: {KIND}")
    for key, value in values.items():
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            name = next(name for name in value if not isinstance(name, str))
            raise ConfigError(f"{path}: {key}: the name {name!r} must be in quotation marks")
    return values


def _check_lists(matrix: Matrix) -> None:
    section = matrix.section
    for key in ("folds", "seeds", "tests"):
        values = getattr(section, key)
        if "" in values:
            raise ConfigError(f"{matrix.path}: {key}: an empty name")
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise ConfigError(f"{matrix.path}: {key}: {twice[0]!r} is listed twice")
    if matrix.baseline not in matrix.systems:
        raise ConfigError(
            f"{matrix.path}: baseline: no system {matrix.baseline!r}{nearest(matrix.baseline, matrix.systems)}"
        )
    for name, step in matrix.prepare.items():
        if not name.isidentifier():
            raise ConfigError(f"{matrix.path}: prepare.{name}: a step's name may hold letters, digits and _ only")
        if "fold" in step.each and not section.folds:
            raise ConfigError(f"{matrix.path}: prepare.{name}.each: the matrix names no folds")


def _check_upstreams(matrix: Matrix) -> None:
    """Check that systems name upstreams of the matrix, and that each upstream has a system."""
    for name, system in matrix.systems.items():
        for upstream in system.upstreams or ():
            if upstream not in matrix.upstreams:
                raise ConfigError(
                    f"{matrix.path}: systems.{name}.upstreams: no upstream {upstream!r}"
                    f"{nearest(upstream, matrix.upstreams)}"
                )
    for upstream in matrix.upstreams:
        if not any(matrix.runs_on(name, upstream) for name in matrix.systems):
            raise ConfigError(f"{matrix.path}: upstreams.{upstream}: no system runs on it; leave it out")


def _check_seeds(matrix: Matrix) -> None:
    """Check that the seeds of systems are seeds of the matrix, each named once."""
    known = matrix.section.seeds
    for name, system in matrix.systems.items():
        listed = system.seeds or []
        for index, seed in enumerate(listed):
            if seed not in known:
                raise ConfigError(
                    f"{matrix.path}: systems.{name}.seeds: {seed} is not among the matrix's seeds, {known}; add it"
                )
            if seed in listed[:index]:
                raise ConfigError(f"{matrix.path}: systems.{name}.seeds: {seed} is listed twice")


def _check_needs(matrix: Matrix) -> None:
    """Check that named steps exist, run at least as often as the steps that need them, and form no circle."""
    named = {"overrides": steps_named_in(matrix.section.overrides)}
    for name, upstream in matrix.upstreams.items():
        named[f"upstreams.{name}"] = steps_named_in([upstream.ckpt, upstream.model_config_])
    for name, system in matrix.systems.items():
        named[f"systems.{name}"] = steps_named_in(system.overrides) | set(system.needs)
    for name, step in matrix.prepare.items():
        named[f"prepare.{name}"] = needs_of(step)
    for where, steps in named.items():
        for other in sorted(steps - set(matrix.prepare)):
            raise ConfigError(f"{matrix.path}: {where}: no prepared step {other!r}{nearest(other, matrix.prepare)}")
    for name, step in matrix.prepare.items():
        _check_no_circle(matrix, name, ())
        for other in sorted(needs_of(step)):
            missing = sorted(set(matrix.prepare[other].each) - set(step.each))
            if missing:
                raise ConfigError(
                    f"{matrix.path}: prepare.{name}.each: needs {other}, which is made for each {missing[0]}; "
                    f"add {missing[0]}"
                )


def _check_no_circle(matrix: Matrix, name: str, above: tuple[str, ...]) -> None:
    if name in above:
        raise ConfigError(f"{matrix.path}: prepare: {' needs '.join([*above, name])}, a circle")
    for other in sorted(needs_of(matrix.prepare[name])):
        _check_no_circle(matrix, other, (*above, name))


def _check_folders_differ(names: list[str], where: str) -> None:
    folders: dict[str, str] = {}
    for name in names:
        other = folders.setdefault(slug(name), name)
        if other != name:
            raise ConfigError(f"{where}: {other!r} and {name!r} would both be the folder {slug(name)!r}; rename one")


def _check_search(matrix: Matrix, search: SearchSection) -> None:
    """Check that a search names folds, seeds and a system of the matrix, and that nothing else sets the rate."""
    where, section = f"{matrix.path}: search", matrix.section
    if len(set(search.learning_rates)) < len(search.learning_rates):
        raise ConfigError(f"{where}.learning_rates: a rate is listed twice")
    metrics = (*best_metrics(classes=True, dimensions=True), LOSS)
    if search.metric not in (None, *metrics):
        raise ConfigError(f"{where}.metric: no metric {search.metric!r}; known: {', '.join(metrics)}")
    if "upstream" not in search.per or len(set(search.per)) < len(search.per):
        raise ConfigError(f"{where}.per: must be [upstream] or [upstream, system], got {search.per}")
    for key, named, known in (("folds", search.folds, section.folds), ("seeds", search.seeds, section.seeds)):
        for value in named or ():
            if value not in known:
                raise ConfigError(f"{where}.{key}: {value!r} is none of the matrix's{nearest(value, known)}")
    if search.system is not None:
        if "system" in search.per:
            raise ConfigError(f"{where}.system: every system searches its own rate (per); leave it out")
        if search.system not in matrix.systems:
            raise ConfigError(f"{where}.system: no system {search.system!r}{nearest(search.system, matrix.systems)}")
    if "system" not in search.per:
        for upstream in matrix.upstreams:
            if not matrix.runs_on(search.system or matrix.baseline, upstream):
                raise ConfigError(
                    f"{where}: {search.system or matrix.baseline} does not run on {upstream}, so it cannot choose a "
                    "rate for it; use per: [upstream, system]"
                )
    overrides = {"overrides": section.overrides}
    overrides |= {f"systems.{name}.overrides": system.overrides for name, system in matrix.systems.items()}
    for key, values in overrides.items():
        if LEARNING_RATE in values:
            raise ConfigError(f"{matrix.path}: {key}: {LEARNING_RATE} is what search chooses; remove one of the two")
