"""Read and check label tables: one CSV per corpus, in the convention of MSP-Podcast and EMO-SUPERB."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.class_names import MSP_LETTERS, SHARE_NAMES, spell_out
from s3prl_emotion.errors import LabelError, nearest

TEXT_COLUMNS = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set", "Fold", "Text")
NUMBER_COLUMNS = ("EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd", "Duration")
SOURCE_FILE = "SourceFile"  # in tables of degraded copies: the FileName that the row is a copy of
SHARE_TOLERANCE = 1e-3  # how far a row of grader shares may sum from 1


def read_table(path: Path, classes: bool = True) -> pd.DataFrame:
    """Read and check a label table; unknown columns are kept. MSP's one-letter classes become names.

    Args:
        path: a CSV file, compressed or not
        classes: whether every row must have a class; otherwise a missing class becomes ``""``

    Raises:
        LabelError: names the file, the line and the column at fault
    """
    table = read_rows(path, dict.fromkeys(TEXT_COLUMNS, str))
    if not classes:
        table["EmoClass"] = table["EmoClass"].fillna("") if "EmoClass" in table else ""
    for column in ("FileName", "EmoClass"):
        if column not in table:
            raise LabelError(f"{path}: no column {column}{nearest(column, table.columns)}")
        if table[column].isna().any():
            raise LabelError(f"{path} line {line_of(table[column].isna())}: {column} is empty")
    if table.empty:
        raise LabelError(f"{path}: the table has no rows")
    repeated = table["FileName"].duplicated()
    if repeated.any():
        raise LabelError(f"{path} line {line_of(repeated)}: {table['FileName'][repeated].iloc[0]} is listed twice")
    _check_numbers(table, path)
    table["EmoClass"] = spell_out_letters(table["EmoClass"])
    _check_shares(table, path)
    return table


def read_rows(path: Path, types: Mapping[str, type] | type[str]) -> pd.DataFrame:
    """Read a CSV file, compressed or not, without checking its values; empty cells are NaN.

    Args:
        path: the file
        types: ``str`` for all columns, or types of columns by name

    Raises:
        LabelError: not readable as CSV, or rows with more fields than the header names
    """
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:  # the last: damaged .gz, .zip
        raise LabelError(f"{path}: not readable as CSV: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields as row names and shifts the columns
        raise LabelError(f"{path}: its rows have more fields than its header names; quote texts that hold commas")
    return table


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
            wrong = (numbers.isna() & table[column].notna()) | numbers.isin([float("inf"), float("-inf")])
            if wrong.any():
                raise LabelError(
                    f"{path} line {line_of(wrong)}: {column} is not a number: {str(table[column][wrong].iloc[0])!r}"
                )
            table[column] = numbers


def _check_shares(table: pd.DataFrame, path: Path) -> None:
    named = share_columns(table)
    if not named:
        return
    shares = table[named].apply(pd.to_numeric, errors="coerce")
    wrong = shares.isna().any(axis=1) | (shares < 0).any(axis=1) | ((shares.sum(axis=1) - 1).abs() > SHARE_TOLERANCE)
    if wrong.any():
        total = shares.sum(axis=1)[wrong].iloc[0]
        raise LabelError(
            f"{path} line {line_of(wrong)}: the grader shares ({', '.join(named)}) must be numbers of at least 0 "
            f"that sum to 1, but sum to {total:.4g}"
        )
