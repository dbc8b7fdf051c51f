"""Train on several corpora together (``datarc.corpora``), each with its own labels, classes, folds and scale.

- **Splits.** Each corpus is split as if it were the only one: by its ``Fold``, its ``Split_Set`` or folds drawn by
  speaker. train, dev and test are the unions. In addition, each corpus's own test split is ``test_<corpus>``, and any
  further partition of its ``Split_Set`` is ``<partition>_<corpus>``. ``test_fold`` (``-v``) selects the fold of that
  name in every corpus that has it. A corpus without that fold is tested on its own first fold, with a warning; a
  ``test_fold`` in a corpus's entry takes precedence over ``-v``. Without ``test_fold``, it is the first fold of the
  first corpus.
- **Names.** Utterances and speakers are prefixed with the corpus's name (``iemocap/Ses01F``), so that they are unique.
- **Classes** are ``datarc.classes``; each corpus's ``merge`` maps its own classes to them. Rows of other classes are
  dropped and counted.
- **Missing labels** are unknown (``None``, or the label for no class) and are ignored in loss and metrics. A row
  without any of the head's targets is dropped and counted; a corpus that has only such rows is refused.
- **Scales.** Where several corpora have dimensions, each names its ``scale``. They are mapped linearly to the scale of
  the first of them, in the recipe's order, which is also the scale of predictions.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from s3prl_emotion.corpora.corpus import DIMENSIONS, Corpus, Needs, Utterance, consensus_shares, known_speaker
from s3prl_emotion.corpora.folds import fitted, fold_names, replaced, split_table
from s3prl_emotion.corpora.label_table import share_target
from s3prl_emotion.corpora.partitions import note_of_splits
from s3prl_emotion.corpora.protocol import PUBLISHED, UTTERANCES, made_with
from s3prl_emotion.corpora.several_part import SOURCE, Part, on_one_scale, read_part
from s3prl_emotion.corpora.utterances import to_utterances
from s3prl_emotion.errors import ConfigError, LabelError, nearest
from s3prl_emotion.recipe import DataSection, DistributionSection

logger = logging.getLogger(__name__)
Splits = dict[str, tuple[Utterance, ...]]
# Keys that mean a single corpus, and what to use instead with several.
SINGLE_CORPUS_KEYS = {
    "labels": "each corpus has its own; leave it out (labels: null)",
    "root": "each corpus has its own; leave it out (root: null)",
    "merge": "give each corpus its own",
    "degraded": "name each table of copies in extra_tests, with the split that is tested on",
    "degrade": "name copies of s3prl-emotion degrade in extra_tests, with the split that is tested on",
}
CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_corpora(config: DataSection, needs: Needs) -> Corpus:
    """Read every label table of ``datarc.corpora``, split each, and join them.

    Args:
        config: ``datarc``
        needs: the labels that the head trains on; each utterance must have at least one of them

    Raises:
        ConfigError: keys that mean a single corpus, invalid names, or no ``classes``
        LabelError: malformed labels, an unknown class or fold, a corpus without any of the head's targets, a missing
            scale, or the same audio in train and test
        AudioError: a missing audio folder
    """
    parts = _read_parts(config, needs)
    fold, configs = _choose_folds(parts, config)
    classes = _classes(config, parts)
    splits = _join(parts, configs, classes)
    _refuse_lacking(splits, needs, classes, ("train", "dev") if config.valid_ratio or splits["dev"] else ("train",))
    _refuse_shared_audio(splits)
    alike = _fitted_alike(config, configs.values())
    shares = any(own.valid_from == UTTERANCES for own in configs.values())
    if shares:
        config = config.model_copy(update={"valid_from": UTTERANCES})
    dependent = _shares_speakers(splits, {name for name, own in configs.items() if own.protocol == PUBLISHED})
    protocol = made_with(config.model_copy(update={"protocol": PUBLISHED}) if dependent else config, dependent)
    both = {part.name: note_of_splits(part.rows, configs[part.name]) for part in parts}
    note = "; ".join(f"{name}: {said}" for name, said in both.items() if said is not None) or None
    return Corpus(SOURCE, fold, classes, splits, {}, protocol.shared_by(splits), protocol, note, alike)


def list_corpora(config: DataSection, needs: Needs) -> tuple[list[Utterance], tuple[str, ...]]:
    """Read every label table of ``datarc.corpora`` without splitting it.

    Returns:
        the utterances that have one of the labels in ``needs``, and the classes

    Raises:
        ConfigError: as in :func:`read_corpora`
        LabelError: malformed labels, an unknown class, or a missing scale
        AudioError: a missing audio folder
    """
    parts = _read_parts(config, needs)
    classes = _classes(config, parts)
    return [item for part in parts for item in _utterances(part, part.rows, classes)], classes


def _read_parts(config: DataSection, needs: Needs) -> list[Part]:
    """Read the corpora, on one scale."""
    _check_config(config)
    if (needs.classes or needs.shares) and config.classes is None:
        raise ConfigError("datarc.classes: name the classes, in order, to which each corpus's merge maps its own")
    parts = [read_part(name, section, config, needs) for name, section in (config.corpora or {}).items()]
    _refuse_same_table(parts)
    return on_one_scale(parts, required=needs.dimensions)


def _shares_speakers(splits: Splits, published: Container[str]) -> bool:
    """Return whether corpora whose own folds hold have a speaker in both train or dev and a test split."""
    speakers = {
        name: {item.speaker for item in items if item.corpus in published and known_speaker(item.speaker) is not None}
        for name, items in splits.items()
    }
    seen = speakers["train"] | speakers["dev"]
    return any(seen & others for name, others in speakers.items() if name not in ("train", "dev"))


def _fitted_alike(config: DataSection, configs: Iterable[DataSection]) -> dict[str, Any]:
    """Return what stood in for ``auto`` in all corpora alike."""
    every = [replaced(config, own) for own in configs]
    return {key: value for key, value in every[0].items() if all(own[key] == value for own in every)}


# --- splits -----------------------------------------------------------------------------------------------------------


def _choose_folds(parts: list[Part], config: DataSection) -> tuple[str, dict[str, DataSection]]:
    """Return the fold's name, and each corpus's ``datarc`` with the fold that it is tested on."""
    known = {part.name: fold_names(part.rows, part.path, part.config) for part in parts}
    fold = config.test_fold or parts[0].config.test_fold or known[parts[0].name][0]
    free = [part for part in parts if part.config.test_fold is None]
    available = sorted({name for part in free for name in known[part.name]})
    if free and config.test_fold is not None and fold not in available:
        raise LabelError(f"{SOURCE}: no corpus has fold {fold!r} (datarc.test_fold){nearest(fold, available, most=5)}")
    configs = {part.name: part.config for part in parts}
    for part in free:
        own = fold if fold in known[part.name] else known[part.name][0]
        if own != fold:
            logger.warning("%s: %s has no fold %s; its own %s is tested on", part.where, part.path, fold, own)
        configs[part.name] = part.config.model_copy(update={"test_fold": own})
    return fold, {part.name: fitted(part.rows, part.path, configs[part.name]) for part in parts}


def _classes(config: DataSection, parts: list[Part]) -> tuple[str, ...]:
    """Return ``datarc.classes`` and check that each of them occurs."""
    for name in config.classes or ():
        share = share_target(name)
        if not any(
            (part.rows["EmoClass"] == name).any() or (share in part.rows and (part.rows[share] > 0).any())
            for part in parts
        ):
            present = sorted({word for part in parts for word in part.rows["EmoClass"].unique() if word})
            raise LabelError(f"{SOURCE}: no utterance has class {name!r} of datarc.classes{nearest(name, present)}")
    return tuple(config.classes or ())


def _join(parts: list[Part], configs: Mapping[str, DataSection], classes: tuple[str, ...]) -> Splits:
    """Return train, dev and test of all corpora together, then each corpus's own test splits."""
    joined: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for part in parts:
        _, frames = split_table(part.rows, part.path, configs[part.name])
        for split, rows in frames.items():
            items = _utterances(part, rows, classes)
            if split in ("train", "dev", "test"):
                joined[split] += items
            if split not in ("train", "dev"):
                own = f"{split}_{part.name}"
                if own in joined:
                    raise LabelError(f"{part.where}: two splits would be called {own}; rename a corpus")
                joined[own] = items
    return {name: tuple(items) for name, items in joined.items()}


def _utterances(part: Part, rows: pd.DataFrame, classes: tuple[str, ...]) -> list[Utterance]:
    """Turn rows into utterances that are prefixed with the corpus's name."""
    index = {label: number for number, label in enumerate(classes)}
    utterances = []
    for item in to_utterances(rows, part.root, index):
        speaker = None if item.speaker is None else f"{part.name}/{item.speaker}"
        target = _target_shares(item, part.distribution, len(classes))
        name = f"{part.name}/{item.name}"
        utterances.append(replace(item, name=name, speaker=speaker, corpus=part.name, target_shares=target))
    return utterances


def _target_shares(item: Utterance, options: DistributionSection | None, width: int) -> tuple[float, ...]:
    """Return the training target ``[K]`` of a head that learns shares; NaN without one."""
    unknown = (math.nan,) * width
    if options is None:
        return unknown
    if options.source == "consensus":
        return consensus_shares(item.label, width, options.smoothing)
    return item.shares or unknown


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_config(config: DataSection) -> None:
    """Raise if a key means a single corpus, or a corpus's name is invalid."""
    if not config.corpora:
        raise ConfigError(f"{SOURCE}: names no corpus; add NAME: {{labels: CSV, root: DIR}}")
    for key, hint in SINGLE_CORPUS_KEYS.items():
        if getattr(config, key):
            raise ConfigError(f"datarc.{key}: does not go with {SOURCE}; {hint}")
    if config.distribution is not None and config.distribution.source == "votes":
        raise ConfigError(f"datarc.distribution: votes belong to one corpus; name them in its entry of {SOURCE}")
    _check_names(config.corpora)


def _check_names(names: Iterable[str]) -> None:
    """Check the names, which become parts of file names, on case-insensitive file systems too."""
    seen: dict[str, str] = {}
    for name in names:
        if not CORPUS_NAME.fullmatch(name):
            raise ConfigError(
                f"{SOURCE}: {name!r} is no valid name; use letters, digits, _ and -, with a letter or digit first"
            )
        if name.lower() in seen:
            raise ConfigError(f"{SOURCE}: {seen[name.lower()]} and {name} differ only in case; rename one")
        seen[name.lower()] = name


def _refuse_same_table(parts: Iterable[Part]) -> None:
    seen: dict[Path, str] = {}
    for part in parts:
        other = seen.setdefault(part.path.resolve(), part.where)
        if other != part.where:
            raise LabelError(f"{part.where}: {part.path} is {other}'s label table too; name each once")


def _refuse_lacking(splits: Splits, needs: Needs, classes: tuple[str, ...], needed: tuple[str, ...]) -> None:
    """Raise if a needed split has no label for one of the head's targets in any corpus: every row would be masked."""
    kinds: list[tuple[bool, str, Callable[[Utterance], bool]]] = [
        (needs.classes, f"a class of {', '.join(classes)}", lambda item: item.label >= 0),
        (needs.dimensions, ", ".join(DIMENSIONS), lambda item: item.dimensions is not None),
        (needs.spreads, ", ".join(f"{name}Std" for name in DIMENSIONS), lambda item: item.spreads is not None),
        (needs.shares, "classes to learn", lambda item: not math.isnan((item.target_shares or (math.nan,))[0])),
    ]
    for wanted, what, known in kinds:
        for split in needed if wanted else ():
            if not any(known(item) for item in splits[split]):
                raise LabelError(f"{SOURCE}: no utterance of {split} has {what}, which this head learns; add a corpus")


def _refuse_shared_audio(splits: Splits) -> None:
    """Raise if an audio file, or a segment of one, is in train or dev and in test, under whatever names."""
    held_out = {(os.path.abspath(item.path), item.part) for item in splits["test"]}
    for split in ("train", "dev"):
        for item in splits[split]:
            if (os.path.abspath(item.path), item.part) in held_out:
                raise LabelError(f"{SOURCE}: {item.place} is both in test and in {split} ({item.name})")
