"""``kind: matrix``: what a benchmark runs, as YAML. Read here, expanded to runs in :mod:`.plan`.

Mitra et al. 2024, Table 2, shortened::

    kind: matrix
    title: Mitra et al. 2024, Table 2
    head: emotion_tcgru
    recipe: emotion_tcgru.yaml                  # base recipe, below the folder of this file
    upstreams:                                  # name in tables and paths: what -u -k -g -s -l -f take
      HuBERT-L: {name: hf_hubert_large_ll60k, layer: 24}
    folds: [fold1]                              # left out: the recipe's own
    seeds: [1, 2, 3]                            # left out: 1337, the command line's
    tests: [test, test_25dB, test_15dB]         # splits to evaluate, each from dev-best.ckpt; left out: test
    baseline: "100 %"                           # what systems are compared with; left out: the first
    store: "{dir}/store"                        # feature store, shared; this is the default, null: none
    overrides:                                  # of every system: recipe keys, dotted
      downstream_expert.datarc.degraded: "{prepared.noisy}"
    prepare:                                    # what runs need, made once each, when first needed
      noisy:
        run: s3prl-emotion degrade --labels labels.csv --root audio --out {out}
      ccs:
        each: [upstream, fold]                  # once for every upstream and fold; left out: once
        run: s3prl-emotion saliency {upstream_flags} {store_flags} -c {recipe} --method ccs --out {out}/ccs.safetensors
    systems:                                    # rows of the tables
      "100 %": {}
      "80 %":
        overrides:
          downstream_expert.modelrc.saliency: {file: "{prepared.ccs}/ccs.safetensors", keep: 0.8}
    published:                                  # numbers to show beside ours
      - source: Mitra et al. 2024, Table 2
        metrics: [CCC.EmoAct, CCC.EmoVal, CCC.EmoDom]
        values:
          test: {"100 %": [0.75, 0.67, 0.67], "80 %": [0.75, 0.66, 0.67]}

Besides: ``notes`` (text for the report), ``store_dtype``, ``upstream_path``. An upstream may have ``ckpt`` (``-k``),
``model_config`` (``-g``: a file below the folder of this one, or the options themselves), ``feature`` (``-s``),
``layer`` (``-l``), ``normalize``, ``trainable`` (``-f``). A system may have its own ``head`` and ``recipe``, and
``needs``: prepared steps that it does not name in a path. A step may have ``needs`` too, and several commands
(``run: [first, second]``). Commands are split into words as a shell does, but no shell runs them; ``s3prl-emotion`` and
``run_downstream.py`` mean this installation's. Runs and steps work in the directory that the benchmark was called in.

Placeholders, in overrides, ``ckpt``, ``model_config``, ``store`` and commands:

================== =================================================================================================
``{dir}``          the benchmark's directory (``--out``)
``{matrix}``       folder of this file
``{store}``        the feature store
``{prepared.X}``   folder of step X, as made for this upstream, fold, ...; who names it, needs it
``{upstream}``     name of the upstream; so ``{fold}``, ``{seed}``, ``{system}``. In a step: only what ``each`` lists
``{out}``          steps only: the step's own folder, empty before it runs
``{recipe}``       steps only: the base recipe with ``overrides`` and the fold, as a file. Overrides that name a
                   prepared step are left out unless this step ``needs`` that one
``{upstream_flags}`` ``{store_flags}``  commands only: several words, as ``run_downstream.py`` takes them
================== =================================================================================================

``{{`` stands for a brace. Metrics are ``CCC.EmoAct`` (``.EmoVal``, ``.EmoDom``; so MSE and Pearson), ``mean_CCC``,
``UAR``, ``WA``, ``macro_f1`` (shares: 0.69, not 69), and ``relative_size``: parameters as a share of the baseline's.
Everything unknown, twice named or out of place is an error before anything runs.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from s3prl_emotion.benchmark.published import PublishedNumber, published_numbers
from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.recipe import StrictSection

KIND = "matrix"
SEED = 1337  # run_downstream.py's own
STORE = "{dir}/store"
MERGE = "tag:yaml.org,2002:merge"  # YAML's <<


class UpstreamSection(StrictSection):
    """``upstreams.NAME:`` as ``run_downstream.py``'s flags have it."""

    name: str | None = None
    ckpt: str | None = None
    model_config_: str | dict[str, Any] | None = Field(default=None, alias="model_config")
    feature: str = "hidden_states"
    layer: int | None = Field(default=None, ge=0)
    normalize: bool = False
    trainable: bool = False


class SystemSection(StrictSection):
    """``systems.NAME:``."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    head: str | None = None
    recipe: str | None = None


class PrepareSection(StrictSection):
    """``prepare.NAME:``."""

    run: str | list[str]
    each: list[Literal["upstream", "fold", "seed", "system"]] = Field(default_factory=list)
    needs: list[str] = Field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """One or more command lines."""
        return [self.run] if isinstance(self.run, str) else self.run


class MatrixSection(StrictSection):
    """The whole file."""

    kind: Literal["matrix"]
    title: str
    notes: str | None = None
    head: str
    recipe: str
    upstreams: dict[str, Any] = Field(min_length=1)
    folds: list[str] = Field(default_factory=list)
    seeds: list[int] = Field(default=[SEED], min_length=1)
    tests: list[str] = Field(default=["test"], min_length=1)
    baseline: str | None = None
    systems: dict[str, Any] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict)
    prepare: dict[str, Any] = Field(default_factory=dict)
    published: list[Any] = Field(default_factory=list)
    store: str | None = STORE
    store_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    upstream_path: str | None = None


@dataclass(frozen=True)
class Matrix:
    """A matrix as read: the file's own keys in ``section``, its named parts typed."""

    path: Path
    section: MatrixSection
    upstreams: dict[str, UpstreamSection]
    systems: dict[str, SystemSection]
    prepare: dict[str, PrepareSection]
    published: tuple[PublishedNumber, ...]

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self.path.resolve().parent

    @property
    def baseline(self) -> str:
        """The system that others are compared with."""
        return self.section.baseline or next(iter(self.systems))


def read_matrix(path: str | Path) -> Matrix:
    """Read a matrix and check all that can be told from the file alone.

    Raises:
        UsageError: no such file
        ConfigError: not a matrix, or malformed; says where
    """
    path = Path(path)
    values = _read_yaml(path)
    if values.get("kind") != KIND:
        raise ConfigError(f"{path}: kind: must be {KIND}, got {values.get('kind')!r}; a recipe is no matrix")
    section = MatrixSection.read(values, str(path))
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
    )
    _check_lists(matrix)
    return matrix


def _check_lists(matrix: Matrix) -> None:
    section = matrix.section
    for key in ("folds", "seeds", "tests"):
        values = getattr(section, key)
        if "" in values:
            raise ConfigError(f"{matrix.path}: {key}: an empty name")
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise ConfigError(f"{matrix.path}: {key}: {twice[0]!r} stands there twice")
    if matrix.baseline not in matrix.systems:
        raise ConfigError(
            f"{matrix.path}: baseline: no system {matrix.baseline!r}{nearest(matrix.baseline, matrix.systems)}"
        )
    for name, step in matrix.prepare.items():
        if not name.isidentifier():
            raise ConfigError(f"{matrix.path}: prepare.{name}: a step's name has letters, digits and _ alone")
        if "fold" in step.each and not section.folds:
            raise ConfigError(f"{matrix.path}: prepare.{name}.each: the matrix names no folds")


class _NoDuplicates(yaml.SafeLoader):
    """PyYAML lets the last of several equal keys win, silently."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:  # before << is followed, whose keys may be overridden
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", key_node.start_mark)
        if isinstance(key, Hashable):
            seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path}: no such matrix; give a YAML file with kind: {KIND}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDuplicates)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a matrix is a mapping with kind: {KIND}")
    for key, value in values.items():
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            name = next(name for name in value if not isinstance(name, str))
            raise ConfigError(f"{path}: {key}: the name {name!r} must be in quotation marks")
    return values
