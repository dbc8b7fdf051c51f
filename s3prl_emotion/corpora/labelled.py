"""Rows of a label table that have what a head learns, as utterances."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.corpus import DIMENSIONS, LEARNS_CLASSES, NO_CONSENSUS, Corpus, Needs, Utterance
from s3prl_emotion.corpora.folds import line_of, split_table
from s3prl_emotion.corpora.table import MSP_LETTERS, SHARE_PREFIX, read_table
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection

logger = logging.getLogger(__name__)


def read_corpus(path: Path, root: Path, config: DataSection, needs: Needs = LEARNS_CLASSES) -> Corpus:
    """Read a label table and split it as ``datarc`` says.

    Raises:
        LabelError: malformed table, a label that the head needs is missing, unknown class or fold, a speaker in train
            and test
    """
    table, classes = labelled(path, config, needs)
    fold, parts = split_table(table, path, config)
    index = {name: number for number, name in enumerate(classes)}
    splits = {name: utterances(part, root, index) for name, part in parts.items()}
    return Corpus(path, fold, classes, splits)


def labelled(
    path: Path, config: DataSection, needs: Needs, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows of a table that have what a head learns, and the classes; ``partial``: it may lack some of the classes."""
    table = read_table(path, classes=not needs.shares and (needs.classes or config.classes is not None))
    if needs.shares:
        from s3prl_emotion.corpora.distribution import choose_shares

        table, classes = choose_shares(table, path, config, partial)
    else:
        table, classes = choose_classes(table, path, config, needs, partial)
    check_needed(table, path, needs)
    return table, classes


def check_needed(table: pd.DataFrame, path: Path, needs: Needs) -> None:
    """Refuse a table that lacks what the head learns."""
    spreads = [f"{name}Std" for name in DIMENSIONS] if needs.spreads else []
    for column in [*(DIMENSIONS if needs.dimensions else ()), *spreads]:
        if column not in table:
            raise LabelError(f"{path}: no column {column}, which this head learns{nearest(column, table.columns)}")
        empty, negative = table[column].isna(), (table[column] < 0) & (column in spreads)
        if empty.any():
            raise LabelError(f"{path} line {line_of(empty)}: {column} is empty; fill it in or leave the row out")
        if negative.any():
            raise LabelError(f"{path} line {line_of(negative)}: {column} is a standard deviation, but negative")


def choose_classes(
    table: pd.DataFrame, path: Path, config: DataSection, needs: Needs, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Merge classes, then keep the rows of the chosen ones; all where the head needs none and none is named."""
    if not needs.classes and config.classes is None:
        return table, ()
    spelt = set(table["EmoClass"])  # a table may have classes A and B of its own
    merge = {_name(old, spelt): _name(new, spelt) for old, new in config.merge.items()}
    for name in sorted(set(merge) - spelt):
        logger.warning("%s: no utterance has class %r of datarc.merge%s", path, name, nearest(name, spelt))
    table = table.assign(EmoClass=table["EmoClass"].replace(merge))
    present = sorted(set(table["EmoClass"]))
    if config.classes is not None:
        classes = tuple(_name(name, spelt) for name in config.classes)
    else:
        classes = tuple(name for name in present if name != MSP_LETTERS["X"])
    if len(set(classes)) < len(classes) or len(classes) < 2:
        raise LabelError(f"datarc.classes: name at least two classes, each once, got {list(classes)}")
    for name in classes:
        if name not in present and not partial:
            raise LabelError(f"{path}: no utterance has class {name!r} of datarc.classes{nearest(name, present)}")
    kept = table[table["EmoClass"].isin(classes)]
    left_out = table.loc[~table.index.isin(kept.index), "EmoClass"].value_counts()
    if len(left_out):
        counts = ", ".join(f"{name} {count}" for name, count in left_out.items())
        logger.info("%s: %d rows of other classes are left out (%s)", path, left_out.sum(), counts)
    return kept, classes


def _name(name: str, spelt: set[str]) -> str:
    return name if name in spelt else MSP_LETTERS.get(name, name)


def utterances(part: pd.DataFrame, root: Path, index: dict[str, int]) -> tuple[Utterance, ...]:
    """Rows as utterances; ``index`` numbers the classes."""
    none = pd.Series([None] * len(part))
    columns = [part.get(name, none) for name in ("SpkrID", "Gender", "Text")]
    dimensions = _rows(part, DIMENSIONS)
    spreads = _rows(part, [f"{name}Std" for name in DIMENSIONS])
    shares = _rows(part, [f"{SHARE_PREFIX}{name}" for name in index]) if index else [None] * len(part)
    otherwise = NO_CONSENSUS if index else 0
    return tuple(
        Utterance(
            name, root / name, index.get(label, otherwise), _text(who), _text(sex), means, spread, _text(text), share
        )
        for name, label, who, sex, text, means, spread, share in zip(
            part["FileName"], part["EmoClass"], *columns, dimensions, spreads, shares, strict=True
        )
    )


def _rows(part: pd.DataFrame, columns: Sequence[str]) -> list[tuple[float, ...] | None]:
    """Numbers of each row, ``None`` where one is missing."""
    if not set(columns) <= set(part.columns):
        return [None] * len(part)
    numbers = part[list(columns)].to_numpy(dtype=float)
    return [tuple(row) if not any(value != value for value in row) else None for row in numbers.tolist()]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
