"""What a recipe (YAML) may hold: one typed, strict class per section, so that a slip never becomes a default."""

from __future__ import annotations

import ast
import copy
from argparse import Namespace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.yaml_files import read_yaml

SECTIONS = ("runner", "optimizer", "scheduler", "specaug", "downstream_expert")
Section = TypeVar("Section", bound="StrictSection")


class StrictSection(BaseModel):
    """A section of a recipe: unknown keys and wrong types are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @classmethod
    def read(cls: type[Section], values: Any, where: str) -> Section:
        """Check ``values`` (a mapping from YAML) and build the section.

        Raises:
            ConfigError: names ``where`` and the key, and the nearest known key
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: must be a mapping of keys to values, got {values!r}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # a misspelt key first: what it was meant to be is then missing as well
            first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ConfigError(f"{where}.{key}: unknown key{nearest(key, cls.model_fields)}") from error
            if first["type"] == "missing":
                raise ConfigError(f"{where}.{key}: this key is required") from error
            raise ConfigError(f"{where}.{key}: {first['msg']}, got {first['input']!r}") from error


class RunnerSection(StrictSection):
    """``runner:`` — s3prl's own keys, and ``seeding``."""

    total_steps: int = Field(ge=1)
    gradient_clipping: float = Field(gt=0)
    gradient_accumulate_steps: int = Field(ge=1)
    log_step: int = Field(ge=1)
    eval_step: int = Field(ge=1)
    save_step: int = Field(ge=1)
    max_keep: int = Field(default=1, ge=1)
    eval_dataloaders: list[str] = Field(default_factory=lambda: ["dev", "test"])
    train_dataloader: str = "train"
    evaluate_ratio: float = Field(default=1.0, gt=0, le=1)
    fp16: bool = False
    seeding: Literal["seed", "superb"] = "seed"
    """``seed``: ``--seed`` rules initialisation and order, and a resumed run equals an uninterrupted one; ``superb``:
    SUPERB's own order of random draws, in which a fixed seed 0 rules the split and the initialisation."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Training ends after so many evaluations in which dev was not better than before; ``None``: after all steps."""


class DegradeSection(StrictSection):
    """``datarc.degrade:`` — the options of ``s3prl-emotion degrade``, whose copies are then not needed."""

    noise: str = "babble"
    reverb: str = "none"
    snr: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        default_factory=lambda: [[20.0, 30.0], [10.0, 20.0], [0.0, 10.0]], min_length=1
    )
    """Ranges (dB) from which each utterance's SNR is drawn."""
    seed: int = 0


class DistributionSection(StrictSection):
    """``datarc.distribution:`` — what a head learns that judges the graders' distribution.

    Whatever it learns, it is evaluated against the shares of the graders where they are known.
    """

    source: Literal["shares", "votes", "consensus"] = "shares"
    """``shares``: the label table's columns; ``votes``: raw votes, counted; ``consensus``: ``EmoClass`` alone."""
    votes: str | None = None
    """CSV with one row a vote: FileName, EmoClass, and EmoAct, EmoVal, EmoDom where graders gave them."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the consensus that is spread over all classes alike."""


class ExtraTestSection(StrictSection):
    """One of ``datarc.extra_tests:`` — another corpus, evaluated as a split."""

    labels: str
    root: str
    merge: dict[str, str] = Field(default_factory=dict)
    """Its classes to those of the corpus that is trained on, e.g. ``{happiness: happy}``."""
    split: str | None = None
    """A value of its Split_Set or Fold; ``None``: every row."""
    distribution: DistributionSection | None = None


class CorpusSection(StrictSection):
    """One of ``datarc.corpora:`` — a corpus that is trained on together with others."""

    labels: str
    """A label table, or ``demo``."""
    root: str | None = None
    merge: dict[str, str] = Field(default_factory=dict)
    """Its classes to those of ``datarc.classes``, e.g. ``{anger: ang}``."""
    scale: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest grade of its dimensions; needed where several corpora have dimensions, which are brought
    to the scale of the first."""
    distribution: DistributionSection | None = None
    """``None``: as ``datarc.distribution``; a corpus without grader shares then has none to learn."""
    test_fold: str | None = None
    """Its own, whatever ``datarc.test_fold`` and ``-v`` name."""


class DataSection(StrictSection):
    """``downstream_expert.datarc:`` — the corpus, its split into train, dev and test, and how it is batched.

    ``corpora`` stands in place of ``labels`` and ``root``: several corpora as one,
    :mod:`s3prl_emotion.corpora.several`.
    """

    root: str | None = None
    labels: str | None = None
    corpora: dict[str, CorpusSection] | None = None
    classes: list[str] | None = None
    eval_classes: list[str] | None = None
    """Of a head that learns the graders' distribution: the classes that are evaluated; ``None``: all."""
    merge: dict[str, str] = Field(default_factory=dict)
    test_fold: str | None = None
    num_folds: int | Literal["speakers"] = 5
    valid_ratio: float = Field(default=0.2, gt=0, lt=1)
    pre_load: bool = True
    train_batch_size: int = Field(ge=1)
    eval_batch_size: int = Field(ge=1)
    num_workers: int = Field(default=0, ge=0)
    max_duration: float | None = Field(default=None, gt=0)
    cut_eval: bool = False
    class_weights: Literal["none", "balanced", "effective"] = "none"
    balanced_sampling: bool = False
    distribution: DistributionSection | None = None
    min_utterances: int = Field(default=1, ge=1)
    """Of a speaker, to be counted in paUAR and per-speaker figures."""
    extra_tests: dict[str, ExtraTestSection] = Field(default_factory=dict)
    """Other corpora to test on, by the name of the split that each becomes."""
    degraded: str | None = None
    """Folder of ``s3prl-emotion degrade``: each of its label tables is one more split (test_25dB, …)."""
    degrade: DegradeSection | None = None
    """Noise and reverberation on the fly, for splits named like copies: test_25dB, test_15dB, test_5dB."""

    @classmethod
    def read(cls, values: Any, where: str) -> DataSection:
        """As every section; ``labels`` is required where ``corpora`` is not given."""
        data = super().read(values, where)
        if data.labels is None and data.corpora is None:
            raise ConfigError(f"{where}.labels: this key is required")
        return data


class HeadSection(StrictSection):
    """``downstream_expert:`` of every head of this suite; ``modelrc`` is checked by the head itself.

    ``best_metric`` picks ``dev-best.ckpt``; by default WA for heads with classes, mean_CCC for those with dimensions.
    ``layer`` is ``-l``, in the recipe: a number, or ``auto``, the most salient layer of ``layer_file``, which
    ``s3prl-emotion saliency`` wrote. ``embeddings`` keeps what the head's last layer sees of every evaluated utterance.
    """

    datarc: dict[str, Any]
    modelrc: dict[str, Any] = Field(default_factory=dict)
    best_metric: Literal["WA", "UAR", "macro_f1", "mean_CCC", "joint"] | None = None
    attention_dir: str | None = None
    embeddings: bool = False
    layer: int | Literal["auto"] | None = None
    layer_file: str | None = None


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read a YAML recipe.

    Raises:
        UsageError: no such file
        ConfigError: not YAML, or not a mapping
    """
    recipe = read_yaml(Path(path), "no such recipe; give a YAML file with -c/--config")
    if not isinstance(recipe, dict):
        raise ConfigError(f"{path}: a recipe is a mapping with the sections {', '.join(SECTIONS)}")
    return recipe


def check_recipe(recipe: dict[str, Any]) -> None:
    """Check the sections that every head shares.

    Raises:
        ConfigError: an unknown, missing or ill-typed key
    """
    for key in recipe:
        if key not in SECTIONS:
            raise ConfigError(f"{key}: unknown section of the recipe{nearest(key, SECTIONS)}")
    for key in ("runner", "optimizer", "downstream_expert"):
        if key not in recipe:
            raise ConfigError(f"{key}: the recipe lacks this section")
    runner = RunnerSection.read(recipe["runner"], "runner")
    if runner.early_stopping and "dev" not in runner.eval_dataloaders:
        raise ConfigError("runner.early_stopping: needs dev among runner.eval_dataloaders")
    for key in ("optimizer", "scheduler"):
        section = recipe.get(key)
        if key == "scheduler" and section is None:
            continue
        if not isinstance(section, dict):
            raise ConfigError(f"{key}: must be a mapping of keys to values, got {section!r}")
        name = section.get("name")
        if not (isinstance(name, str) and name.isidentifier()):  # the host evaluates it as code
            raise ConfigError(f"{key}.name: this key is required, a name from s3prl/{key}s.py, got {name!r}")


def override(text: str, args: Namespace, config: dict[str, Any]) -> None:
    """Apply ``-o``: ``args.key=value`` and ``config.a.b=value``, separated by ``,,``; s3prl's own notation.

    Differs from the host's in two ways: only the first ``=`` of each part separates key and value, and values are
    literals (numbers, strings, lists, ``None``/``null``, ``True``/``true``), never evaluated as code. A word that is
    no literal is taken as a string, as the host does.

    Raises:
        UsageError: a part without ``=``, or a key that starts with neither ``args.`` nor ``config.``
    """
    for part in text.split(",,"):
        if not part.strip():
            continue
        key, equals, value_text = part.partition("=")
        first, *rest = key.strip().split(".")
        depth = len(rest) == 1 if first == "args" else len(rest) >= 1
        if not equals or first not in ("args", "config") or not depth or not all(rest):
            raise UsageError(f"-o: {part.strip()!r} is not of the form args.KEY=VALUE or config.SECTION.KEY=VALUE")
        value = _literal(value_text.strip())
        if first == "args":
            setattr(args, rest[0], value)
            continue
        target = config
        for name in rest[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise UsageError(f"-o: {key.strip()}: {name!r} holds a value, not a section")
        target[rest[-1]] = value


def overridden(text: str | None, args: Namespace, config: dict[str, Any]) -> tuple[Namespace, dict[str, Any]]:
    """Copies of ``args`` and ``config`` with ``-o`` applied; what :func:`override` will do to the originals."""
    args, config = copy.copy(args), copy.deepcopy(config)
    if text is not None and text.lower() != "none":
        override(text, args, config)
    return args, config


def _literal(text: str) -> Any:
    if text in ("null", "true", "false"):  # YAML's spelling, as in the recipe itself
        return {"null": None, "true": True, "false": False}[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
