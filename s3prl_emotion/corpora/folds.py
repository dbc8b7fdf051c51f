"""Split a label table into train, dev and test: by its folds, its official partitions, or folds drawn by speaker.

No speaker is in two splits, unless the table does not know its speakers, ``datarc.protocol`` is ``random`` or, for the
corpus's own folds, ``published``, or dev is drawn from train's utterances (``datarc.valid_from``), as it is where a
corpus has two speakers.

What is drawn follows from the set of speakers and ``datarc.fold_seed`` alone: every machine and every ``--seed`` gets
the same folds, and a table with some rows fewer too, as long as each speaker has a row left. Under ``random``, it
follows from all utterances and their classes instead.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from s3prl_emotion.corpora import protocol
from s3prl_emotion.corpora.corpus import UNKNOWN_SPEAKERS
from s3prl_emotion.corpora.formats.recognise import EMOBOX, form_of
from s3prl_emotion.corpora.label_table import line_of
from s3prl_emotion.corpora.partitions import check_partitions, chosen_column, partition_of
from s3prl_emotion.errors import LabelError, NoFoldsError, nearest
from s3prl_emotion.recipe import DataSection

logger = logging.getLogger(__name__)

PLACE = "place in folds drawn by utterance"  # column that is added to a table under datarc.protocol: random


def split_table(table: pd.DataFrame, path: Path, config: DataSection) -> tuple[str, dict[str, pd.DataFrame]]:
    """Split a table into train, dev, test and any further official partition.

    Args:
        table: checked label table, classes already chosen
        path: the table's path, for messages
        config: ``test_fold``, ``num_folds``, ``fold_seed``, ``valid_from`` and ``valid_ratio``

    Returns:
        the fold's name, and the rows of each split

    Raises:
        LabelError: unknown fold, too few speakers, a speaker in more than one split, or SUPERB's protocol
    """
    config = fitted(table, path, config)
    if config.protocol == protocol.SUPERB:
        raise LabelError(
            f"{path}: datarc.protocol superb needs SUPERB's own split lists (its meta_data folder) as labels"
        )
    if config.protocol == protocol.RANDOM:
        return _at_random(with_drawn_folds(table, path, config), path, config)
    column = chosen_column(table, path, config)
    if column == "Fold":
        fold, parts = _by_fold(table, table["Fold"], path, config)
    elif column == "Split_Set":
        fold, parts = _by_partition(table, path, config)
    else:
        fold, parts = _by_fold(table, drawn_folds(table, path, config), path, config)
    if config.protocol == protocol.PUBLISHED and "SpkrID" in table:
        _warn_of_shared_speakers(parts, path, fold)
    else:
        _refuse_shared_speakers(parts, path, fold, dev_is_apart=config.valid_from != protocol.UTTERANCES)
    return fold, parts


def as_published(path: Path, config: DataSection) -> DataSection:
    """Return ``datarc`` with ``protocol: published`` for EmoBox's lists, some of which share speakers."""
    if config.protocol == protocol.SPEAKER_DISJOINT and form_of(path) == EMOBOX:
        return config.model_copy(update={"protocol": protocol.PUBLISHED})
    return config


def shares_speakers(parts: Mapping[str, pd.DataFrame]) -> bool | None:
    """Return whether a speaker of a test split is in train or dev too; ``None`` if speakers are unknown that may be."""
    if len(_with_seen_speakers(parts)[0]):
        return True
    every = pd.concat(list(parts.values()))
    return False if "SpkrID" in every and every["SpkrID"].map(_is_known).all() else None


def _with_seen_speakers(parts: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of test splits whose speakers are in train or dev, and all rows of test splits."""
    tests = pd.concat([rows for name, rows in parts.items() if name not in ("train", "dev")])
    tests = tests[~tests.index.duplicated()]  # test is one of the official partitions too
    if "SpkrID" not in tests:
        return tests.iloc[:0], tests
    seen = {name for split in ("train", "dev") for name in parts[split]["SpkrID"] if _is_known(name)}
    return tests[tests["SpkrID"].isin(seen)], tests


def _is_known(speaker: object) -> bool:
    return isinstance(speaker, str) and speaker.lower() not in UNKNOWN_SPEAKERS


def _warn_of_shared_speakers(parts: Mapping[str, pd.DataFrame], path: Path, fold: str) -> None:
    affected, tests = map(len, _with_seen_speakers(parts))
    if affected:
        logger.warning(
            "%s: test speakers are also in train or dev: %d of %d test utterances of %s", path, affected, tests, fold
        )


def fitted(table: pd.DataFrame, path: Path, config: DataSection) -> DataSection:
    """Return ``datarc`` with a number of folds and a source of dev in place of ``auto``, and log what is unusual.

    Args:
        table: checked label table, classes already chosen
        path: the table's path, for messages
        config: ``num_folds``, ``valid_from``, ``protocol`` and ``test_fold``
    """
    new: dict[str, int | str] = {}
    is_disjoint = config.protocol == protocol.SPEAKER_DISJOINT
    speakers = table["SpkrID"].nunique() if "SpkrID" in table else 0
    column = chosen_column(table, path, config)
    has_dev = column == "Split_Set" and "dev" in {partition_of(name) for name in table[column].dropna().unique()}
    if config.num_folds == "auto":
        draws = is_disjoint and column is None
        new["num_folds"] = folds = _most_folds(speakers) if draws and speakers > 1 else protocol.FOLDS
        if folds < protocol.FOLDS:
            logger.info("%s: %d speakers, so %d folds (datarc.num_folds: auto)", path, speakers, folds)
    if config.valid_from == "auto" and is_disjoint:
        shares = speakers == 2 and bool(config.valid_ratio) and not has_dev
        new["valid_from"] = protocol.UTTERANCES if shares else protocol.SPEAKERS
    elif config.valid_from == "auto" and config.protocol == protocol.PUBLISHED:
        if column is None:
            raise LabelError(f"{path}: datarc.protocol: published needs a column Fold or Split_Set, and there is none")
        draws = bool(config.valid_ratio) and not has_dev and (speakers == 2 or _may_share(table, column))
        new["valid_from"] = protocol.UTTERANCES if draws else protocol.SPEAKERS
    elif config.valid_from == protocol.UTTERANCES and (has_dev or not config.valid_ratio):
        reason = "valid_ratio is 0" if not config.valid_ratio else "it has a dev partition of its own"
        logger.warning("%s: datarc.valid_from: utterances has no effect, since %s", path, reason)
        new["valid_from"] = protocol.SPEAKERS
    return config.model_copy(update=new)


def _may_share(table: pd.DataFrame, column: str) -> bool:
    """Return whether speakers are in several folds or partitions, or not known."""
    if "SpkrID" not in table or not table["SpkrID"].map(_is_known).all():
        return True
    return bool((table.groupby("SpkrID")[column].nunique() > 1).any())


def _most_folds(speakers: int) -> int:
    """Return the number of folds that ``datarc.num_folds: auto`` draws."""
    return min(protocol.FOLDS, speakers)


def replaced(given: DataSection, config: DataSection) -> dict[str, Any]:
    """Return the values of a fitted ``datarc`` that stand in for ``auto``."""
    keys = [key for key in ("num_folds", "valid_from") if getattr(given, key) == "auto"]
    return {key: getattr(config, key) for key in keys if getattr(config, key) != "auto"}


def _by_fold(
    table: pd.DataFrame, folds: pd.Series, path: Path, config: DataSection
) -> tuple[str, dict[str, pd.DataFrame]]:
    if folds.isna().any():
        raise LabelError(f"{path} line {line_of(folds.isna())}: Fold is empty")
    known = sorted(folds.unique(), key=natural_order)
    fold = config.test_fold or known[0]
    if fold not in known:
        raise LabelError(f"{path}: no fold {fold!r} (datarc.test_fold){nearest(fold, known, most=5)}")
    if len(known) == 1:
        raise NoFoldsError(f"{path}: {known[0]} is the only Fold, so no speaker is left to train on; check the column")
    rest = table[folds != fold]
    train, dev = _hold_out_dev(rest, path, config)
    return fold, {"train": train, "dev": dev, "test": table[folds == fold]}


def _by_partition(table: pd.DataFrame, path: Path, config: DataSection) -> tuple[str, dict[str, pd.DataFrame]]:
    if table["Split_Set"].isna().any():
        raise LabelError(f"{path} line {line_of(table['Split_Set'].isna())}: Split_Set is empty")
    fold = config.test_fold or "fold1"
    if fold != "fold1":
        raise LabelError(f"{path}: no fold {fold!r} (datarc.test_fold); its official partitions are one fold, fold1")
    check_partitions(table["Split_Set"].unique(), path)
    names = table["Split_Set"].map({name: partition_of(name) for name in table["Split_Set"].unique()})
    parts = {name: table[names == name] for name in sorted(names.unique(), key=natural_order)}
    tests = [name for name in parts if name.lower().startswith("test")]
    if "train" not in parts or not tests:
        raise LabelError(f"{path}: Split_Set needs Train and a Test partition, has {', '.join(parts)}")
    if "dev" in parts and not config.valid_ratio:
        logger.warning("%s: datarc.valid_ratio: 0 has no effect, since Split_Set has a dev partition", path)
    if "dev" not in parts:
        parts["train"], parts["dev"] = _hold_out_dev(parts["train"], path, config)
    parts.setdefault("test", parts[tests[0]])
    return fold, {name: parts[name] for name in ["train", "dev", "test", *sorted(parts)]}


def with_drawn_folds(table: pd.DataFrame, path: Path, config: DataSection) -> pd.DataFrame:
    """Add the places of utterances under ``datarc.protocol: random``, before a head leaves any row out.

    Args:
        table: all rows of a label table, with ``EmoClass``
        path: the table's path, for messages
        config: ``protocol``, ``num_folds``, ``fold_seed`` and ``valid_ratio``

    Returns:
        the table, unchanged under other protocols

    Raises:
        LabelError: a number of folds that cannot be drawn
    """
    if config.protocol != protocol.RANDOM or PLACE in table:
        return table
    classes = table["EmoClass"].tolist()
    scarce = [f"{name} {count}" for name, count in protocol.scarce_classes(classes, config).items()]
    if scarce:
        logger.warning("%s: classes with fewer utterances than folds (datarc.num_folds): %s", path, ", ".join(scarce))
    return table.assign(**{PLACE: protocol.draw(table["FileName"].tolist(), classes, config)})


def _at_random(table: pd.DataFrame, path: Path, config: DataSection) -> tuple[str, dict[str, pd.DataFrame]]:
    numbers = protocol.fold_numbers(config)
    fold = config.test_fold or next(iter(numbers))
    if fold not in numbers:
        raise LabelError(f"{path}: no fold {fold!r} (datarc.test_fold){nearest(fold, numbers, most=5)}")
    splits = table[PLACE].map(lambda place: protocol.split_of(place, numbers[fold]))
    return fold, {name: table[splits == name] for name in ("train", "dev", "test")}


def fold_names(table: pd.DataFrame, path: Path, config: DataSection) -> list[str]:
    """Return the names of a table's folds that ``datarc.test_fold`` can choose from, in order."""
    if config.protocol == protocol.RANDOM:
        return list(protocol.fold_numbers(config))
    column = chosen_column(table, path, config)
    if column == "Split_Set":
        return ["fold1"]
    folds = table["Fold"].dropna() if column == "Fold" else drawn_folds(table, path, config)
    return sorted(folds.unique(), key=natural_order)


def drawn_folds(table: pd.DataFrame, path: Path, config: DataSection) -> pd.Series:
    """Assign every row to a speaker-disjoint fold, fold1, fold2, …, whose numbers of speakers differ by at most one.

    Raises:
        LabelError: no or empty SpkrID, one speaker, or fewer speakers than folds
    """
    speakers = _speakers(table, path, NoFoldsError)
    known = sorted(speakers.unique(), key=natural_order)
    if len(known) == 1:
        raise NoFoldsError(
            f"{path}: only one speaker, {known[0]}, so no folds can be speaker-disjoint; datarc.protocol: random draws "
            "folds by utterance"
        )
    if config.num_folds == "speakers":
        return speakers.map({speaker: f"fold{turn}" for turn, speaker in enumerate(known, start=1)})
    number = _most_folds(len(known)) if config.num_folds == "auto" else config.num_folds
    if not 2 <= number <= len(known):
        raise LabelError(
            f"{path}: datarc.num_folds must lie in 2..{len(known)} (its speakers) or be auto, got {number}"
        )
    return speakers.map(speaker_folds(known, number, config.fold_seed))


def speaker_folds(speakers: Iterable[str], number: int, seed: int = 0) -> dict[str, str]:
    """Return the fold of each speaker, fold1, fold2, …, as training draws them.

    Args:
        speakers: each once, in any order
        number: of folds
        seed: ``datarc.fold_seed``
    """
    drawn = shuffled(speakers, seed, "folds")
    return {speaker: f"fold{turn % number + 1}" for turn, speaker in enumerate(drawn)}


def shuffled(speakers: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Return speakers in an order that only they and the seed decide, whatever the machine and the library versions.

    Args:
        speakers: each once, in any order
        seed: ``datarc.fold_seed``
        purpose: what is drawn; the orders of two purposes are independent
    """
    return sorted(speakers, key=lambda name: hashlib.sha256(f"{purpose} {seed} {name}".encode()).digest())


def _hold_out_dev(rows: pd.DataFrame, path: Path, config: DataSection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold out one of ``1 / valid_ratio`` groups of speakers for validation, drawn as folds are, or of utterances.

    None is held out if ``valid_ratio`` is 0.
    """
    if not config.valid_ratio:
        return rows, rows.iloc[:0]
    if config.valid_from == protocol.UTTERANCES:
        dev = protocol.drawn_dev(rows["FileName"].tolist(), rows["EmoClass"].tolist(), config)
        is_dev = rows["FileName"].isin(dev)
        return rows[~is_dev], rows[is_dev]
    speakers = _speakers(rows, path)
    drawn = shuffled(speakers.unique(), config.fold_seed, "dev")
    if len(drawn) < 2:
        raise LabelError(
            f"{path}: only one speaker is left to train and validate on; datarc.valid_from: utterances draws dev from "
            "train's utterances"
        )
    groups = min(max(2, round(1 / config.valid_ratio)), len(drawn))
    held_out = speakers.isin(drawn[::groups])
    return rows[~held_out], rows[held_out]


def _speakers(table: pd.DataFrame, path: Path, lacking: type[LabelError] = LabelError) -> pd.Series:
    if "SpkrID" not in table:
        raise lacking(
            f"{path}: no column SpkrID, without which splits cannot be speaker-disjoint; add it, take speakers from "
            "file names with datarc.speaker_pattern, or draw folds by utterance with datarc.protocol: random"
        )
    if table["SpkrID"].isna().any():
        raise LabelError(f"{path}: SpkrID is empty for {table.loc[table['SpkrID'].isna(), 'FileName'].iloc[0]}")
    return table["SpkrID"]


def _refuse_shared_speakers(parts: dict[str, pd.DataFrame], path: Path, fold: str, dev_is_apart: bool = True) -> None:
    if "SpkrID" not in parts["train"]:
        logger.warning("%s: no column SpkrID, so speakers may be in both train and test unnoticed", path)
        return
    speakers = {name: set(rows["SpkrID"].dropna().unique()) for name, rows in parts.items()}
    for name, others in speakers.items():
        if name in ("train", "dev"):
            continue
        for seen in ("train", "dev"):
            shared = sorted(item for item in others & speakers[seen] if item.lower() not in UNKNOWN_SPEAKERS)
            if shared:
                raise LabelError(f"{path}: speaker {shared[0]} is in both {seen} and {name} of {fold}")
    shared = sorted(item for item in speakers["train"] & speakers["dev"] if item.lower() not in UNKNOWN_SPEAKERS)
    if shared and dev_is_apart:
        raise LabelError(f"{path}: speaker {shared[0]} is in both train and dev of {fold}")


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts fold2 before fold10 and distinguishes 3 from 03."""
    parts = re.findall(r"\d+|\D+", str(name))
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, str(name))]
