"""The one form that labels of every format are read into: rows, folds with their splits, shares, dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from s3prl_emotion.audio.segments import Part, segment_name
from s3prl_emotion.audit.findings import Finding
from s3prl_emotion.corpora.class_names import NO_CLASS
from s3prl_emotion.corpora.corpus import UNKNOWN_SPEAKERS
from s3prl_emotion.corpora.formats.recognise import (
    AUDFORMAT,
    AUDIOFOLDER,
    EMO_SUPERB,
    EMOBOX,
    EXTRACTED,
    FOLDERS,
    SUPERB,
    TABLE,
)

FORMATS = (TABLE, SUPERB, EMOBOX, EMO_SUPERB, FOLDERS, EXTRACTED, AUDIOFOLDER, AUDFORMAT)
TEXTS = ("file", "emotion", "speaker", "gender", "text")
NUMBERS = ("duration", "start", "end")
SEEN = ("train", "dev")  # splits that training uses, to fit or to select a model; all others are tests
Indices = NDArray[np.int64]  # of rows


@dataclass(frozen=True)
class Listing:
    """A corpus as its labels describe it, with all their faults.

    Attributes:
        source: table, list or folder
        form: one of :data:`FORMATS`
        rows: one per labelled utterance; ``file``, ``emotion``, ``speaker``, ``gender`` and ``text`` are text, empty if
            unknown; ``duration``, ``start`` and ``end`` are seconds, NaN if unknown or for a whole file
        folds: row numbers of each split of each fold; every split except train and dev is a test
        classes: classes that the source names, then further ones that its rows have
        shares: shares of the graders, one column per class if there are any; same rows
        dimensions: means and spreads; same rows
        scale: lowest and highest possible mean, if the source says so
        split_by: where the folds come from, for people
        dev_by_design: whether the protocol itself lets train and dev share speakers
        drawn: whether the folds are the suite's own, not the corpus's
        findings: faults that showed while reading
    """

    source: Path
    form: str
    rows: pd.DataFrame
    folds: dict[str, dict[str, Indices]]
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
        """Names of the rows: the file, and the segment if the row is only a part of it."""
        return np.array(
            [
                segment_name(name, None if start != start else Part(start, end))
                for name, start, end in zip(self.rows["file"], self.rows["start"], self.rows["end"], strict=True)
            ],
            dtype=object,
        )

    def column(self, name: str) -> NDArray[np.object_]:
        """Return a column of text, ``[N]``."""
        return self.rows[name].to_numpy(dtype=object)


class RowCollector:
    """Collects rows from several lists, each pair of utterance and class once."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._rows: list[dict[str, object]] = []

    def add(self, **values: object) -> int:
        """Add an utterance and return its row number; the same file, segment and class have the same number."""
        key = (values["file"], values["emotion"], values.get("start"), values.get("end"))
        if key not in self._numbers:
            self._numbers[key] = len(self._rows)
            self._rows.append(values)
        return self._numbers[key]

    def frame(self) -> pd.DataFrame:
        """Return all rows in the form of :attr:`Listing.rows`."""
        return complete_rows(pd.DataFrame(self._rows))


def complete_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Add missing columns, and replace all spellings of an unknown speaker by ``""``."""
    columns = {name: _texts(rows, name) for name in TEXTS} | {
        name: pd.to_numeric(rows[name], errors="coerce") if name in rows else np.nan for name in NUMBERS
    }
    frame = pd.DataFrame(columns, index=rows.index)
    return frame.assign(speaker=frame["speaker"].where(~frame["speaker"].str.lower().isin(UNKNOWN_SPEAKERS), ""))


def _texts(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        return pd.Series("", index=rows.index, dtype=object)
    return rows[name].fillna("").astype(str).str.strip()


def class_names(emotions: Iterable[str], named: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the classes that the source names, in its order, then further ones that rows have."""
    return (*named, *sorted(set(emotions) - NO_CLASS - set(named)))


def as_indices(chosen: Iterable[int]) -> Indices:
    """Indices in the rows as an array."""
    return np.fromiter(chosen, dtype=np.int64)
