"""What every format becomes before it is checked: rows, folds of splits, shares and dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from s3prl_emotion.audit.findings import Finding
from s3prl_emotion.corpora.class_names import NO_CLASS
from s3prl_emotion.corpora.folds import UNKNOWN_SPEAKERS

TABLE, SUPERB, EMOBOX, EMO_SUPERB = "table", "superb", "emobox", "emo-superb"
FORMATS = (TABLE, SUPERB, EMOBOX, EMO_SUPERB)
TEXTS = ("file", "emotion", "speaker", "gender", "text")
NUMBERS = ("duration", "start", "end")
SEEN = ("train", "dev")  # splits that a model is fitted to or chosen by; all others are tests
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """A corpus as its labels have it, faults and all.

    Attributes:
        source: table, list or folder
        form: one of :data:`FORMATS`
        rows: one row a labelled utterance; ``file``, ``emotion``, ``speaker``, ``gender`` and ``text`` are words, empty
            where not known; ``duration``, ``start`` and ``end`` seconds, NaN where not known or for the whole file
        folds: places in ``rows`` by split, by fold; every split but train and dev is a test
        classes: those that the source names and those that its rows have
        shares: of the graders by class; no columns where there are none; same rows
        dimensions: means and spreads; same rows
        scale: least and greatest possible mean, where the source says them
        split_by: how the folds came about, for people
        dev_by_design: whether the protocol itself lets train and dev share speakers
        drawn: whether the folds are the suite's own, not the corpus's
        findings: what reading it has found
    """

    source: Path
    form: str
    rows: pd.DataFrame
    folds: dict[str, dict[str, Places]]
    classes: tuple[str, ...]
    split_by: str
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)
    dimensions: pd.DataFrame = field(default_factory=pd.DataFrame)
    scale: tuple[float, float] | None = None
    dev_by_design: bool = False
    drawn: bool = False
    findings: tuple[Finding, ...] = ()

    @cached_property
    def files(self) -> NDArray[np.object_]:
        """Names of the rows: the file, with the segment where it is a part of one."""
        return np.array(
            [
                name if start != start else f"{name} [{start:.3f}-{end:.3f} s]"
                for name, start, end in zip(self.rows["file"], self.rows["start"], self.rows["end"], strict=True)
            ],
            dtype=object,
        )

    def column(self, name: str) -> NDArray[np.object_]:
        """A column of words, ``[N]``."""
        return self.rows[name].to_numpy(dtype=object)


class RowBook:
    """Rows gathered from several lists, each utterance of one class once."""

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], int] = {}
        self._rows: list[dict[str, object]] = []

    def add(self, **values: object) -> int:
        """Place of an utterance; the same place for the same file, segment and class."""
        key = (values["file"], values["emotion"], values.get("start"), values.get("end"))
        if key not in self._places:
            self._places[key] = len(self._rows)
            self._rows.append(values)
        return self._places[key]

    def frame(self) -> pd.DataFrame:
        """All rows, as :class:`Listing` has them."""
        return complete_rows(pd.DataFrame(self._rows))


def complete_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Give rows every column; unknown speakers, however they are written, become ``""``."""
    columns = {name: _words(rows, name) for name in TEXTS} | {
        name: pd.to_numeric(rows[name], errors="coerce") if name in rows else np.nan for name in NUMBERS
    }
    frame = pd.DataFrame(columns, index=rows.index)
    return frame.assign(speaker=frame["speaker"].where(~frame["speaker"].str.lower().isin(UNKNOWN_SPEAKERS), ""))


def _words(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        return pd.Series("", index=rows.index, dtype=object)
    return rows[name].fillna("").astype(str).str.strip()


def class_names(emotions: Iterable[str], named: Sequence[str] = ()) -> tuple[str, ...]:
    """Classes that the source names, in its order, then further ones that rows have."""
    return (*named, *sorted(set(emotions) - NO_CLASS - set(named)))


def places(chosen: Iterable[int]) -> Places:
    """Places in the rows as an array."""
    return np.fromiter(chosen, dtype=np.int64)
