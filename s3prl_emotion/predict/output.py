"""Results as CSV, JSON or JSON lines, written as they come; files appear whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from s3prl_emotion import __version__
from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.files.writing import writing_text
from s3prl_emotion.predict.answers import Judgement
from s3prl_emotion.predict.files import FileResult
from s3prl_emotion.predict.predictor import About


@dataclass(frozen=True)
class Layout:
    """What is written.

    Attributes:
        about: the checkpoint
        nbest: so many classes by rank, ``None`` for none
        windows: whether there is a time line
        attention: whether weights were kept
    """

    about: About
    nbest: int | None = None
    windows: bool = False
    attention: bool = False

    def __post_init__(self) -> None:
        if self.nbest is not None and not 1 <= self.nbest <= len(self.about.classes):
            known = len(self.about.classes)
            raise UsageError(f"--nbest {self.nbest}: {self.about.head} has {known} classes in this checkpoint")


class Writer(ABC):
    """Writes results into an open file."""

    def __init__(self, file: TextIO, layout: Layout) -> None:
        self.file, self.layout = file, layout

    @abstractmethod
    def write(self, result: FileResult) -> None:
        """Write one result."""

    def end(self) -> None:  # noqa: B027 - most formats end where the last result does
        """Write what comes after the last result."""


class CsvWriter(Writer):
    """A row for each file, and with windows one more for each window, below it."""

    def __init__(self, file: TextIO, layout: Layout) -> None:
        super().__init__(file, layout)
        about = layout.about
        self.table = csv.writer(file, lineterminator="\n")
        self.ranks = [f"top_{rank}" for rank in range(1, (layout.nbest or 0) + 1)]
        columns = ["FileName", *(["window"] if layout.windows else []), "start", "end"]
        columns += ["prediction"] if about.classes else []
        columns += [*self.ranks, *(f"p_{name}" for name in about.classes), *(f"{n}_pred" for n in about.dimensions)]
        columns += [*(["attention"] if layout.attention else []), "error"]
        self.columns = columns
        self.table.writerow(columns)

    def write(self, result: FileResult) -> None:
        """Write the file's row and those of its windows."""
        common = {"FileName": shown(result.name), "error": result.error or "", "attention": result.attention or ""}
        if result.prediction is None:
            self._row(common)
            return
        self._row(common | {"start": 0.0, "end": result.prediction.duration} | self._cells(result.prediction))
        for number, item in enumerate(result.prediction.windows, 1):
            times = {"window": number, "start": item.start, "end": item.end}
            self._row({"FileName": shown(result.name)} | times | self._cells(item.judgement))

    def _row(self, cells: dict[str, Any]) -> None:
        values = [cells.get(name, "") for name in self.columns]
        self.table.writerow([f"{value:.7g}" if isinstance(value, float) else value for value in values])

    def _cells(self, judgement: Judgement) -> dict[str, Any]:
        cells: dict[str, Any] = {"prediction": judgement.label}
        cells |= {f"p_{name}": value for name, value in judgement.probabilities.items()}
        cells |= {f"{name}_pred": value for name, value in judgement.dimensions.items()}
        ranked = judgement.nbest(len(self.ranks))
        return cells | {column: name for column, (name, _) in zip(self.ranks, ranked, strict=True)}


class JsonLinesWriter(Writer):
    """An object a line for each file."""

    def write(self, result: FileResult) -> None:
        """Write a line."""
        self.file.write(f"{self.text(result)}\n")

    def text(self, result: FileResult) -> str:
        """A result as JSON in one line."""
        return json.dumps(self.record(result), allow_nan=False)

    def record(self, result: FileResult) -> dict[str, Any]:
        """A result as plain data."""
        record: dict[str, Any] = {"file": shown(result.name), "error": result.error}
        if result.prediction is None:
            return record
        record |= {"duration": rounded(result.prediction.duration)} | self._said(result.prediction)
        if self.layout.attention:
            record["attention"] = result.attention
        if self.layout.windows:
            record["windows"] = [
                {"start": rounded(item.start), "end": rounded(item.end)} | self._said(item.judgement)
                for item in result.prediction.windows
            ]
        return record

    def _said(self, judgement: Judgement) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.layout.about.classes:
            said["prediction"] = judgement.label
            said["probabilities"] = {name: rounded(value) for name, value in judgement.probabilities.items()}
        if self.layout.nbest:
            pairs = judgement.nbest(self.layout.nbest)
            said["nbest"] = [{"class": name, "probability": rounded(value)} for name, value in pairs]
        if self.layout.about.dimensions:
            said["dimensions"] = {name: rounded(value) for name, value in judgement.dimensions.items()}
        return said


class JsonWriter(JsonLinesWriter):
    """One object: ``model``, what the checkpoint is, and ``predictions``, a list of what JSON lines hold."""

    def __init__(self, file: TextIO, layout: Layout) -> None:
        super().__init__(file, layout)
        about = asdict(layout.about) | {"s3prl-emotion": __version__}
        self.file.write(f'{{"model": {json.dumps(about)},\n"predictions": [')
        self.comma = ""

    def write(self, result: FileResult) -> None:
        """Write an element."""
        self.file.write(f"{self.comma}\n{self.text(result)}")
        self.comma = ","

    def end(self) -> None:
        """Close list and object."""
        self.file.write("\n]}\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "json": JsonWriter, "jsonl": JsonLinesWriter}


def read_format(name: str | None, out: Path | None) -> str:
    """The format that ``--format`` names, else the one of the file's suffix, else CSV.

    Raises:
        UsageError: there is no such format
    """
    if name is None and out is not None:
        name = out.suffix.removeprefix(".").lower()
        if name not in WRITERS:
            raise UsageError(f"--out {out}: its suffix tells no format; end it in .csv, .json or .jsonl, or --format")
    name = name or "csv"
    if name not in WRITERS:
        raise UsageError(f"--format {name}: no such format{nearest(name, WRITERS)}")
    return name


@contextmanager
def written(out: Path | None, name: str, layout: Layout) -> Iterator[Writer]:
    """A writer into ``out``, which appears when the context ends well, or to the standard output.

    Args:
        out: the file, or ``None``
        name: csv, json or jsonl
        layout: what is written

    Raises:
        UsageError: the file cannot be written
    """
    with writing_text(out, UsageError) if out is not None else contextlib.nullcontext(sys.stdout) as file:
        writer = WRITERS[name](file, layout)
        yield writer
        writer.end()
        file.flush()


def rounded(value: float) -> float:
    """To seven digits, which is what float32 tells apart."""
    return float(f"{value:.7g}")


def shown(name: str) -> str:
    """A file's name as text; bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
