"""Protocols: which splits of a corpus share speakers, and folds drawn by utterance, which do."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import CheckpointError, LabelError
from s3prl_emotion.recipe import DataSection

SPEAKER_DISJOINT, PUBLISHED, RANDOM, SUPERB = "speaker_disjoint", "published", "random", "superb"
DEPENDENT = (RANDOM, PUBLISHED)  # names of protocols whose train and test share speakers
SPEAKER_DEPENDENT = "speaker-dependent"
NOTE = f"{SPEAKER_DEPENDENT}: folds were drawn by utterance (datarc.protocol: random), so train and test share speakers"
PUBLISHED_NOTE = (
    f"{SPEAKER_DEPENDENT}: the corpus's own folds hold (datarc.protocol: published), and they have speakers in both "
    "train and test"
)
NOTE_OF = {RANDOM: NOTE, PUBLISHED: PUBLISHED_NOTE}
NO_DEV = "no dev split"
NO_DEV_NOTE = f"{NO_DEV} (datarc.valid_ratio: 0): the weights of the last step count, not the best on dev"
FOLDS = 5  # of datarc.num_folds: auto
SPEAKERS, UTTERANCES = "speakers", "utterances"  # of datarc.valid_from
DEV_NOTE = (
    "dev was drawn from train's utterances (datarc.valid_from: utterances), so dev's speakers were trained on; test's "
    "were not"
)
OF_PUBLISHED = (
    "was trained on a corpus's own folds (datarc.protocol published), which may have speakers in both train and test"
)
OF_MODEL = f"{SPEAKER_DEPENDENT}: trained with datarc.protocol random, so its scores are of speakers that it knows"


@dataclass(frozen=True)
class Protocol:
    """How a corpus was split: ``datarc.protocol`` and ``valid_from``, with number and seed of folds by utterance.

    ``published`` is the name only where the corpus's own folds share speakers; else it is ``speaker_disjoint``.

    ``has_dev`` is false where ``datarc.valid_ratio: 0`` leaves no dev split to pick a checkpoint.
    """

    name: str = SPEAKER_DISJOINT
    folds: int | None = None
    seed: int | None = None
    has_dev: bool = True
    valid_from: str = SPEAKERS

    @property
    def is_random(self) -> bool:
        """Whether the folds were drawn by utterance."""
        return self.name == RANDOM

    @property
    def is_dependent(self) -> bool:
        """Whether train and test share speakers."""
        return self.name in DEPENDENT

    @property
    def note(self) -> str | None:
        """What every output says about it, if there is anything to say."""
        said = [NOTE_OF[self.name]] if self.is_dependent else [DEV_NOTE] if self.shares_dev else []
        return "; ".join([*said, *([] if self.has_dev else [NO_DEV_NOTE])]) or None

    @property
    def shares_dev(self) -> bool:
        """Whether train and dev, but not test, share speakers."""
        return self.has_dev and not self.is_dependent and self.valid_from == UTTERANCES

    def shared_by(self, splits: Iterable[str]) -> frozenset[str]:
        """Return those of a corpus's own splits that share speakers with train on purpose."""
        if self.is_dependent:
            return frozenset(splits)
        return frozenset({"dev"} if self.shares_dev else ()) & frozenset(splits)

    def to_metrics(self) -> dict[str, Any]:
        """Return the entry of a metrics file."""
        drawn: dict[str, Any] = {"folds": self.folds, "fold_seed": self.seed} if self.is_random else {}
        drawn |= {"valid_from": self.valid_from} if self.shares_dev else {}
        drawn |= {} if self.has_dev else {"dev": False}
        return {"name": self.name, **drawn, **({} if self.note is None else {"note": self.note})}


DISJOINT = Protocol()


def made_with(config: DataSection, shares: bool | None = False) -> Protocol:
    """Return the protocol of a label table that was split as ``datarc`` says.

    Args:
        config: ``protocol``, ``valid_from`` and, for folds by utterance, ``num_folds`` and ``fold_seed``
        shares: under ``published``, whether train and test share speakers; ``None``: the speakers are not known
    """
    if config.protocol == RANDOM:
        return random_protocol(config)
    if config.protocol == PUBLISHED:
        if shares is None:
            return DISJOINT
        config = config.model_copy(update={"protocol": PUBLISHED if shares else SPEAKER_DISJOINT})
    return Protocol(config.protocol, valid_from=UTTERANCES if config.valid_from == UTTERANCES else SPEAKERS)


def random_protocol(config: DataSection) -> Protocol:
    """Return the protocol of folds drawn by utterance.

    Raises:
        LabelError: ``num_folds`` is no number of folds, or dev is to have speakers of its own
    """
    if config.valid_from == SPEAKERS:
        raise LabelError("datarc.valid_from: speakers contradicts protocol random, which draws dev by utterance")
    folds = FOLDS if config.num_folds == "auto" else config.num_folds
    if not isinstance(folds, int) or folds < 2:
        raise LabelError(
            f"datarc.num_folds: protocol random draws utterances into a number of folds, 2 or more, got "
            f"{config.num_folds}; give a number"
        )
    return Protocol(RANDOM, folds, config.fold_seed)


def is_speaker_dependent(metrics: Mapping[str, Any]) -> bool:
    """Return whether the metrics of a split, as a metrics file has them, are of a training that shares speakers."""
    entry = metrics.get("protocol")
    return isinstance(entry, Mapping) and entry.get("name") in DEPENDENT


def lacks_dev(metrics: Mapping[str, Any]) -> bool:
    """Return whether the metrics of a split, as a metrics file has them, are of a training without a dev split."""
    entry = metrics.get("protocol")
    return isinstance(entry, Mapping) and entry.get("dev") is False


def words_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return what is special about how the corpus was split, from the metrics of a split, in few words."""
    return [*([SPEAKER_DEPENDENT] if is_speaker_dependent(metrics) else []), *([NO_DEV] if lacks_dev(metrics) else [])]


def is_random(recipe: Any) -> bool:
    """Return whether a recipe, as a mapping from YAML or from a checkpoint, asks for ``datarc.protocol: random``."""
    return _protocol_of(recipe) == RANDOM


def note_of_model(recipe: Any) -> str | None:
    """Return what is to be said of a head that was trained with a recipe, if its scores may be of known speakers."""
    return {RANDOM: OF_MODEL, PUBLISHED: OF_PUBLISHED}.get(_protocol_of(recipe))


def _protocol_of(recipe: Any) -> str:
    section: Any = recipe
    for key in ("downstream_expert", "datarc"):
        section = section.get(key) if isinstance(section, Mapping) else None
    name = section.get("protocol") if isinstance(section, Mapping) else None
    return name if isinstance(name, str) else ""


def check_same(path: Path | str, theirs: Any, ours: Any, may_become_random: bool = False) -> None:
    """Refuse a checkpoint under another protocol than it was trained with.

    Args:
        path: the checkpoint
        theirs: its recipe
        ours: the recipe of this run
        may_become_random: whether a run that shares speakers may start from it

    Raises:
        CheckpointError: one of the two shares speakers between train and test, the other does not
    """
    trained, now = is_random(theirs), is_random(ours)
    if trained and not now:
        raise CheckpointError(
            f"{path}: was trained with datarc.protocol random, so it is {SPEAKER_DEPENDENT}, and this recipe is not; "
            "set datarc.protocol: random, or train without it"
        )
    if now and not trained and not may_become_random:
        raise CheckpointError(
            f"{path}: was not trained with datarc.protocol random, which this recipe asks for; leave it out, or train "
            "with it"
        )


# --- folds drawn by utterance -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """The place of an utterance: the number of the fold that tests it, and of those that hold it out for dev."""

    fold: int
    dev: frozenset[int]


def draw(names: Sequence[str], classes: Sequence[str], config: DataSection) -> list[Drawn]:
    """Assign every utterance to the fold that tests it and to those that hold it out for dev, class by class.

    The assignment follows from all names and classes of the corpus and from ``datarc.fold_seed`` alone: it is the same
    on every machine, in every process, and for heads that leave different rows out. The numbers of utterances that two
    folds test differ by at most one, in each class and in all. dev is one in ``1 / valid_ratio`` of the others.

    Args:
        names: of all utterances of the corpus, each once
        classes: class of each, as the corpus names it, ``""`` without one
        config: ``num_folds``, ``fold_seed`` and ``valid_ratio``; without dev where that is 0

    Raises:
        LabelError: fewer utterances than folds
    """
    numbers = fold_numbers(config).values()
    if len(names) < len(numbers):
        raise LabelError(
            f"datarc.num_folds: {len(numbers)} folds cannot be drawn from {len(names)} utterances; ask for fewer"
        )
    strata = dict(zip(names, classes, strict=True))
    folds = _dealt(strata, len(numbers), config.fold_seed, "random fold")
    dev: dict[str, set[int]] = {name: set() for name in names}
    for number in numbers if config.valid_ratio else ():
        turns = max(2, round(1 / config.valid_ratio))
        others = {name: stratum for name, stratum in strata.items() if folds[name] + 1 != number}
        for name, turn in _dealt(others, turns, config.fold_seed, f"random dev {number}").items():
            if turn == 0:
                dev[name].add(number)
    return [Drawn(folds[name] + 1, frozenset(dev[name])) for name in names]


def drawn_dev(names: Sequence[str], classes: Sequence[str], config: DataSection) -> set[str]:
    """Return the utterances of a training set that become dev: one in ``1 / valid_ratio``, class by class.

    Args:
        names: each once
        classes: class of each, ``""`` without one
        config: ``fold_seed`` and ``valid_ratio``
    """
    strata, turns = dict(zip(names, classes, strict=True)), max(2, round(1 / config.valid_ratio))
    return {name for name, turn in _dealt(strata, turns, config.fold_seed, "dev utterances").items() if turn == 0}


def split_of(place: Drawn, number: int) -> str:
    """Return the split of an utterance where fold ``number`` is tested."""
    if place.fold == number:
        return "test"
    return "dev" if number in place.dev else "train"


def fold_numbers(config: DataSection) -> dict[str, int]:
    """Return the numbers of the folds by name: fold1, fold2, …"""
    return {f"fold{number}": number for number in range(1, int(random_protocol(config).folds or 0) + 1)}


def scarce_classes(classes: Iterable[str], config: DataSection) -> dict[str, int]:
    """Return the classes with fewer utterances than folds, which some folds therefore lack."""
    return {
        name: count for name, count in sorted(Counter(classes).items()) if name and count < len(fold_numbers(config))
    }


def _dealt(strata: Mapping[str, str], number: int, seed: int, purpose: str) -> dict[str, int]:
    """Deal names to 0, 1, … in turn, one stratum after the other, within it in an order that only the seed decides."""

    def order(name: str) -> tuple[str, bytes]:
        text = f"{purpose} {seed} {name}".encode("utf-8", "surrogateescape")
        return strata[name], hashlib.sha256(text).digest()

    return {name: turn % number for turn, name in enumerate(sorted(strata, key=order))}
