"""What a recipe says of the corpus: ``datarc:``, its labels, splits and batches, and what is tested besides."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.limits import MOST_WORKERS
from s3prl_emotion.recipe.augment import AugmentSection
from s3prl_emotion.recipe.section import StrictSection, as_range

EFFECTIVE_BETA = 0.999  # Cui et al. 2019, section 5: between 0.9 and 0.9999; corpora of some thousand utterances


def _as_channel(channel: Any) -> Any:
    """Check ``datarc.channel``."""
    if channel in ("mean", "left", "right") or (type(channel) is int and channel >= 1):
        return channel
    raise ValueError("must be mean, left, right, or the number of a channel, from 1")


class DegradeSection(StrictSection):
    """``datarc.degrade:`` — options of ``s3prl-emotion degrade``, to degrade test audio on the fly, without copies."""

    noise: str = "babble"
    reverb: str = "none"
    snr: list[Annotated[list[float], Field(min_length=2, max_length=2), BeforeValidator(as_range)]] = Field(
        default_factory=lambda: [[20.0, 30.0], [10.0, 20.0], [0.0, 10.0]], min_length=1
    )
    """Ranges (dB) from which the SNR of each utterance is drawn, or a number for all; one split for each."""
    seed: int = 0


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
