"""What a recipe changes of training utterances at random: ``datarc.augment:``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_VIEWS, SNR_LIMITS
from s3prl_emotion.recipe.section import StrictSection, as_range

OF_WAVEFORMS = ("speed", "reverb", "babble", "noise", "gain")
OF_FEATURES = ("spec_augment", "mixup")


def _lowest_first(limits: list[float]) -> list[float]:
    """Check that a range has its lower limit first."""
    if limits[0] > limits[1]:
        raise ValueError("must have the lower limit first")
    return limits


Decibels = Annotated[
    list[Annotated[float, Field(ge=SNR_LIMITS[0], le=SNR_LIMITS[1])]],
    Field(min_length=2, max_length=2),
    BeforeValidator(as_range),
    AfterValidator(_lowest_first),
]


class RandomSection(StrictSection):
    """Base of the sections of ``datarc.augment``."""

    p: float = Field(default=0.5, ge=0, le=1)
    """Probability that it is applied to an utterance."""


class SpeedSection(RandomSection):
    """``speed:`` — speech played slower or faster by resampling, which also changes its pitch (Ko et al. 2015)."""

    factors: list[Annotated[float, Field(ge=0.25, le=4)]] = Field(default_factory=lambda: [0.9, 1.1], min_length=1)
    """Factors of the speed, of which one is drawn: 1.1 is shorter and higher."""


class GainSection(RandomSection):
    """``gain:`` — another level."""

    db: Decibels = Field(default_factory=lambda: [-6.0, 6.0])
    """Range (dB) from which the gain is drawn."""


def _no_babble(source: str) -> str:
    """Check that a source of noise is not babble, which has a section of its own."""
    if source == "babble":
        raise ValueError("babble has a key of its own, augment.babble")
    return source


class NoiseSection(RandomSection):
    """``noise:`` — recordings or coloured noise."""

    source: Annotated[str, AfterValidator(_no_babble)]
    """A folder of recordings, or ``white``, ``pink`` or ``brown``."""
    snr: Decibels = Field(default_factory=lambda: [0.0, 20.0])
    """Range (dB) from which the signal-to-noise ratio is drawn, or a number for all."""


class BabbleSection(RandomSection):
    """``babble:`` — other speakers of the training split, talking at once."""

    snr: Decibels = Field(default_factory=lambda: [5.0, 20.0])
    """Range (dB) from which the signal-to-noise ratio is drawn, or a number for all."""


class ReverbSection(RandomSection):
    """``reverb:`` — rooms."""

    source: str = "simulated"
    """A folder of impulse responses, or ``simulated`` (needs the extra ``degrade``)."""


class SpecAugmentSection(RandomSection):
    """``spec_augment:`` — masks over frames and channels of the features (Park et al. 2019, without time warping).

    The defaults are the paper's policy SM: 0.7 s, p = 0.2, 15 of 80 channels.
    """

    time_masks: int = Field(default=2, ge=0, le=100)
    """Masks over frames."""
    time_seconds: float = Field(default=0.7, gt=0)
    """Longest mask over frames (s)."""
    time_share: float = Field(default=0.2, gt=0, le=1)
    """Longest mask over frames, as a share of the utterance."""
    channel_masks: int = Field(default=2, ge=0, le=100)
    """Masks over channels."""
    channel_share: float = Field(default=15 / 80, gt=0, le=1)
    """Widest mask over channels, as a share of them."""
    p: float = Field(default=1.0, ge=0, le=1)
    """Probability that an utterance is masked."""


class MixupSection(RandomSection):
    """``mixup:`` — mixtures of the features and targets of two utterances (Zhang et al. 2018)."""

    alpha: float = Field(default=0.2, gt=0, le=100)
    """The weight of a batch is drawn from Beta(``alpha``, ``alpha``)."""
    p: float = Field(default=1.0, ge=0, le=1)
    """Probability that a batch is mixed."""


class AugmentSection(StrictSection):
    """``datarc.augment:`` — random changes of training utterances alone; without it there are none.

    Every draw depends only on the seed, the epoch (or view) and the utterance's name.
    """

    speed: SpeedSection | None = None
    """Other speeds."""
    reverb: ReverbSection | None = None
    """Reverberation."""
    babble: BabbleSection | None = None
    """Other training speakers in the background."""
    noise: NoiseSection | None = None
    """Noise."""
    gain: GainSection | None = None
    """Other levels."""
    spec_augment: SpecAugmentSection | None = None
    """Masks over the features."""
    mixup: MixupSection | None = None
    """Mixtures of two utterances of a batch."""
    views: int | None = Field(default=None, ge=1, le=MOST_VIEWS)
    """Augmented versions of each training utterance, drawn once; epoch E uses version E modulo ``views``. ``None``:
    each epoch draws anew. A feature store needs it."""
    seed: int | None = Field(default=None, ge=0)
    """Of all draws; ``None``: ``--seed``."""

    @property
    def of_waveforms(self) -> tuple[str, ...]:
        """Names of the augmentations of waveforms that are on, in the order in which they are applied."""
        return tuple(name for name in OF_WAVEFORMS if getattr(self, name) is not None)

    @property
    def of_features(self) -> tuple[str, ...]:
        """Names of the augmentations of features that are on."""
        return tuple(name for name in OF_FEATURES if getattr(self, name) is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all augmentations that are on."""
        return (*self.of_waveforms, *self.of_features)

    @property
    def slowest(self) -> float:
        """The smallest factor of the speed that may be drawn."""
        return 1.0 if self.speed is None else min(1.0, *self.speed.factors)

    @property
    def draws_anew(self) -> bool:
        """Whether every epoch hears other waveforms, which nothing can store."""
        return bool(self.of_waveforms) and self.views is None

    def seeded(self, seed: int) -> AugmentSection:
        """Return the section with the seed of its draws: its own, else that of the run."""
        return self if self.seed is not None else self.model_copy(update={"seed": seed})

    def turn(self, epoch: int) -> int:
        """Return the number of the draws that an epoch uses."""
        return epoch if self.views is None else epoch % self.views

    def check(self, where: str) -> None:
        """Refuse a section without effect.

        Raises:
            ConfigError: no augmentation, or ``views`` without one of waveforms
        """
        if not self.names:
            raise ConfigError(f"{where}: names no augmentation; add {', '.join((*OF_WAVEFORMS, *OF_FEATURES))}")
        if self.views is not None and not self.of_waveforms:
            raise ConfigError(f"{where}.views: has no effect without one of {', '.join(OF_WAVEFORMS)}; leave it out")


def augmentation(config: Mapping[str, Any]) -> AugmentSection | None:
    """Return ``datarc.augment`` of a recipe, or ``None``; nothing else of the recipe need be valid."""
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    values = data.get("augment") if isinstance(data, dict) else None
    return None if values is None else AugmentSection.read(values, "downstream_expert.datarc.augment")
