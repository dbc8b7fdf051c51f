"""Label tables: one CSV per corpus, in the convention that MSP-Podcast and EMO-SUPERB users know."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.folds import line_of
from s3prl_emotion.errors import LabelError, nearest

SOURCE = "SourceFile"  # column: FileName of what a copy was made from

logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set", "Fold", "Text")
NUMBER_COLUMNS = ("EmoAct", "EmoVal", "EmoDom", "EmoActStd", "EmoValStd", "EmoDomStd", "Duration")
SHARE_PREFIX = "share of "  # columns of the shares as a head learns them
SHARE_TOLERANCE = 1e-3  # how far a row of grader shares may sum from 1
MSP_LETTERS = {
    "A": "angry", "S": "sad", "H": "happy", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt",
    "N": "neutral", "O": "other", "X": "no agreement",
}  # fmt: skip
# Names under which published corpora have columns of grader shares; classes of the table itself count too.
SHARE_NAMES = frozenset({
    "angry", "anger", "sad", "sadness", "happy", "happiness", "surprise", "fear", "disgust", "contempt", "neutral",
    "other", "frustrated", "frustration", "excited", "excitement", "calm", "boredom",
})  # fmt: skip


def read_table(path: Path, classes: bool = True) -> pd.DataFrame:
    """Read and check a label table; unknown columns are kept. MSP's one-letter classes become names.

    Args:
        path: a CSV file, compressed or not
        classes: whether every row must have a class; else a missing one counts as a class without name

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
    twice = table["FileName"].duplicated()
    if twice.any():
        raise LabelError(f"{path} line {line_of(twice)}: {table['FileName'][twice].iloc[0]} is listed twice")
    _check_numbers(table, path)
    table["EmoClass"] = spelt_out(table["EmoClass"])
    _check_shares(table, path)
    return table


def read_rows(path: Path, types: Mapping[str, type] | type[str]) -> pd.DataFrame:
    """Read a CSV file, compressed or not, unchecked; empty cells are NaN.

    Args:
        path: the file
        types: ``str``, or types of columns by name

    Raises:
        LabelError: not readable as CSV, or rows with more fields than the header names
    """
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:  # the last: damaged .gz, .zip
        raise LabelError(f"{path}: not readable as CSV: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the surplus for row names, and shifts the columns
        raise LabelError(f"{path}: its rows have more fields than its header names; quote texts that hold commas")
    return table


def spelt_out(classes: pd.Series) -> pd.Series:
    """MSP's one-letter classes as names, where there are no others."""
    if not classes.isin([*MSP_LETTERS, ""]).all():
        return classes
    return classes.map(lambda name: MSP_LETTERS.get(name, name))


def share_columns(table: pd.DataFrame) -> list[str]:
    """Columns of the shares of graders: those named as a class; none where there is but one."""
    known = SHARE_NAMES | {str(name).lower() for name in table["EmoClass"].unique() if name}
    named = [name for name in table.columns if name.lower() in known and name not in TEXT_COLUMNS]
    return named if len(named) >= 2 else []


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
