"""Read and check recipes (YAML): one typed, strict class per section, so that a typo never becomes a default."""

from __future__ import annotations

import ast
import copy
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from s3prl_emotion.errors import ConfigError, UsageError, nearest
from s3prl_emotion.limits import (
    DEEPEST,
    MOST_FOCUS,
    MOST_LAYERS,
    MOST_VIEWS,
    MOST_WIDTH,
    MOST_WORKERS,
    SNR_LIMITS,
    shown,
)
from s3prl_emotion.yaml_files import read_yaml

NO_AVERAGES = (
    "runner.ema_decay: of heads of this suite with runner.seeding: seed alone; s3prl's own order of training averages "
    "no weights"
)
EFFECTIVE_BETA = 0.999  # Cui et al. 2019, section 5: between 0.9 and 0.9999; corpora of some thousand utterances
EVALUATED_SPLITS = ("dev", "test")  # where a recipe names none in runner.eval_dataloaders
AUTO, ALWAYS, NEVER = "auto", "always", "never"  # of --statistics
SECTIONS = ("runner", "optimizer", "scheduler", "specaug", "upstream", "downstream_expert")
LORA, TOP_LAYERS, ALL = "lora", "top_layers", "all"  # of upstream.trainable
Section = TypeVar("Section", bound="StrictSection")


class StrictSection(BaseModel):
    """Base of the sections: unknown keys and wrong types are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @classmethod
    def read(cls: type[Section], values: Any, where: str) -> Section:
        """Check ``values`` (a mapping from YAML) and build the section.

        Raises:
            ConfigError: names ``where`` and the key, and the nearest known key
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: must be a mapping of keys to values, got {shown(values)}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # a misspelt key first: the key that was meant is then missing as well
            first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ConfigError(f"{where}.{key}: unknown key{nearest(key, cls.model_fields)}") from error
            if first["type"] == "missing":
                raise ConfigError(f"{where}.{key}: this key is required") from error
            reason = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{where}.{key}: {reason}, got {shown(first['input'])}") from error


class RunnerSection(StrictSection):
    """``runner:`` — s3prl's own keys, ``seeding`` and ``early_stopping``."""

    total_steps: int = Field(ge=1)
    """Optimizer steps."""
    epochs: int | None = Field(default=None, ge=1)
    """End training after so many passes over the training split, with an evaluation and a checkpoint, unless
    ``total_steps`` come first; ``None``: after ``total_steps``."""
    gradient_clipping: float = Field(gt=0)
    """Largest norm of the gradient; larger ones are scaled down to it."""
    gradient_accumulate_steps: int = Field(ge=1)
    """Batches per optimizer step."""
    log_step: int = Field(ge=1)
    """Steps between two values of the training curves."""
    eval_step: int = Field(ge=1)
    """Steps between two evaluations of ``eval_dataloaders``."""
    save_step: int = Field(ge=1)
    """Steps between two checkpoints, ``states-N.ckpt``."""
    max_keep: int = Field(default=1, ge=1)
    """Number of ``states-N.ckpt`` to keep, the newest ones."""
    eval_dataloaders: list[str] = Field(default_factory=lambda: list(EVALUATED_SPLITS))
    """Splits to evaluate during training; ``dev`` is left out where ``datarc.valid_ratio`` is 0."""
    train_dataloader: str = "train"
    """Split to train on."""
    evaluate_ratio: float = Field(default=1.0, gt=0, le=1)
    """Share of each split to evaluate, from its start."""
    fp16: bool = False
    """Train in mixed precision: matrix products in float16, weights in float32; only on CUDA."""
    bf16: bool = False
    """Train in mixed precision: matrix products in bfloat16, weights in float32; on CUDA and on CPUs."""
    seeding: Literal["seed", "superb"] = "seed"
    """``seed``: ``--seed`` decides initialisation and order, and a resumed run equals an uninterrupted one; ``superb``:
    SUPERB's own order of random draws, in which a fixed seed of 0 decides the split and the initialisation."""
    early_stopping: int | None = Field(default=None, ge=1)
    """End training after this many evaluations without improvement on dev; ``None``: after ``total_steps``."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Evaluate and save an exponential moving average of the trained weights with this decay per step; ``None``: the
    weights themselves."""


def _as_number(value: Any) -> Any:
    """Return a number that YAML takes for a word, as it does ``1e-4`` (and not ``1.0e-4``)."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


class FinetuningSection(StrictSection):
    """``upstream:`` — what ``-f`` trains of the upstream, and how; without it ``-f`` trains every weight."""

    trainable: Literal["lora", "top_layers", "all"]
    """``lora``: low-rank adapters beside linear layers (Hu et al. 2022; needs the extra ``peft``); ``top_layers``: the
    last ``layers`` transformer layers; ``all``: every weight. Of ``lora`` and ``top_layers`` checkpoints hold what is
    trained alone, and everything else is frozen and computes as in evaluation."""
    layers: int | None = Field(default=None, ge=1, le=MOST_LAYERS)
    """Transformer layers to train, counted from the last that is computed; ``lora``: all by default."""
    rank: int = Field(default=8, ge=1, le=MOST_WIDTH)
    """Rank of the adapters of ``lora``."""
    alpha: Annotated[float, Field(gt=0), BeforeValidator(_as_number)] = 16.0
    """``lora`` adds ``alpha / rank`` times the adapters' product to the weights."""
    targets: Literal["attention", "feed_forward", "both"] | list[str] = "attention"
    """Linear layers that get adapters: those of ``attention``, of the ``feed_forward`` blocks, ``both``, or a list of
    the last parts of their names, such as ``[q_proj, v_proj]``."""
    adapter_dropout: Annotated[float, Field(ge=0, lt=1), BeforeValidator(_as_number)] = 0.0
    """Dropout of the adapters' input."""
    dropout: Annotated[float, Field(ge=0, lt=1), BeforeValidator(_as_number)] | None = None
    """Dropout in the trained layers; ``None``: what the model's own configuration says."""
    lr: Annotated[float, Field(gt=0), BeforeValidator(_as_number)] | None = None
    """Learning rate of the upstream; ``None``: ``optimizer.lr``. A scheduler scales both."""
    weight_decay: Annotated[float, Field(ge=0), BeforeValidator(_as_number)] | None = None
    """Weight decay of the upstream, in the optimizer's own way; ``None``: as for the head."""
    warm_up: int = Field(default=0, ge=0)
    """Steps over which the upstream's learning rate rises linearly to its value."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each transformer layer for the backward pass, and compute the rest again: less memory,
    more time, the same gradients."""

    @classmethod
    def read(cls, values: Any, where: str) -> FinetuningSection:
        """Read the section as others; keys without effect are errors too.

        Raises:
            ConfigError: also for a key that does nothing under this ``trainable``
        """
        section = super().read(values, where)
        unused = {LORA: (), TOP_LAYERS: OF_ADAPTERS, ALL: (*OF_ADAPTERS, "layers")}[section.trainable]
        for key in unused:
            if key in section.model_fields_set:
                raise ConfigError(f"{where}.{key}: has no effect with trainable {section.trainable}; leave it out")
        if section.trainable == TOP_LAYERS and section.layers is None:
            raise ConfigError(f"{where}.layers: trainable top_layers needs it, the number of layers to train")
        if isinstance(section.targets, list) and not section.targets:
            raise ConfigError(f"{where}.targets: is empty; name linear layers, or attention, feed_forward or both")
        return section


OF_ADAPTERS = ("rank", "alpha", "targets", "adapter_dropout")  # keys that only ``trainable: lora`` reads


def _as_range(snr: Any) -> Any:
    """Return one SNR as the range that holds nothing else."""
    return [snr, snr] if isinstance(snr, (int, float)) and not isinstance(snr, bool) else snr


def _as_channel(channel: Any) -> Any:
    """Check ``datarc.channel``."""
    if channel in ("mean", "left", "right") or (type(channel) is int and channel >= 1):
        return channel
    raise ValueError("must be mean, left, right, or the number of a channel, from 1")


class DegradeSection(StrictSection):
    """``datarc.degrade:`` — options of ``s3prl-emotion degrade``, to degrade test audio on the fly, without copies."""

    noise: str = "babble"
    reverb: str = "none"
    snr: list[Annotated[list[float], Field(min_length=2, max_length=2), BeforeValidator(_as_range)]] = Field(
        default_factory=lambda: [[20.0, 30.0], [10.0, 20.0], [0.0, 10.0]], min_length=1
    )
    """Ranges (dB) from which the SNR of each utterance is drawn, or a number for all; one split for each."""
    seed: int = 0


def _lowest_first(limits: list[float]) -> list[float]:
    """Check that a range has its lower limit first."""
    if limits[0] > limits[1]:
        raise ValueError("must have the lower limit first")
    return limits


Decibels = Annotated[
    list[Annotated[float, Field(ge=SNR_LIMITS[0], le=SNR_LIMITS[1])]],
    Field(min_length=2, max_length=2),
    BeforeValidator(_as_range),
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


OF_WAVEFORMS = ("speed", "reverb", "babble", "noise", "gain")
OF_FEATURES = ("spec_augment", "mixup")


class DistributionSection(StrictSection):
    """``datarc.distribution:`` — targets of a head that learns the distribution of the graders' votes.

    Whatever the targets, evaluation compares with the shares of the graders where they are known.
    """

    source: Literal["shares", "votes", "consensus"] = "shares"
    """``shares``: columns of the label table; ``votes``: counts of raw votes; ``consensus``: only ``EmoClass``."""
    votes: str | None = None
    """CSV with one row per vote: FileName, EmoClass, and EmoAct, EmoVal, EmoDom where graders gave them."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the consensus that is spread evenly over all classes."""


class ExtraTestSection(StrictSection):
    """An entry of ``datarc.extra_tests:`` — another corpus, evaluated as a split."""

    labels: str
    root: str
    columns: dict[str, str] = Field(default_factory=dict)
    """As ``datarc.columns``."""
    speaker_pattern: str | None = None
    """As ``datarc.speaker_pattern``."""
    merge: dict[str, str] = Field(default_factory=dict)
    """Map from its classes to those of the training corpus, e.g. ``{happiness: happy}``."""
    split: str | None = None
    """A value of its Split_Set or Fold column; ``None``: all rows."""
    distribution: DistributionSection | None = None


class CorpusSection(StrictSection):
    """An entry of ``datarc.corpora:`` — one of several training corpora."""

    labels: str
    """As ``datarc.labels``, except for SUPERB's lists."""
    root: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    """As ``datarc.columns``."""
    speaker_pattern: str | None = None
    """As ``datarc.speaker_pattern``."""
    merge: dict[str, str] = Field(default_factory=dict)
    """Map from its classes to those of ``datarc.classes``, e.g. ``{anger: ang}``."""
    scale: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest grade of its dimensions. Required if several corpora have dimensions: they are converted to
    the scale of the first."""
    distribution: DistributionSection | None = None
    """``None``: as ``datarc.distribution``; a corpus without grader shares then has no targets for this loss."""
    test_fold: str | None = None
    """Its own test fold, independent of ``datarc.test_fold`` and ``-v``."""


class DataSection(StrictSection):
    """``downstream_expert.datarc:`` — the corpus, its split into train, dev and test, and its batches.

    ``corpora`` replaces ``labels`` and ``root`` to train on several corpora (:mod:`s3prl_emotion.corpora.several`).
    """

    root: str | None = None
    """Audio folder; the demo corpus, folders of classes, datasets and databases have their own."""
    labels: str | None = None
    """A label table (CSV), SUPERB's ``meta_data`` or EmoBox's lists, a folder with a folder for each class, a Hugging
    Face dataset (a folder, or ``hf://OWNER/NAME``), an audformat database (a folder, or ``audb://NAME``), or
    ``demo``."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns by other names: ``{EmoClass: emotion, SpkrID: speaker}`` reads the column ``emotion`` as ``EmoClass``."""
    speaker_pattern: str | None = None
    """Takes speakers from file names: a regular expression, searched in ``/`` and the file's name, whose first group is
    the speaker, as in ``'/(\\d\\d)[ab]'``. It comes before ``SpkrID``."""
    allow_outside: bool = False
    """Read also files that lie outside of ``root``: absolute paths, and paths with ``..``."""
    channel: Annotated[str | int, BeforeValidator(_as_channel)] = "mean"
    """Of audio with several channels: their mean, the left or right one, or the channel of this number, from 1."""
    corpora: dict[str, CorpusSection] | None = None
    """Several corpora by name, instead of ``labels`` and ``root``."""
    classes: list[str] | None = None
    """Classes to learn, in the order of the class index; ``None``: all classes of the table."""
    eval_classes: list[str] | None = None
    """Classes to evaluate, for heads that learn the graders' distribution; ``None``: all."""
    merge: dict[str, str] = Field(default_factory=dict)
    """Joins classes, for example ``{exc: hap}``."""
    test_fold: str | None = None
    """Fold to test on; ``None``: ``-v``, or the first fold."""
    num_folds: int | Literal["auto", "speakers"] = "auto"
    """Number of folds to draw if the table has none: ``auto`` draws 5, or as many as there are speakers if fewer;
    ``speakers`` leaves one speaker out. ``random`` draws 5 by default."""
    protocol: Literal["speaker_disjoint", "published", "random", "superb"] = "speaker_disjoint"
    """``speaker_disjoint``: no speaker in train and test; ``published``: the corpus's own ``Fold`` or ``Split_Set``
    hold even where they have speakers in both, and every output then says "speaker-dependent" (EmoBox's lists are
    always read so); ``random``: utterances are drawn into ``num_folds`` folds, each class in equal numbers, whoever
    speaks them, and every output says "speaker-dependent"; ``superb``: SUPERB's own split lists, which ``labels`` must
    name."""
    partition: Literal["fold", "split_set"] | None = None
    """Column that splits a table which has both ``Fold`` and ``Split_Set``; ``None``: ``Fold``, and every output says
    so."""
    fold_seed: int = Field(default=0, ge=0)
    """Seed of the drawn folds and of dev. Independent of ``--seed``: all seeds of a benchmark share their folds."""
    valid_ratio: float = Field(default=0.2, ge=0, lt=1)
    """Share of the training speakers that becomes dev, unless the table has its own dev partition. 0: no dev split; the
    weights of the last step count (``last.ckpt``), ``best_metric`` has no effect, and every output says so."""
    valid_from: Literal["auto", "speakers", "utterances"] = "auto"
    """``speakers``: dev's speakers are not in train; ``utterances``: dev is drawn from train's utterances, class by
    class, and every output says so; ``auto``: ``utterances`` if the corpus has two speakers, else ``speakers``."""
    pre_load: bool = True
    """Keep all audio in memory."""
    train_batch_size: int = Field(ge=1)
    """Utterances per batch, in each process."""
    eval_batch_size: int = Field(ge=1)
    """Utterances per batch of an evaluated split."""
    num_workers: int = Field(default=0, ge=0, le=MOST_WORKERS)
    """Processes that load audio; 0: the training process itself."""
    max_duration: float | None = Field(default=None, gt=0)
    """Longest audio of a training utterance, in seconds; the rest is cut off. ``None``: no limit."""
    cut_eval: bool = False
    """Cut evaluated utterances too."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """Weights of the classes in the loss: none, inverse to their number of utterances, or to their effective number."""
    class_weights_beta: float = Field(default=EFFECTIVE_BETA, ge=0, lt=1)
    """β of ``effective`` (Cui et al. 2019, eq. 2): n utterances count as ``(1 - β^n) / (1 - β)``. With 0 all classes
    weigh the same; towards 1 they weigh as in ``balanced``."""
    balanced_sampling: bool = False
    """Draw training utterances so that each class is equally frequent."""
    distribution: DistributionSection | None = None
    """What a head learns that learns the graders' distribution."""
    min_utterances: int = Field(default=1, ge=1)
    """Fewest utterances of a speaker who counts in paUAR and in the figures by speaker."""
    extra_tests: dict[str, ExtraTestSection] = Field(default_factory=dict)
    """Other corpora to test on, by the names of their splits."""
    degraded: str | None = None
    """Output folder of ``s3prl-emotion degrade``: each label table in it is a further split (test_25dB, …)."""
    degrade: DegradeSection | None = None
    """Degrade test audio on the fly, in splits with the same names as the copies: test_25dB, test_15dB, test_5dB."""
    augment: AugmentSection | None = None
    """Change training audio at random; ``None``: train on it as it is."""

    @classmethod
    def read(cls, values: Any, where: str) -> DataSection:
        """Read the section as others; ``labels`` is required unless ``corpora`` is given."""
        data = super().read(values, where)
        if data.labels is None and data.corpora is None:
            raise ConfigError(f"{where}.labels: this key is required")
        if data.augment is not None:
            data.augment.check(f"{where}.augment")
        if data.class_weights_beta != EFFECTIVE_BETA and data.class_weights != "effective":
            raise ConfigError(
                f"{where}.class_weights_beta: has no effect with class_weights {data.class_weights}; leave it out"
            )
        if data.partition is not None and data.protocol not in ("speaker_disjoint", "published"):
            raise ConfigError(
                f"{where}.partition: does not go with protocol {data.protocol}, which reads no such column"
            )
        return data


CROSS_ENTROPY, FOCAL, BALANCED, LOGIT_ADJUSTED = "cross_entropy", "focal", "balanced", "logit_adjusted"
ADJUSTED = (BALANCED, LOGIT_ADJUSTED)  # class losses that read the class counts
OPTIONS_OF_LOSSES = {"gamma": (FOCAL,), "tau": (LOGIT_ADJUSTED,), "counts": ADJUSTED}


def _as_named(loss: Any) -> Any:
    """Return the name of a loss as the section that says nothing else."""
    return {"name": loss} if isinstance(loss, str) else loss


class ClassLossSection(StrictSection):
    """``downstream_expert.class_loss:`` — the loss of heads that train on classes; a name alone will do."""

    name: Literal["cross_entropy", "focal", "balanced", "logit_adjusted"] = "cross_entropy"
    """``focal``: less weight for utterances that are classified well (Lin et al. 2017); ``balanced``: balanced softmax
    (Ren et al. 2020); ``logit_adjusted``: cross-entropy of the logits plus ``tau`` times the logarithm of the class
    frequencies (Menon et al. 2021). With ``tau: 1`` the last two are the same."""
    gamma: float = Field(default=2.0, ge=0, le=MOST_FOCUS)
    """``focal``: γ, the exponent of the weight ``(1 - p)^γ``; 0 is the cross-entropy."""
    tau: float = Field(default=1.0, gt=0, le=MOST_FOCUS)
    """``logit_adjusted``: τ; 1 is consistent with the mean of the classes' error rates."""
    counts: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """``balanced``, ``logit_adjusted``: utterances of each class, in the order of the classes; ``None``: those of the
    training split, which checkpoints keep."""


class HeadSection(StrictSection):
    """``downstream_expert:`` of every head of this suite; ``modelrc`` is checked by the head itself."""

    datarc: dict[str, Any]
    """The corpus, its splits and its batches."""
    modelrc: dict[str, Any] = Field(default_factory=dict)
    """The head's own keys."""
    best_metric: str | None = None
    """Metric on dev that selects ``dev-best.ckpt``, one of the head's: WA by default for heads with classes (or UAR,
    macro_f1, …), mean_CCC for those with dimensions, joint (the mean of UAR and mean CCC) for those with both.
    ``loss``, for every head, selects the lowest loss of the whole split."""
    class_loss: Annotated[ClassLossSection, BeforeValidator(_as_named)] = Field(default_factory=ClassLossSection)
    """Loss of the classes, by name or as a section."""
    attention_dir: str | None = None
    """Folder for the attention weights of every evaluated utterance; ``None``: they are not exported."""
    embeddings: bool = False
    """Save the input of the head's last layer for every evaluated utterance."""
    layer: int | Literal["auto"] | None = None
    """``-l`` in the recipe: a number, or ``auto`` for the most salient layer of ``layer_file``."""
    layer_file: str | None = None
    """Output file of ``s3prl-emotion saliency``, which ranks the layers."""

    @classmethod
    def read(cls, values: Any, where: str) -> HeadSection:
        """Read the section as others; options of another class loss are errors too.

        Raises:
            ConfigError: also for an option that this class loss does not have
        """
        section = super().read(values, where)
        loss = section.class_loss
        for key, losses in OPTIONS_OF_LOSSES.items():
            if loss.name not in losses and getattr(loss, key) != ClassLossSection.model_fields[key].default:
                raise ConfigError(f"{where}.class_loss.{key}: {loss.name} has no such option; leave it out")
        return section


def augmentation(config: Mapping[str, Any]) -> AugmentSection | None:
    """Return ``datarc.augment`` of a recipe, or ``None``; nothing else of the recipe need be valid."""
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    values = data.get("augment") if isinstance(data, dict) else None
    return None if values is None else AugmentSection.read(values, "downstream_expert.datarc.augment")


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


def override(text: str, args: Namespace, config: dict[str, Any], flag: str = "-o") -> None:
    """Apply ``-o`` in s3prl's notation: ``args.key=value`` and ``config.a.b=value``, separated by ``,,``.

    It differs from the host's in two ways: only the first ``=`` of a part separates key and value, and values are
    literals (numbers, strings, lists, ``None``/``null``, ``True``/``true``) that are never evaluated as code. Other
    words are strings, as in the host.

    Args:
        text: value of the flag
        args: command line, changed in place
        config: recipe, changed in place
        flag: the flag's name, for messages

    Raises:
        UsageError: a part without ``=``, or a key that starts with neither ``args.`` nor ``config.``
    """
    for part in text.split(",,"):
        if not part.strip():
            continue
        key, equals, value_text = part.partition("=")
        first, *rest = key.strip().split(".")
        depth = len(rest) == 1 if first == "args" else len(rest) >= 1
        if len(rest) > DEEPEST:
            raise UsageError(f"{flag}: {shown(key)}: more than {DEEPEST} levels; no recipe has so many")
        if not equals or first not in ("args", "config") or not depth or not all(rest):
            form = "args.KEY=VALUE or config.SECTION.KEY=VALUE"
            raise UsageError(f"{flag}: {shown(part.strip())} is not of the form {form}")
        value = _literal(value_text.strip())
        if first == "args":
            setattr(args, rest[0], value)
            continue
        target = config
        for name in rest[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise UsageError(f"{flag}: {key.strip()}: {name!r} holds a value, not a section")
        target[rest[-1]] = value


def overridden(
    text: str | None, args: Namespace, config: dict[str, Any], flag: str = "-o"
) -> tuple[Namespace, dict[str, Any]]:
    """Return copies of ``args`` and ``config`` with ``-o`` applied."""
    args, config = copy.copy(args), copy.deepcopy(config)
    if text is not None and text.lower() != "none":
        override(text, args, config, flag)
    return args, config


def _literal(text: str) -> Any:
    if text in ("null", "true", "false"):  # YAML's spelling, as in the recipe itself
        return {"null": None, "true": True, "false": False}[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
