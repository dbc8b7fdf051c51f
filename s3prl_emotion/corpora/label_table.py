"""Read and check label tables: one CSV per corpus, in the convention of MSP-Podcast and EMO-SUPERB."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.corpora.class_names import MSP_LETTERS, SHARE_NAMES, spell_out
from s3prl_emotion.corpora.class_spelling import warn_of_no_values
from s3prl_emotion.corpora.formats.reading import is_table, read_rows_of
from s3prl_emotion.corpora.formats.renaming import NO_COLUMNS, renamed_columns
from s3prl_emotion.corpora.formats.speakers import compile_pattern, speakers_of
from s3prl_emotion.corpora.segment_columns import TIMES, name_segments
from s3prl_emotion.corpora.table_file import DECIMAL_COMMA, TableFile, open_table
from s3prl_emotion.corpora.table_values import (
    number_columns,
    refuse_same_files,
    refuse_spelt_apart,
    spelt_apart,
    tidy,
)
from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.limits import shown
from s3prl_emotion.recipe import DataSection

logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set", "Fold", "Text")
NUMBER_COLUMNS = ("EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd", "Duration")
KNOWN = (*TEXT_COLUMNS, *NUMBER_COLUMNS, *TIMES)
SOURCE_FILE = "SourceFile"  # in tables of degraded copies: the FileName that the row is a copy of
SHARE_TOLERANCE = 1e-3  # how far a row of grader shares may sum from 1
# Known columns in other letter case are taken for them; Duration is not, which other tools write as a time of the clock
CASELESS = {name.casefold(): name for name in (*KNOWN, SOURCE_FILE) if name != "Duration"}


def read_table(path: Path, classes: bool = True, config: DataSection | None = None) -> pd.DataFrame:
    """Read and check labels as a label table; unknown columns are kept. MSP's one-letter classes become names.

    In a table with ``Start`` and ``End``, ``FileName`` becomes the name of a part of a file
    (:func:`~s3prl_emotion.corpora.segment_columns.name_segments`).

    Names that differ in letter case alone are refused in ``SpkrID``, ``Gender`` and ``Fold``; classes are not, which a
    recipe may merge (:func:`~s3prl_emotion.corpora.class_spelling.refuse_classes_apart`).

    Args:
        path: a CSV file, compressed or not, or labels in another of the known formats
        classes: whether every row must have a class; otherwise a missing class becomes ``""``
        config: ``columns`` and ``speaker_pattern``; ``None``: columns have their own names

    Raises:
        LabelError: names the file, the line and the column at fault
    """
    types = dict.fromkeys((*TEXT_COLUMNS, *TIMES), str)
    table = read_rows(path, types, columns={} if config is None else config.columns)
    if config is not None and config.speaker_pattern is not None and "FileName" in table:
        table["SpkrID"] = speakers_in_names(table["FileName"], path, config.speaker_pattern)
    if not classes:
        table["EmoClass"] = table["EmoClass"].fillna("") if "EmoClass" in table else ""
    for column in ("FileName", "EmoClass"):
        if column not in table:
            raise LabelError(f"{path}: no column {column}{nearest(column, table.columns)}")
        if table[column].isna().any():
            raise LabelError(f"{path} line {line_of(table[column].isna())}: {column} is empty")
    if table.empty:
        raise LabelError(f"{path}: the table has no rows")
    table = name_segments(table, path)
    refuse_same_files(table["FileName"], path)
    for column in ("SpkrID", "Gender", "Fold"):
        if column in table:
            refuse_spelt_apart(table[column], path)
            warn_of_no_values(table[column], path)
    _check_numbers(table, path)
    table["EmoClass"] = spell_out_letters(table["EmoClass"])
    _check_shares(table, path)
    return table


def read_rows(
    path: Path,
    types: Mapping[str, type] | type[str],
    expected: Sequence[str] = ("FileName",),
    quiet: bool = False,
    columns: Mapping[str, str] = NO_COLUMNS,
) -> pd.DataFrame:
    """Read a CSV file, compressed or not, or labels in another format, without checking values; empty cells are NaN.

    Encoding, separator and decimal commas are recognised, and logged where they are not the usual ones. Spaces around
    names, Unicode forms, Windows' separators and the letter case of known columns are brought into one form.

    Args:
        path: the file
        types: ``str`` for all columns, or types of columns by name
        expected: columns by one of which the separator is recognised
        quiet: whether to log nothing
        columns: names of the file's columns, by the names that they are to have

    Returns:
        the rows; their index is the number of their line in the file, less two

    Raises:
        LabelError: not readable as CSV, a stray quotation mark, a column twice, or rows with more fields than the
            header names
    """
    if not is_table(path):
        return tidy(read_rows_of(path, columns, KNOWN), ())[0]
    file = open_table(path, [*expected, *columns.values()])
    names, notes = _columns(file, columns)
    try:
        table = pd.read_csv(
            io.BytesIO(file.data), sep=file.separator, header=0, names=names, dtype=types, keep_default_na=False,
            na_values=[""], encoding="utf-8",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: not readable as CSV: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields as row names and shifts the columns
        raise LabelError(f"{path}: its rows have more fields than its header names; quote texts that hold commas")
    table.index, short = _lines(file, table)
    classes = [name for name in table.get("EmoClass", pd.Series(dtype=str)).unique() if isinstance(name, str)]
    numbers = number_columns(names, (*NUMBER_COLUMNS, *TIMES), classes)
    table, changed = tidy(table, numbers)
    for name in numbers if types is not str else ():
        if not pd.api.types.is_numeric_dtype(table[name]) and f"{name}: decimal commas" in changed:
            table[name] = pd.to_numeric(table[name])
    if not quiet:
        for note in (*file.notes, *notes, *changed):
            logger.info("%s: %s", path, note)
        if short:
            logger.warning(
                "%s line %d: has fewer cells than the header (%d rows); those missing are empty", path, *short
            )
    return table


def read_columns(path: Path, columns: Mapping[str, str] = NO_COLUMNS) -> list[str]:
    """Return the names of a CSV file's columns, as :func:`read_rows` names them.

    Raises:
        LabelError: as :func:`read_rows`
    """
    return _columns(open_table(path, ["FileName", *columns.values()]), columns)[0]


def speakers_in_names(files: pd.Series, path: Path, pattern: str) -> pd.Series:
    """Return the speaker that ``datarc.speaker_pattern`` finds in each file's name.

    Raises:
        LabelError: it finds none in a name
        UsageError: an invalid pattern
    """
    speakers = speakers_of(files.fillna("").tolist(), compile_pattern(pattern, "datarc.speaker_pattern"))
    for name, speaker in zip(files, speakers, strict=True):
        if not speaker:
            raise LabelError(f"{path}: datarc.speaker_pattern {pattern!r} finds no speaker in {shown(str(name))}")
    return pd.Series(speakers, index=files.index)


def _columns(file: TableFile, columns: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the names of the columns, blank ones as pandas names them, and which were taken for known ones.

    Raises:
        LabelError: two names of one known column
    """
    names = [name or f"Unnamed: {place}" for place, name in enumerate(file.header)]
    names = renamed_columns(names, columns, KNOWN, file.path)
    notes = []
    for place, name in enumerate(names):
        known = CASELESS.get(name.casefold(), name)
        if known == name:
            continue
        if known in names:
            raise LabelError(
                f"{file.path}: the columns {shown(known)} and {shown(name)} differ in letter case alone; rename or "
                "remove one"
            )
        names[place] = known
        notes.append(f"column {name} is read as {known}")
    return names, notes


def _lines(file: TableFile, table: pd.DataFrame) -> tuple[pd.Index, tuple[int, int] | None]:
    """Return each row's line, less two, and the line of the first row that lacks cells with the number of such rows.

    The plain index is kept for a file with one line a row, so that nothing has to be looked up there.
    """
    rows, width = table.shape
    is_plain = file.first_line == 1 and file.breaks == rows + 1
    if is_plain and not (table.iloc[:, -1].isna().any() and file.cells() < (rows + 1) * (width - 1)):
        return table.index, None
    lines, short = [], []
    for line, row in file.rows():
        lines.append(line - 2)
        if len(row) < width:
            short.append(line)
    if len(lines) != rows:
        return table.index, None
    return table.index if is_plain else pd.Index(lines), (short[0], len(short)) if short else None


def line_of(wrong: pd.Series) -> int:
    """Return the line in the file of the first row at fault; the header is line 1.

    Args:
        wrong: whether each row is at fault, indexed by the row's number in the whole table
    """
    return int(wrong[wrong].index.to_numpy()[0]) + 2


def spell_out_letters(classes: pd.Series) -> pd.Series:
    """Turn MSP's one-letter classes into names, if all classes are such letters."""
    if not classes.isin([*MSP_LETTERS, ""]).all():
        return classes
    return classes.map(spell_out)


def share_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of grader shares, which are named after classes; a single such column does not count."""
    known = SHARE_NAMES | {str(name).lower() for name in table["EmoClass"].unique() if name}
    named = [name for name in table.columns if name.lower() in known and name not in TEXT_COLUMNS]
    return named if len(named) >= 2 else []


def share_target(name: str) -> str:
    """Return the column that holds a class's shares after classes were merged and chosen for training."""
    return f"share of {name}"


def _check_numbers(table: pd.DataFrame, path: Path) -> None:
    for column in NUMBER_COLUMNS:
        if column in table:
            numbers = pd.to_numeric(table[column], errors="coerce")
            if np.isfinite(numbers).all():
                table[column] = numbers
                continue
            wrong = (numbers.isna() & table[column].notna()) | numbers.isin([float("inf"), float("-inf")])
            if wrong.any():
                cell = str(table[column][wrong].iloc[0])
                mixed = "; other rows have a decimal point" if DECIMAL_COMMA.fullmatch(cell) else ""
                raise LabelError(f"{path} line {line_of(wrong)}: {column} is not a number: {cell!r}{mixed}")
            table[column] = numbers


def _check_shares(table: pd.DataFrame, path: Path) -> None:
    named = share_columns(table)
    if not named:
        return
    for group in spelt_apart(named):
        raise LabelError(
            f"{path}: the columns {' and '.join(map(shown, group))} differ in letter case alone; remove one"
        )
    shares = table[named].apply(pd.to_numeric, errors="coerce")
    wrong = shares.isna().any(axis=1) | (shares < 0).any(axis=1) | ((shares.sum(axis=1) - 1).abs() > SHARE_TOLERANCE)
    if wrong.any():
        total = shares.sum(axis=1)[wrong].iloc[0]
        raise LabelError(
            f"{path} line {line_of(wrong)}: the grader shares ({', '.join(named)}) must be numbers of at least 0 "
            f"that sum to 1, but sum to {total:.4g}"
        )
