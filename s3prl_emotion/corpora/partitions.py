"""Choose between a table's two columns of splits, ``Fold`` and ``Split_Set``, and check the values of the latter."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Container, Iterable
from pathlib import Path

from s3prl_emotion.corpora.protocol import RANDOM
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.limits import shown
from s3prl_emotion.recipe import DataSection

logger = logging.getLogger(__name__)

FOLD, SPLIT_SET = "fold", "split_set"  # datarc.partition
COLUMNS = {FOLD: "Fold", SPLIT_SET: "Split_Set"}
OFFICIAL = {"train": "train", "development": "dev", "dev": "dev", "validation": "dev", "valid": "dev"}
TEST = "test"  # how the name of a test partition begins: Test, Test1, Test2
# Words that other corpora use for one of ours, and which of ours
MEANT = {"train": "Train", "training": "Train", "trn": "Train", "development": "Development", "dev": "Development",
         "devel": "Development", "validation": "Development", "valid": "Development", "val": "Development",
         "eval": "Development or Test", "evaluation": "Development or Test", "test": "Test",
         "testing": "Test"}  # fmt: skip
ALIKE = 0.7  # difflib's ratio from which on a value is taken for a misspelling of one of these words


def chosen_column(columns: Container[str], path: Path, config: DataSection) -> str | None:
    """Return the column that splits the table: what ``datarc.partition`` names, or ``Fold``, or ``Split_Set``.

    Args:
        columns: of the table
        path: the table's path, for messages
        config: ``partition``

    Returns:
        the column, or ``None`` if the table has neither

    Raises:
        LabelError: the table lacks the column that is named
    """
    if config.partition is not None:
        column = COLUMNS[config.partition]
        if column not in columns:
            raise LabelError(f"{path}: no column {column}, which datarc.partition: {config.partition} names")
        return column
    return next((column for column in COLUMNS.values() if column in columns), None)


def note_of_splits(columns: Container[str], config: DataSection) -> str | None:
    """Return what every output says where a table has both columns: which holds, and how to choose the other."""
    if config.protocol == RANDOM or not all(column in columns for column in COLUMNS.values()):
        return None
    if config.partition == SPLIT_SET:
        return "the table has Fold and Split_Set: Split_Set holds (datarc.partition: split_set)"
    if config.partition == FOLD:
        return "the table has Fold and Split_Set: Fold holds (datarc.partition: fold)"
    return "the table has Fold and Split_Set: Fold holds; datarc.partition: split_set chooses the other"


def partition_of(name: str) -> str:
    """Return train or dev for their names in published tables, and other names as they are."""
    return OFFICIAL.get(name.lower(), name)


def meant_by(name: str) -> str | None:
    """Return the partition that a value of ``Split_Set`` is nearly, but not; ``None`` for one that is known or new."""
    plain = name.strip().lower()
    if plain == name.lower() and (plain in OFFICIAL or plain.startswith(TEST)):
        return None
    close = difflib.get_close_matches(plain, MEANT, n=1, cutoff=ALIKE)
    if close:
        return MEANT[close[0]]
    return "Test" if plain.startswith(TEST) else None


def check_partitions(names: Iterable[str], path: Path) -> None:
    """Raise if a value of ``Split_Set`` is nearly one of those that are known: its rows would be in no known split.

    Raises:
        LabelError: names the value and the nearest known ones
    """
    tests: dict[str, str] = {}
    for name in names:
        meant = meant_by(name)
        if meant is not None:
            known = ("Train", "Development", "Dev", "Validation", "Valid", "Test")
            more = nearest(name.strip().capitalize(), known)
            raise LabelError(f"{path}: Split_Set {shown(name)} is none of the known partitions: write {meant}{more}")
        if name.lower() not in OFFICIAL:
            other = tests.setdefault(name.lower(), name)
            if other != name:
                raise LabelError(
                    f"{path}: Split_Set: {shown(other)} and {shown(name)} differ in letter case alone; write them alike"
                )
