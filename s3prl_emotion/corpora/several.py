"""Several corpora as one (``datarc.corpora``): each with its own labels, classes, folds and scale.

- **Splits.** Each corpus is split as it would be alone, by its ``Fold``, its ``Split_Set`` or folds drawn by speaker.
  train, dev and test are the unions; each corpus's own test split is ``test_<corpus>`` besides, and any further
  partition of its ``Split_Set`` is ``<partition>_<corpus>``. ``test_fold`` (``-v``) picks the fold of that name in
  every corpus that has it. A corpus that has not is tested on its own first fold, and the log says so; a ``test_fold``
  in its entry is its own whatever ``-v`` names. Without ``test_fold``, the first corpus's first fold gives the name.
- **Names.** Utterances and speakers have the corpus's name in front (``iemocap/Ses01F``), so that both stay unique.
- **Classes** are ``datarc.classes``; each corpus's ``merge`` leads there. Rows of other classes are left out, counted.
- **What a corpus lacks** is unknown (``None``; the label of no class) and counts for nothing in loss and metrics. A row
  of which nothing is known that the head learns is left out, counted; a corpus without any other row is refused.
- **Scales.** Where several corpora have dimensions, each names its ``scale``; a linear map brings them to that of the
  first of them, in the recipe's order, and predictions are on that scale too.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora import labelled, table
from s3prl_emotion.corpora.corpus import DIMENSIONS, Corpus, Needs, Utterance, consensus_shares
from s3prl_emotion.corpora.folds import fold_names, split_table
from s3prl_emotion.corpora.part import SOURCE, Part, on_one_scale, read_part
from s3prl_emotion.errors import ConfigError, LabelError, nearest
from s3prl_emotion.recipe import DataSection, DistributionSection

logger = logging.getLogger(__name__)
Splits = dict[str, tuple[Utterance, ...]]
# Keys of a single corpus, and what to do instead where there are several.
ALONE = {
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
        needs: what the head learns; of a single utterance, one of these labels will do

    Raises:
        ConfigError: keys of a single corpus, names that will not do, or no ``classes``
        LabelError: malformed labels, an unknown class or fold, a corpus with nothing that the head learns, scales that
            are missing, or the same audio in train and test
        AudioError: a missing audio folder
    """
    _check(config)
    if (needs.classes or needs.shares) and config.classes is None:
        raise ConfigError("datarc.classes: name the classes, in order, to which the corpora's merge leads")
    parts = [read_part(name, section, config, needs) for name, section in (config.corpora or {}).items()]
    _refuse_same_table(parts)
    parts = on_one_scale(parts, required=needs.dimensions)
    fold, chosen = _folds(parts, config)
    classes = _classes(config, parts)
    splits = _joined(parts, chosen, classes)
    _refuse_lacking(splits, needs, classes)
    _refuse_shared_audio(splits)
    return Corpus(SOURCE, fold, classes, splits)


# --- splits -----------------------------------------------------------------------------------------------------------


def _folds(parts: list[Part], config: DataSection) -> tuple[str, dict[str, DataSection]]:
    """Name of the fold, and each corpus's ``datarc`` with the fold that it is tested on."""
    known = {part.name: fold_names(part.rows, part.path, part.config) for part in parts}
    fold = config.test_fold or parts[0].config.test_fold or known[parts[0].name][0]
    free = [part for part in parts if part.config.test_fold is None]
    there = sorted({name for part in free for name in known[part.name]})
    if free and config.test_fold is not None and fold not in there:
        raise LabelError(f"{SOURCE}: no corpus has fold {fold!r} (datarc.test_fold){nearest(fold, there, most=5)}")
    chosen = {part.name: part.config for part in parts}
    for part in free:
        own = fold if fold in known[part.name] else known[part.name][0]
        if own != fold:
            logger.warning("%s: %s has no fold %s; its own %s is tested on", part.where, part.path, fold, own)
        chosen[part.name] = part.config.model_copy(update={"test_fold": own})
    return fold, chosen


def _classes(config: DataSection, parts: list[Part]) -> tuple[str, ...]:
    """``datarc.classes``; each must occur."""
    for name in config.classes or ():
        share = f"{table.SHARE_PREFIX}{name}"
        if not any(
            (part.rows["EmoClass"] == name).any() or (share in part.rows and (part.rows[share] > 0).any())
            for part in parts
        ):
            present = sorted({word for part in parts for word in part.rows["EmoClass"].unique() if word})
            raise LabelError(f"{SOURCE}: no utterance has class {name!r} of datarc.classes{nearest(name, present)}")
    return tuple(config.classes or ())


def _joined(parts: list[Part], chosen: Mapping[str, DataSection], classes: tuple[str, ...]) -> Splits:
    """train, dev and test of all corpora; then each corpus's own splits for tests."""
    joined: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for part in parts:
        _, frames = split_table(part.rows, part.path, chosen[part.name])
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
    """Rows as utterances under the corpus's name."""
    index = {label: number for number, label in enumerate(classes)}
    found = []
    for item in labelled.utterances(rows, part.root, index):
        speaker = None if item.speaker is None else f"{part.name}/{item.speaker}"
        taught = _taught(item, part.distribution, len(classes))
        found.append(replace(item, name=f"{part.name}/{item.name}", speaker=speaker, taught=taught))
    return found


def _taught(item: Utterance, options: DistributionSection | None, width: int) -> tuple[float, ...]:
    """What a head that learns shares learns of the utterance's class ``[K]``; NaN where that is nothing."""
    unknown = (math.nan,) * width
    if options is None:
        return unknown
    if options.source == "consensus":
        return consensus_shares(item.label, width, options.smoothing)
    return item.shares or unknown


# --- checks -----------------------------------------------------------------------------------------------------------


def _check(config: DataSection) -> None:
    """Refuse what means a single corpus, and names that will not do."""
    if not config.corpora:
        raise ConfigError(f"{SOURCE}: names no corpus; give NAME: {{labels: CSV, root: DIR}}")
    for key, hint in ALONE.items():
        if getattr(config, key):
            raise ConfigError(f"datarc.{key}: does not go with {SOURCE}; {hint}")
    if config.distribution is not None and config.distribution.source == "votes":
        raise ConfigError(f"datarc.distribution: votes are of one corpus; name them in its entry of {SOURCE}")
    _check_names(config.corpora)


def _check_names(names: Iterable[str]) -> None:
    """Names of corpora become part of file names, on disks too that take A and a for the same."""
    seen: dict[str, str] = {}
    for name in names:
        if not CORPUS_NAME.fullmatch(name):
            raise ConfigError(f"{SOURCE}: {name!r} is no name; take letters, digits, _ and -, a letter or digit first")
        if name.lower() in seen:
            raise ConfigError(f"{SOURCE}: {seen[name.lower()]} and {name} differ in case alone; rename one")
        seen[name.lower()] = name


def _refuse_same_table(parts: Iterable[Part]) -> None:
    seen: dict[Path, str] = {}
    for part in parts:
        other = seen.setdefault(part.path.resolve(), part.where)
        if other != part.where:
            raise LabelError(f"{part.where}: {part.path} is {other}'s label table too; name each once")


def _refuse_lacking(splits: Splits, needs: Needs, classes: tuple[str, ...]) -> None:
    """Refuse corpora that together lack what the head learns: nothing would be masked but all."""
    kinds: list[tuple[bool, str, Callable[[Utterance], bool]]] = [
        (needs.classes, f"a class of {', '.join(classes)}", lambda item: item.label >= 0),
        (needs.dimensions, ", ".join(DIMENSIONS), lambda item: item.dimensions is not None),
        (needs.spreads, ", ".join(f"{name}Std" for name in DIMENSIONS), lambda item: item.spreads is not None),
        (needs.shares, "classes to learn", lambda item: not math.isnan((item.taught or (math.nan,))[0])),
    ]
    for wanted, what, known in kinds:
        for split in ("train", "dev") if wanted else ():
            if not any(known(item) for item in splits[split]):
                raise LabelError(f"{SOURCE}: no utterance of {split} has {what}, which this head learns; add a corpus")


def _refuse_shared_audio(splits: Splits) -> None:
    """Corpora may overlap in their files, whatever they call them."""
    held_out = {os.path.abspath(item.path) for item in splits["test"]}
    for split in ("train", "dev"):
        for item in splits[split]:
            if os.path.abspath(item.path) in held_out:
                raise LabelError(f"{SOURCE}: {item.path} is both in test and in {split} ({item.name})")
