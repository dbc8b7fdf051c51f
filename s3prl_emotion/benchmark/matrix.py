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
``layer`` (``-l``), ``normalize``, ``trainable`` (``-f``). A system may have its own ``head`` and ``recipe``;
``upstreams``, a list of those that it runs on (left out: all); and ``needs``: prepared steps that it does not name in a
path. A step may have ``needs`` too, and several commands (``run: [first, second]``). Commands are split into words as a
shell does, but no shell runs them; ``s3prl-emotion`` and ``run_downstream.py`` mean this installation's. Runs and steps
work in the directory that the benchmark was called in.

Two more keys::

    resources: {cpus: 2, gpus: 0.5}             # of a run, for Ray; a system may have its own, which go key by key
    search:                                     # the learning rate is chosen on dev before the runs, as SUPERB does
      learning_rates: [1.0e-5, 1.0e-4, 1.0e-3]  # 1e-4 without its point is text in YAML
      per: [upstream, system]                   # what gets a rate of its own; left out: each upstream
      system: "100 %"                           # the system that tries for all, without per system; left out: baseline
      folds: [fold1]                            # on whose dev split; left out: the first
      seeds: [1]                                # left out: the first
      metric: mean_CCC                          # left out: the head's own, best_metric

``resources`` left out are one CPU, and one GPU where the cluster has any and ``--device`` is not cpu; the local pool
does not read them. A ``search`` trains each rate and never looks at a test split. The best score wins, averaged over
folds and seeds; equal ones go to the lower rate, one whose training failed is out. The choice becomes
``optimizer.lr``, which overrides may not set then.

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

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from s3prl_emotion.benchmark.published import PublishedNumber, published_numbers
from s3prl_emotion.benchmark.strict_yaml import KIND, read_mapping
from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.recipe import StrictSection

SEED = 1337  # run_downstream.py's own
STORE = "{dir}/store"
LEARNING_RATE = "optimizer.lr"


class UpstreamSection(StrictSection):
    """``upstreams.NAME:`` as ``run_downstream.py``'s flags have it."""

    name: str | None = None
    ckpt: str | None = None
    model_config_: str | dict[str, Any] | None = Field(default=None, alias="model_config")
    feature: str = "hidden_states"
    layer: int | None = Field(default=None, ge=0)
    normalize: bool = False
    trainable: bool = False


class ResourcesSection(StrictSection):
    """``resources:`` of a run, as Ray counts them."""

    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0)

    def over(self, other: ResourcesSection) -> ResourcesSection:
        """These, and where they are silent ``other``'s."""
        return ResourcesSection(
            cpus=other.cpus if self.cpus is None else self.cpus, gpus=other.gpus if self.gpus is None else self.gpus
        )


class SearchSection(StrictSection):
    """``search:`` of the learning rate."""

    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    per: list[Literal["upstream", "system"]] = Field(default=["upstream"], min_length=1)
    system: str | None = None
    folds: list[str] | None = Field(default=None, min_length=1)
    seeds: list[int] | None = Field(default=None, min_length=1)
    metric: Literal["WA", "UAR", "macro_f1", "mean_CCC", "joint"] | None = None


class SystemSection(StrictSection):
    """``systems.NAME:``."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    head: str | None = None
    recipe: str | None = None
    upstreams: list[str] | None = Field(default=None, min_length=1)
    resources: ResourcesSection = ResourcesSection()


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
    resources: ResourcesSection = ResourcesSection()
    search: SearchSection | None = None


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

    def runs_on(self, system: str, upstream: str) -> bool:
        """Whether a system runs on an upstream."""
        listed = self.systems[system].upstreams
        return listed is None or upstream in listed


def read_matrix(path: str | Path) -> Matrix:
    """Read a matrix and check all that can be told from the file alone.

    Raises:
        UsageError: no such file
        ConfigError: not a matrix, or malformed; says where
    """
    path = Path(path)
    values = read_mapping(path)
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
    _check_upstreams(matrix)
    if section.search is not None:
        _check_search(matrix, section.search)
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


def _check_upstreams(matrix: Matrix) -> None:
    """Systems name upstreams of the matrix, and each upstream has a system."""
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


def _check_search(matrix: Matrix, search: SearchSection) -> None:
    """A search names folds, seeds and a system of the matrix, and no one else sets the learning rate."""
    where, section = f"{matrix.path}: search", matrix.section
    if len(set(search.learning_rates)) < len(search.learning_rates):
        raise ConfigError(f"{where}.learning_rates: a rate stands there twice")
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
                    f"{where}: {search.system or matrix.baseline} does not run on {upstream}, so it cannot choose for "
                    "it; take per: [upstream, system]"
                )
    overrides = {"overrides": section.overrides}
    overrides |= {f"systems.{name}.overrides": system.overrides for name, system in matrix.systems.items()}
    for place, values in overrides.items():
        if LEARNING_RATE in values:
            raise ConfigError(f"{matrix.path}: {place}: {LEARNING_RATE} is what search chooses; leave one of both out")
