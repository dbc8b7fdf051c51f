"""Write results as CSV, JSON or JSON lines while they come; a file appears whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from s3prl_emotion import __version__
from s3prl_emotion.audio.segments import DECIMALS, TIMES
from s3prl_emotion.errors import UsageError, nearest, visible
from s3prl_emotion.files.writing import writing_text
from s3prl_emotion.predict.about import About
from s3prl_emotion.predict.files import FileResult
from s3prl_emotion.predict.prediction import SpanPrediction

UTTERANCE = "Utterance"  # column with the names of segments


@dataclass(frozen=True)
class Layout:
    """Which parts of a result are written.

    Attributes:
        about: the model
        nbest: number of classes by rank; ``None`` for none
        windows: whether to write windows
        attention: whether to write the path of the attention weights
        notes: whether some predictions may have notes; those of the model are written anyway
        segments: whether some results are of parts of files: their times are those in the file
    """

    about: About
    nbest: int | None = None
    windows: bool = False
    attention: bool = False
    notes: bool = False
    segments: bool = False

    def notes_of(self, result: FileResult) -> list[str]:
        """Return the notes of the model and of a prediction."""
        own = result.prediction.note if result.prediction is not None else None
        return [*self.about.notes, *([own] if own else [])]

    def __post_init__(self) -> None:
        if self.nbest is not None and not 1 <= self.nbest <= len(self.about.classes):
            known = len(self.about.classes)
            raise UsageError(f"--nbest {self.nbest}: {self.about.head} has {known} classes in this checkpoint")


class Writer(ABC):
    """Writes results to an open file."""

    def __init__(self, file: TextIO, layout: Layout) -> None:
        self.file, self.layout = file, layout

    @abstractmethod
    def write(self, result: FileResult) -> None:
        """Write one result."""

    def end(self) -> None:  # noqa: B027 - most formats end where the last result does
        """Write the end of the file."""


class CsvWriter(Writer):
    """Writes a row for each file, followed by a row for each of its windows."""

    def __init__(self, file: TextIO, layout: Layout) -> None:
        super().__init__(file, layout)
        about = layout.about
        self.table = csv.writer(file, lineterminator="\n")
        self.ranks = [f"top_{rank}" for rank in range(1, (layout.nbest or 0) + 1)]
        self.times = TIMES if layout.segments else ("start", "end")
        columns = [*([UTTERANCE] if layout.segments else []), "FileName", *(["window"] if layout.windows else [])]
        columns += self.times
        columns += ["prediction"] if about.classes else []
        columns += [*self.ranks, *(f"p_{name}" for name in about.classes), *(f"{n}_pred" for n in about.dimensions)]
        columns += [*(["attention"] if layout.attention else []), "error", "warning"]
        columns += ["note"] if about.notes or layout.notes else []
        self.columns = columns
        self.table.writerow(columns)

    def write(self, result: FileResult) -> None:
        """Write the file's row and those of its windows."""
        named = {UTTERANCE: shown(result.name), "FileName": shown(result.file or result.name)}
        common: dict[str, Any] = {**named, "error": result.error or "", "attention": result.attention or ""}
        common |= {"warning": result.warning or ""}
        common |= {"note": "; ".join(self.layout.notes_of(result))}
        if result.part is not None:  # as in the table, of files that cannot be predicted too
            common |= dict(zip(self.times, str(result.part).split("-"), strict=True))
        if result.prediction is None:
            self._row(common)
            return
        if not self.layout.segments:
            common = {**common, "start": 0.0, "end": result.prediction.duration}
        self._row(common | self._cells(result.prediction))
        for number, item in enumerate(result.prediction.windows if self.layout.windows else (), 1):
            times = dict(zip(self.times, within(result, item.start, item.end), strict=True))
            self._row(named | {"window": number} | times | self._cells(item.prediction))

    def _row(self, cells: dict[str, Any]) -> None:
        values = [cells.get(name, "") for name in self.columns]
        self.table.writerow([f"{value:.7g}" if isinstance(value, float) else visible(str(value)) for value in values])

    def _cells(self, prediction: SpanPrediction) -> dict[str, Any]:
        cells: dict[str, Any] = {"prediction": prediction.label}
        cells |= {f"p_{name}": value for name, value in prediction.probabilities.items()}
        cells |= {f"{name}_pred": value for name, value in prediction.dimensions.items()}
        ranked = prediction.nbest(len(self.ranks))
        return cells | {column: name for column, (name, _) in zip(self.ranks, ranked, strict=True)}


class JsonLinesWriter(Writer):
    """Writes a line with a JSON object for each file."""

    def write(self, result: FileResult) -> None:
        """Write a line."""
        self.file.write(f"{self.text(result)}\n")

    def text(self, result: FileResult) -> str:
        """Return a result as JSON in one line."""
        return json.dumps(self.record(result), allow_nan=False)

    def record(self, result: FileResult) -> dict[str, Any]:
        """Return a result as plain data."""
        record: dict[str, Any] = {"file": shown(result.file or result.name), "error": result.error}
        if result.part is not None:
            record |= {"utterance": shown(result.name), "start": result.part.start, "end": result.part.end}
        if result.warning is not None:
            record["warning"] = result.warning
        if notes := self.layout.notes_of(result):
            record["note"] = "; ".join(notes)
        if result.prediction is None:
            return record
        record |= {"duration": rounded(result.prediction.duration)} | self._values(result.prediction)
        if self.layout.attention:
            record["attention"] = result.attention
        if self.layout.windows or result.prediction.windows:
            record["windows"] = [
                dict(zip(("start", "end"), map(rounded, within(result, item.start, item.end)), strict=True))
                | self._values(item.prediction)
                for item in result.prediction.windows
            ]
        return record

    def _values(self, prediction: SpanPrediction) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self.layout.about.classes:
            values["prediction"] = prediction.label
            values["probabilities"] = {name: rounded(value) for name, value in prediction.probabilities.items()}
        if self.layout.nbest:
            pairs = prediction.nbest(self.layout.nbest)
            values["nbest"] = [{"class": name, "probability": rounded(value)} for name, value in pairs]
        if self.layout.about.dimensions:
            values["dimensions"] = {name: rounded(value) for name, value in prediction.dimensions.items()}
        return values


class JsonWriter(JsonLinesWriter):
    """Writes one JSON object: ``model`` describes the checkpoint, or the ensemble with its ``members``, and
    ``predictions`` lists the objects of JSON lines.
    """

    def __init__(self, file: TextIO, layout: Layout) -> None:
        super().__init__(file, layout)
        about = layout.about.to_plain() | {"s3prl-emotion": __version__}
        self.file.write(f'{{"model": {json.dumps(about)},\n"predictions": [')
        self.comma = ""

    def write(self, result: FileResult) -> None:
        """Write an element of the list."""
        self.file.write(f"{self.comma}\n{self.text(result)}")
        self.comma = ","

    def end(self) -> None:
        """Close list and object."""
        self.file.write("\n]}\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "json": JsonWriter, "jsonl": JsonLinesWriter}


def read_format(name: str | None, out: Path | None) -> str:
    """Return the format that ``--format`` names, or that of the file's suffix, or CSV.

    Raises:
        UsageError: no such format
    """
    if name is None and out is not None:
        name = out.suffix.removeprefix(".").lower()
        if name not in WRITERS:
            raise UsageError(f"--out {out}: its suffix is no format; use .csv, .json or .jsonl, or set --format")
    name = name or "csv"
    if name not in WRITERS:
        raise UsageError(f"--format {name}: no such format{nearest(name, WRITERS)}")
    return name


@contextmanager
def written(out: Path | None, name: str, layout: Layout) -> Iterator[Writer]:
    """Yield a writer to a file, which appears once the context ends without an error, or to standard output.

    Args:
        out: the file; ``None`` for standard output
        name: csv, json or jsonl
        layout: which parts to write

    Raises:
        UsageError: the file cannot be written
    """
    with writing_text(out, UsageError) if out is not None else contextlib.nullcontext(sys.stdout) as file:
        writer = WRITERS[name](file, layout)
        yield writer
        writer.end()
        file.flush()


def within(result: FileResult, start: float, end: float) -> tuple[float, float]:
    """Return the times (s) of a window in the file, of a part of which the result may be."""
    if result.part is None:
        return start, end
    return round(result.part.start + start, DECIMALS), round(result.part.start + end, DECIMALS)


def rounded(value: float) -> float:
    """Round to seven digits, the precision of float32."""
    return float(f"{value:.7g}")


def shown(name: str) -> str:
    """Return a file's name as text, with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
