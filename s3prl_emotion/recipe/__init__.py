"""Recipes (YAML): one typed, strict class per section, so that a typo never becomes a default; ``-o`` changes them."""

from s3prl_emotion.recipe.augment import AugmentSection, SpecAugmentSection, augmentation
from s3prl_emotion.recipe.data import (
    EFFECTIVE_BETA,
    CorpusSection,
    DataSection,
    DegradeSection,
    DistributionSection,
    ExtraTestSection,
)
from s3prl_emotion.recipe.head import ADJUSTED, CROSS_ENTROPY, FOCAL, ClassLossSection, HeadSection
from s3prl_emotion.recipe.overrides import overridden, override
from s3prl_emotion.recipe.reading import NO_AVERAGES, check_recipe, read_recipe
from s3prl_emotion.recipe.section import Section, StrictSection
from s3prl_emotion.recipe.training import (
    ALL,
    ALWAYS,
    AUTO,
    EVALUATED_SPLITS,
    LORA,
    NEVER,
    TOP_LAYERS,
    FinetuningSection,
    RunnerSection,
)

__all__ = [
    "ADJUSTED", "ALL", "ALWAYS", "AUTO", "CROSS_ENTROPY", "EFFECTIVE_BETA", "EVALUATED_SPLITS", "FOCAL", "LORA",
    "NEVER", "NO_AVERAGES", "TOP_LAYERS", "AugmentSection", "ClassLossSection", "CorpusSection", "DataSection",
    "DegradeSection", "DistributionSection", "ExtraTestSection", "FinetuningSection", "HeadSection", "RunnerSection",
    "Section", "SpecAugmentSection", "StrictSection", "augmentation", "check_recipe", "overridden", "override",
    "read_recipe",
]  # fmt: skip
