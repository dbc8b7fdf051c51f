"""Bring the values of a label table into one form: spaces, Unicode forms, Windows separators, decimal commas."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from s3prl_emotion.corpora.class_names import SHARE_NAMES
from s3prl_emotion.corpora.corpus import UNKNOWN_SPEAKERS
from s3prl_emotion.corpora.table_file import DECIMAL_COMMA, clean, tidy_file
from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

FILES = ("FileName", "SourceFile")
NAMES = ("EmoClass", "SpkrID", "Gender", "Fold")  # columns whose values are names; Split_Set has a check of its own
# What spreadsheets write where a formula failed, in several languages: #N/A, #NV, #REF!, #BEZUG!, #DIV/0!, #NAME?
ERROR_VALUE = re.compile(r"#(N/A|N/D|N/V|[A-ZÀ-Þ/0]+[!?]|NV|NULL|Getting_Data)", re.IGNORECASE)
NO_VALUES = ("n/a", "na", "nan", "null", "<na>", "none")  # what programs write where a class is missing


def tidy(table: pd.DataFrame, numbers: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Remove spaces around names, bring them into the Unicode form NFC, and turn Windows separators and decimal commas.

    ``FileName`` keeps its Unicode form, since the audio files may have either. ``Text`` and unknown columns stay as
    they are.

    Args:
        table: cells as text, numbers as text or numbers
        numbers: columns that hold numbers

    Returns:
        the table, and what was changed, in words
    """
    changed: dict[str, pd.Series] = {}
    notes = []
    for column in (name for name in FILES if name in table):
        files, said = _tidy_files(table[column])
        if said:
            changed[column] = files
            notes += [f"{column}: {what}" for what in said]
    for column in (name for name in NAMES if name in table):
        renamed = {
            value: clean(value) for value in table[column].unique() if isinstance(value, str) and clean(value) != value
        }
        if renamed:
            changed[column] = _with(table[column], renamed)
            example = next(iter(renamed))
            notes.append(f"{column}: {shown(example)} is read as {shown(renamed[example])}{_more(renamed)}")
    for column in (name for name in numbers if name in table):
        if not pd.api.types.is_numeric_dtype(table[column]):
            points = with_points(table[column])
            if points is not None:
                changed[column] = points
                notes.append(f"{column}: decimal commas")
    return (table.assign(**changed) if changed else table), notes


def with_points(column: pd.Series) -> pd.Series | None:
    """Return a column of text with decimal points in place of commas; ``None`` unless it has decimal commas alone."""
    cells = [cell for cell in column.dropna().unique() if isinstance(cell, str) and cell.strip()]
    if not any("," in cell for cell in cells):
        return None
    if not all(DECIMAL_COMMA.fullmatch(cell) or cell.strip().lstrip("+-").isdigit() for cell in cells):
        return None
    return column.str.replace(",", ".", regex=False)


def number_columns(columns: Iterable[str], known: Sequence[str], classes: Iterable[str]) -> list[str]:
    """Return the columns that hold numbers: ratings, and grader shares, which are named after classes."""
    names = SHARE_NAMES | {name.lower() for name in classes}
    return [name for name in columns if name in known or name.lower() in names]


def _tidy_files(column: pd.Series) -> tuple[pd.Series, list[str]]:
    names = column.tolist()
    if _are_tidy(names):
        return column, []
    renamed = {name: tidy_file(name) for name in names if isinstance(name, str) and _is_untidy(name)}
    if not renamed:
        return column, []
    said = []
    spaced = [name for name in renamed if name.strip() != name]
    windows = [name for name in renamed if "\\" in name]
    if spaced:
        said.append(f"spaces around {shown(spaced[0])} are left out{_more(spaced)}")
    if windows:
        said.append(f"Windows' separators of {shown(windows[0])} are read as /{_more(windows)}")
    return _with(column, renamed), said


def _are_tidy(names: Sequence[object]) -> bool:
    """Return whether no name needs a change, from all of them at once, of which there may be a million."""
    try:
        text = "\n".join(["", *names, ""])  # type: ignore[list-item]
    except TypeError:  # an empty cell
        return False
    if not text.isascii() or "\\" in text:
        return False
    return not any(c in text and (f"\n{c}" in text or f"{c}\n" in text) for c in " \t\r\v\f")


def _is_untidy(name: str) -> bool:
    return "\\" in name or name[:1].isspace() or name[-1:].isspace()


def _with(column: pd.Series, renamed: Mapping[str, str]) -> pd.Series:
    """Return the column with values replaced; a cell of blanks alone becomes an empty one."""
    values = [renamed.get(value, value) or None for value in column.tolist()]
    return pd.Series(values, index=column.index, dtype=column.dtype)


def _more(cases: Mapping[str, str] | Sequence[str]) -> str:
    return f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""


# --- spellings --------------------------------------------------------------------------------------------------------


def spelt_apart(values: Iterable[object]) -> list[list[str]]:
    """Return the groups of names that differ in letter case alone; names of nobody do not count."""
    groups: dict[str, list[str]] = {}
    for value in values:
        if isinstance(value, str) and value.lower() not in UNKNOWN_SPEAKERS:
            groups.setdefault(value.casefold(), []).append(value)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def refuse_spelt_apart(column: pd.Series, path: Path, fix: str = "write them alike") -> None:
    """Raise if two values of a column differ in letter case alone, and would be two classes or two speakers.

    Raises:
        LabelError: names both spellings and their lines
    """
    for group in spelt_apart(column.unique()):
        places = [f"{shown(name)} (line {int(column.index[column == name][0]) + 2})" for name in group[:3]]
        raise LabelError(f"{path}: {column.name}: {' and '.join(places)} differ in letter case alone; {fix}")


def refuse_same_files(files: pd.Series, path: Path) -> None:
    """Raise if a file is listed twice, in whichever Unicode form.

    Raises:
        LabelError: names the line and the file
    """
    names = files.tolist()
    is_ascii = "".join(names).isascii()
    if is_ascii and len(set(names)) == len(names):
        return
    repeated = files.duplicated()
    if not repeated.any() and not is_ascii:
        repeated = files.map(lambda name: unicodedata.normalize("NFC", name)).duplicated()
    if repeated.any():
        line = int(files.index[repeated][0]) + 2
        raise LabelError(f"{path} line {line}: {files[repeated].iloc[0]} is listed twice")


def no_values(column: pd.Series) -> dict[str, int]:
    """Return how often a column holds what spreadsheets or programs write in place of a value, as ``#N/A``."""
    is_class = column.name == "EmoClass"
    wrong = [
        name
        for name in column.unique()
        if isinstance(name, str) and (ERROR_VALUE.fullmatch(name) or (is_class and name.lower() in NO_VALUES))
    ]
    return {name: int((column == name).sum()) for name in wrong}
