"""The format of a matrix file (``kind: matrix``): systems, upstreams, folds and seeds that a benchmark runs.

:mod:`.reading` reads and checks the file, :mod:`.plan` expands it to runs.

Mitra et al. 2024, Table 2, shortened::

    kind: matrix
    title: Mitra et al. 2024, Table 2
    head: emotion_tcgru
    recipe: emotion_tcgru.yaml                  # base recipe, below the folder of this file
    upstreams:                                  # name in tables and paths: values of -u -k -g -s -l -f
      HuBERT-L: {name: hf_hubert_large_ll60k, layer: 24}
    folds: [fold1]                              # default: the recipe's own
    protocols: [speaker_disjoint]               # every system under each datarc.protocol; default: the recipe's own
    seeds: [1, 2, 3]                            # default: 1337, as on the command line
    tests: [test, test_25dB, test_15dB]         # splits to evaluate, each from dev-best.ckpt; default: test
    baseline: "100 %"                           # the system to compare with; default: the first
    store: "{dir}/store"                        # shared feature store; this is the default; null: none
    overrides:                                  # dotted recipe keys, set in every system
      downstream_expert.datarc.degraded: "{prepared.noisy}"
    prepare:                                    # what runs need; each step runs once, when first needed
      noisy:
        run: s3prl-emotion degrade --labels labels.csv --root audio --out {out}
      ccs:
        each: [upstream, fold]                  # once for every upstream and fold; default: once
        run: s3prl-emotion saliency {upstream_flags} {store_flags} -c {recipe} --method ccs --out {out}/ccs.safetensors
    systems:                                    # rows of the tables
      "100 %": {}
      "80 %":
        overrides:
          downstream_expert.modelrc.saliency: {file: "{prepared.ccs}/ccs.safetensors", keep: 0.8}
    published:                                  # numbers that the report shows beside ours
      - source: Mitra et al. 2024, Table 2
        metrics: [CCC.EmoAct, CCC.EmoVal, CCC.EmoDom]
        values:
          test: {"100 %": [0.75, 0.67, 0.67], "80 %": [0.75, 0.66, 0.67]}

Besides: ``notes`` (text for the report), ``store_dtype``, ``statistics``, ``upstream_path``. An upstream may also have
``ckpt`` (``-k``), ``model_config`` (``-g``: a file below the folder of this one, or the options themselves),
``feature`` (``-s``), ``layer`` (``-l``), ``normalize``, ``trainable`` (``-f``). A system may have its own ``head`` and
``recipe``; ``upstreams``, the list of upstreams that it runs on (default: all); ``seeds``, those of the matrix that it
runs with (default: all); and ``needs``: prepared steps that none of its paths names. A step may have ``needs`` too, and
several commands (``run: [first, second]``). Commands are split into words as a shell splits them, but no shell runs
them; ``s3prl-emotion`` and ``run_downstream.py`` are those of this installation. Runs and steps work in the directory
in which the benchmark was started.

With ``protocols: [speaker_disjoint, random]``, each system also runs as "NAME, speaker-dependent" under ``random``, and
the report says what sharing speakers is worth. Both must have the ``folds``; steps with ``{recipe}`` do not go with
several.

Two more keys::

    resources: {cpus: 2, gpus: 0.5}             # per run, for Ray; a system may override single keys
    search:                                     # the learning rate is chosen on dev before the runs, as SUPERB does
      learning_rates: [1.0e-5, 1.0e-4, 1.0e-3]  # YAML reads 1e-4, without a point, as text
      per: [upstream, system]                   # choose a rate per ...; default: per upstream
      system: "100 %"                           # tries the rates for all systems, unless per system; default: baseline
      folds: [fold1]                            # whose dev split is scored; default: the first
      seeds: [1]                                # default: the first
      metric: mean_CCC                          # default: the head's best_metric

The default ``resources`` are one CPU, and one GPU where the cluster has any and ``--device`` is not cpu; the local pool
ignores them. A ``search`` trains each rate and never evaluates a test split. The rate with the best score, averaged
over folds and seeds, wins; of equal ones the lowest; a rate whose training failed is out. The choice becomes
``optimizer.lr``, which overrides may then not set.

Placeholders, in overrides, ``ckpt``, ``model_config``, ``store`` and commands:

================== =================================================================================================
``{dir}``          the benchmark's directory (``--out``)
``{matrix}``       folder of this file
``{store}``        the feature store
``{prepared.X}``   folder of step X for this upstream, fold, ...; naming it means needing it
``{upstream}``     name of the upstream; likewise ``{fold}``, ``{seed}``, ``{system}``; in steps: those in ``each``
``{out}``          steps only: the step's own folder, empty before it runs
``{recipe}``       steps only: a file with the base recipe, ``overrides`` and the fold. Overrides that name a
                   prepared step are left out unless this step ``needs`` it
``{upstream_flags}`` ``{store_flags}``  commands only: several words, flags of ``run_downstream.py``
================== =================================================================================================

``{{`` is a literal brace. Metrics are ``CCC.EmoAct`` (``.EmoVal``, ``.EmoDom``; likewise MSE and Pearson),
``mean_CCC``, ``UAR``, ``WA``, ``macro_f1`` (shares: 0.69, not 69), and ``relative_size``: parameters as a share of the
baseline's. An unknown key, a duplicate or a value out of range is an error before anything runs.

A published number may be a mapping with what its source prints beside it, each on the metric's own scale:
``{value: 0.5803, std: 0.012, min: 0.5678, max: 0.5912}``. An entry of ``published`` may also have ``upstream``, which a
matrix with several needs, and ``note``: what a reader must know to compare with these numbers. Where the systems'
overrides differ by exactly two keys, the report draws the score over one of them with a line for each value of the
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from s3prl_emotion.benchmark.published import PublishedNumber
from s3prl_emotion.recipe import StrictSection

KIND = "matrix"
SEED = 1337  # the default of run_downstream.py
STORE = "{dir}/store"
LEARNING_RATE = "optimizer.lr"


class UpstreamSection(StrictSection):
    """``upstreams.NAME:``: an upstream as ``run_downstream.py``'s flags describe it."""

    name: str | None = None
    ckpt: str | None = None
    model_config_: str | dict[str, Any] | None = Field(default=None, alias="model_config")
    feature: str = "hidden_states"
    layer: int | None = Field(default=None, ge=0)
    normalize: bool = False
    trainable: bool = False


class ResourcesSection(StrictSection):
    """``resources:``: CPUs and GPUs of a run, as Ray counts them."""

    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0)

    def over(self, other: ResourcesSection) -> ResourcesSection:
        """Return these resources, with ``other``'s where they are unset."""
        return ResourcesSection(
            cpus=other.cpus if self.cpus is None else self.cpus, gpus=other.gpus if self.gpus is None else self.gpus
        )


class SearchSection(StrictSection):
    """``search:``: how the learning rate is searched."""

    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    per: list[Literal["upstream", "system"]] = Field(default=["upstream"], min_length=1)
    system: str | None = None
    folds: list[str] | None = Field(default=None, min_length=1)
    seeds: list[int] | None = Field(default=None, min_length=1)
    metric: str | None = None


class SystemSection(StrictSection):
    """``systems.NAME:``: a row of the tables."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    head: str | None = None
    recipe: str | None = None
    upstreams: list[str] | None = Field(default=None, min_length=1)
    seeds: list[int] | None = Field(default=None, min_length=1)
    resources: ResourcesSection = ResourcesSection()


class PrepareSection(StrictSection):
    """``prepare.NAME:``: a step that runs need."""

    run: str | list[str]
    each: list[Literal["upstream", "fold", "seed", "system"]] = Field(default_factory=list)
    needs: list[str] = Field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """The step's command lines."""
        return [self.run] if isinstance(self.run, str) else self.run


class MatrixSection(StrictSection):
    """The whole file; :func:`~s3prl_emotion.benchmark.reading.read_matrix` reads its named parts on their own."""

    kind: Literal["matrix"]
    title: str
    notes: str | None = None
    head: str
    recipe: str
    upstreams: dict[str, Any] = Field(min_length=1)
    folds: list[str] = Field(default_factory=list)
    protocols: list[Literal["speaker_disjoint", "random", "superb"]] = Field(default_factory=list)
    seeds: list[int] = Field(default=[SEED], min_length=1)
    tests: list[str] = Field(default=["test"], min_length=1)
    baseline: str | None = None
    systems: dict[str, Any] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict)
    prepare: dict[str, Any] = Field(default_factory=dict)
    published: list[Any] = Field(default_factory=list)
    store: str | None = STORE
    store_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    statistics: Literal["auto", "always", "never"] = "auto"
    upstream_path: str | None = None
    resources: ResourcesSection = ResourcesSection()
    search: SearchSection | None = None


@dataclass(frozen=True)
class Matrix:
    """A matrix as read: its keys in ``section``, its named parts as typed mappings, the file itself in ``text``."""

    path: Path
    section: MatrixSection
    upstreams: dict[str, UpstreamSection]
    systems: dict[str, SystemSection]
    prepare: dict[str, PrepareSection]
    published: tuple[PublishedNumber, ...]
    text: str

    @property
    def folder(self) -> Path:
        """The file's folder."""
        return self.path.resolve().parent

    @property
    def baseline(self) -> str:
        """The system with which the others are compared."""
        return self.section.baseline or next(iter(self.systems))

    def runs_on(self, system: str, upstream: str) -> bool:
        """Return whether a system runs on an upstream."""
        listed = self.systems[system].upstreams
        return listed is None or upstream in listed

    def seeds_of(self, system: str) -> list[int]:
        """Return the seeds that a system runs with, in the matrix's order."""
        listed = self.systems[system].seeds
        return [seed for seed in self.section.seeds if listed is None or seed in listed]
