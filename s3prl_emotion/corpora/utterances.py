"""Turn the rows of a label table that have a head's targets into utterances in splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.audio_names import check_below
from s3prl_emotion.corpora.class_names import MSP_LETTERS, NO_AGREEMENT
from s3prl_emotion.corpora.class_spelling import refuse_classes_apart, warn_of_classes
from s3prl_emotion.corpora.corpus import CLASSES_ONLY, DIMENSIONS, NO_CONSENSUS, Corpus, Needs, Utterance
from s3prl_emotion.corpora.folds import as_published, fitted, replaced, shares_speakers, split_table, with_drawn_folds
from s3prl_emotion.corpora.grader_shares import choose_shares
from s3prl_emotion.corpora.label_table import line_of, read_table, share_target
from s3prl_emotion.corpora.partitions import note_of_splits
from s3prl_emotion.corpora.protocol import PUBLISHED, made_with
from s3prl_emotion.corpora.segment_columns import files_and_parts
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.recipe import DataSection

logger = logging.getLogger(__name__)


def read_corpus(path: Path, root: Path, config: DataSection, needs: Needs = CLASSES_ONLY) -> Corpus:
    """Read a label table and split it as ``datarc`` says.

    Raises:
        LabelError: malformed table, a label that the head needs is missing, unknown class or fold, a speaker in train
            and test
    """
    table, classes = read_labelled_rows(path, config, needs)
    config, given = fitted(table, path, as_published(path, config)), config
    fold, parts = split_table(table, path, config)
    index = {name: number for number, name in enumerate(classes)}
    splits = {name: to_utterances(part, root, index) for name, part in parts.items()}
    protocol = made_with(config, shares_speakers(parts) if config.protocol == PUBLISHED else False)
    note, shared = note_of_splits(table, config), protocol.shared_by(splits)
    stood_in = replaced(given, config) | ({"protocol": protocol.name} if protocol.name == PUBLISHED else {})
    return Corpus(path, fold, classes, splits, {}, shared, protocol, note, stood_in)


def read_labelled_rows(
    path: Path, config: DataSection, needs: Needs, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the rows of a label table that have the head's targets, and the classes.

    Args:
        path: label table
        config: ``classes``, ``merge`` and ``distribution``
        needs: the labels that the head trains on
        partial: whether the table may lack some of the classes

    Raises:
        LabelError: malformed table, an unknown class, a label that the head needs is missing, or a path outside of the
            audio folder
    """
    table = read_table(path, classes=not needs.shares and (needs.classes or config.classes is not None), config=config)
    table = with_drawn_folds(table, path, config)
    if needs.shares:
        table, classes = choose_shares(table, path, config, partial)
    else:
        table, classes = choose_classes(table, path, config, needs, partial)
    if not config.allow_outside:
        check_below(table["FileName"].tolist(), path)
    _check_dimensions(table, path, needs)
    return table, classes


def _check_dimensions(table: pd.DataFrame, path: Path, needs: Needs) -> None:
    spreads = [f"{name}Std" for name in DIMENSIONS] if needs.spreads else []
    for column in [*(DIMENSIONS if needs.dimensions else ()), *spreads]:
        if column not in table:
            raise LabelError(f"{path}: no column {column}, which this head learns{nearest(column, table.columns)}")
        empty = table[column].isna()
        if empty.any():
            raise LabelError(f"{path} line {line_of(empty)}: {column} is empty; fill it in or leave the row out")
    if spreads:
        check_spreads(table, path)


def check_spreads(table: pd.DataFrame, path: Path) -> None:
    """Raise if a standard deviation is negative.

    Raises:
        LabelError: names the line and the column
    """
    for column in (f"{name}Std" for name in DIMENSIONS):
        negative = table[column] < 0 if column in table else pd.Series(dtype=bool)
        if negative.any():
            raise LabelError(f"{path} line {line_of(negative)}: {column} is a standard deviation, but negative")


def choose_classes(
    table: pd.DataFrame, path: Path, config: DataSection, needs: Needs, partial: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Merge classes, then keep the rows of the chosen classes.

    All rows are kept if the head trains on no classes and ``datarc.classes`` names none.

    Returns:
        the rows, and the classes in the order of their indices

    Raises:
        LabelError: fewer than two classes, or one that no row has (unless ``partial``)
    """
    if not needs.classes and config.classes is None:
        return table, ()
    own = set(table["EmoClass"].unique())  # a table may have classes A and B of its own, which are no MSP letters
    merge = {_name(old, own): _name(new, own) for old, new in config.merge.items()}
    for name in sorted(set(merge) - own):
        logger.warning("%s: no utterance has class %r of datarc.merge%s", path, name, nearest(name, own))
    table = table.assign(EmoClass=table["EmoClass"].replace(merge))
    present = sorted(table["EmoClass"].unique())
    warn_of_classes(table["EmoClass"], path)
    if config.classes is not None:
        classes = tuple(_name(name, own) for name in config.classes)
    else:
        classes = tuple(name for name in present if name != NO_AGREEMENT)
    if len(set(classes)) < len(classes) or len(classes) < 2:
        raise LabelError(f"datarc.classes: name at least two classes, each once, got {list(classes)}")
    refuse_classes_apart(present, classes, path)
    for name in classes:
        if name not in present and not partial:
            raise LabelError(f"{path}: no utterance has class {name!r} of datarc.classes{nearest(name, present)}")
    kept = table[table["EmoClass"].isin(classes)]
    dropped = table.loc[~table.index.isin(kept.index), "EmoClass"].value_counts()
    if len(dropped):
        counts = ", ".join(f"{name} {count}" for name, count in dropped.items())
        logger.info("%s: %d rows of other classes are left out (%s)", path, dropped.sum(), counts)
    return kept, classes


def _name(name: str, own: set[str]) -> str:
    return name if name in own else MSP_LETTERS.get(name, name)


def to_utterances(rows: pd.DataFrame, root: Path, index: dict[str, int]) -> tuple[Utterance, ...]:
    """Turn rows of a checked label table into utterances.

    Args:
        rows: of the table
        root: audio folder
        index: class index by name; empty where no classes are needed
    """
    # Lists, since iterating over a column of pandas' own strings takes twenty times as long.
    names = ("SpkrID", "Gender", "Text")
    columns = [rows[name].tolist() if name in rows else [None] * len(rows) for name in names]
    dimensions = _number_rows(rows, DIMENSIONS)
    spreads = _number_rows(rows, [f"{name}Std" for name in DIMENSIONS])
    shares = _number_rows(rows, [share_target(name) for name in index]) if index else [None] * len(rows)
    unlabelled = NO_CONSENSUS if index else 0
    return tuple(
        Utterance(
            name,
            root / file,
            index.get(emotion, unlabelled),
            speaker=_text(speaker),
            gender=_text(gender),
            dimensions=means,
            spreads=spread,
            text=_text(text),
            shares=share,
            part=part,
        )
        for name, file, part, emotion, speaker, gender, text, means, spread, share in zip(
            rows["FileName"].tolist(),
            *files_and_parts(rows),
            rows["EmoClass"].tolist(),
            *columns,
            dimensions,
            spreads,
            shares,
            strict=True,
        )
    )


def _number_rows(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[float, ...] | None]:
    """Return each row's numbers, or ``None`` if one of them is missing."""
    if not set(columns) <= set(rows.columns):
        return [None] * len(rows)
    numbers = rows[list(columns)].to_numpy(dtype=float)
    return [tuple(row) if not any(value != value for value in row) else None for row in numbers.tolist()]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
