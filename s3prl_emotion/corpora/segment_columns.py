"""Read ``Start`` and ``End`` of a label table, whose rows are then parts of files, and name the utterances."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from s3prl_emotion.audio.segments import DECIMALS, TIMES, Part, segment_name
from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

START, END = TIMES
FILE = "file of the segment"  # column that is added: FileName then holds the utterance's name
# What pandas writes for a timedelta (0 days 00:00:01.250000), or a time of the clock
TIMEDELTA = re.compile(r"\s*(\d+ days?,? )?\+?\d+:\d\d:\d\d(\.\d+)?\s*")


def name_segments(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Name the rows of a table with ``Start`` and ``End`` after file and times; other tables are returned as they are.

    A row is the whole file where both are empty, or where ``Start`` is 0 and ``End`` is empty.

    Args:
        table: as :func:`~s3prl_emotion.corpora.label_table.read_rows` returns it
        path: the table's path, for messages

    Returns:
        the table with ``a.wav:1.250-3.500`` as ``FileName``, numbers (s, rounded to 1 ms) in ``Start`` and ``End``, NaN
        for whole files, and the file in the column :data:`FILE`

    Raises:
        LabelError: one of the two columns is missing, or a time is none, or lies before another that it must follow
    """
    present = [name for name in TIMES if name in table]
    if not present or "FileName" not in table:
        return table
    if len(present) < 2:
        lacking = END if present == [START] else START
        raise LabelError(f"{path}: has a column {present[0]}, but no column {lacking}; a segment needs both: add it")
    start, end = (_seconds(table[name], path) for name in TIMES)
    start = start.mask(end.isna() & (start == 0))  # as audformat writes a whole file
    for this, other, name, given in ((end, start, END, START), (start, end, START, END)):
        _refuse(this.isna() & other.notna(), table, path, f"{name} is empty, but {given} is not; fill in both times")
    _refuse(end <= start, table, path, "{name}: End does not lie behind Start by 1 ms; correct them", start, end)
    names = [
        segment_name(name, None if begin != begin else Part(begin, stop)) if isinstance(name, str) else name
        for name, begin, stop in zip(table["FileName"].tolist(), start.tolist(), end.tolist(), strict=True)
    ]
    return table.assign(
        FileName=pd.Series(names, index=table.index, dtype=table["FileName"].dtype),
        **{FILE: table["FileName"], START: start, END: end},
    )


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the columns of segments, since its rows are whole files now."""
    return table.drop(columns=[FILE, *TIMES]) if FILE in table else table


def files_and_parts(table: pd.DataFrame) -> tuple[list[str], list[Part | None]]:
    """Return the file of each row, and the part of it that the row is, if it is one."""
    if FILE not in table:
        return table["FileName"].tolist(), [None] * len(table)
    times = zip(*(table[name].tolist() for name in TIMES), strict=True)
    return table[FILE].tolist(), [None if start != start else Part(start, end) for start, end in times]


def parse_seconds(column: pd.Series) -> pd.Series:
    """Return times (s) of numbers and timedeltas, rounded to 1 ms; NaN for empty cells and for what is no time."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    others = column[numbers.isna() & column.notna()].astype(str)
    others = others[others.map(lambda cell: TIMEDELTA.fullmatch(cell) is not None)]
    if len(others):
        numbers[others.index] = pd.to_timedelta(others.str.strip()).dt.total_seconds()
    return numbers.replace([np.inf, -np.inf], np.nan).where(numbers >= 0).round(DECIMALS)


def _seconds(column: pd.Series, path: Path) -> pd.Series:
    times = parse_seconds(column)
    wrong = times.isna() & column.notna()
    if wrong.any():
        cell = shown(str(column[wrong].iloc[0]), 60)
        raise LabelError(
            f"{path} line {int(wrong[wrong].index[0]) + 2}: {column.name} is no time: {cell}; write seconds, as 1.25, "
            "or a timedelta, as 0 days 00:00:01.250000"
        )
    return times


def _refuse(wrong: pd.Series, table: pd.DataFrame, path: Path, what: str, *times: pd.Series) -> None:
    if wrong.any():
        row = wrong[wrong].index[0]
        name = table.loc[row, "FileName"]
        if times:
            name = segment_name(str(name), Part(*(float(column[row]) for column in times)))
        raise LabelError(f"{path} line {int(row) + 2}: {what.replace('{name}', str(name))}")
