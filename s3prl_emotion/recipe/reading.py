"""Read a recipe (YAML), and check the sections that every head shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.limits import shown
from s3prl_emotion.recipe.augment import augmentation
from s3prl_emotion.recipe.training import FinetuningSection, RunnerSection
from s3prl_emotion.yaml_files import read_yaml

NO_AVERAGES = (
    "runner.ema_decay: of heads of this suite with runner.seeding: seed alone; s3prl's own order of training averages "
    "no weights"
)
SECTIONS = ("runner", "optimizer", "scheduler", "specaug", "upstream", "downstream_expert")


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
    if not isinstance(recipe["downstream_expert"], dict):
        raise ConfigError(
            f"downstream_expert: must be a mapping of keys to values, got {shown(recipe['downstream_expert'])}"
        )
    runner = RunnerSection.read(recipe["runner"], "runner")
    if runner.early_stopping and "dev" not in runner.eval_dataloaders:
        raise ConfigError("runner.early_stopping: needs dev among runner.eval_dataloaders")
    if runner.ema_decay is not None and runner.seeding == "superb":
        raise ConfigError(NO_AVERAGES)
    if runner.fp16 and runner.bf16:
        raise ConfigError("runner.bf16: does not go with runner.fp16; choose one type for mixed precision")
    augment = augmentation(recipe)
    if recipe.get("specaug") and augment is not None and augment.spec_augment is not None:
        raise ConfigError(
            "downstream_expert.datarc.augment.spec_augment: does not go with the section specaug, s3prl's own masks; "
            "choose one"
        )
    if recipe.get("upstream") is not None:
        FinetuningSection.read(recipe["upstream"], "upstream")
    for key in ("optimizer", "scheduler"):
        section = recipe.get(key)
        if key == "scheduler" and section is None:
            continue
        if not isinstance(section, dict):
            raise ConfigError(f"{key}: must be a mapping of keys to values, got {shown(section)}")
        name = section.get("name")
        if not (isinstance(name, str) and name.isidentifier()):  # the host evaluates it as code
            raise ConfigError(f"{key}.name: this key is required, a name from s3prl/{key}s.py, got {shown(name)}")
    if recipe.get("scheduler") is not None:
        _check_warmup(recipe["scheduler"])


def _check_warmup(scheduler: dict[str, Any]) -> None:
    """Check the key of the section ``scheduler`` that is not s3prl's."""
    ratio = scheduler.get("warmup_ratio")
    if ratio is None:
        return
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ConfigError(f"scheduler.warmup_ratio: a share of the steps, at least 0 and below 1, got {shown(ratio)}")
    if "num_warmup_steps" in scheduler:
        raise ConfigError("scheduler.warmup_ratio: does not go with num_warmup_steps, which says the same in steps")
