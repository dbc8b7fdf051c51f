"""Read and write what a benchmark leaves in its directory: finished runs as JSON lines, the matrix for the report."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.lines import damage_of_about, damage_of_line
from s3prl_emotion.benchmark.plan import Choice, Plan
from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.files import writing as files
from s3prl_emotion.files.outputs import check_regular
from s3prl_emotion.files.plain_json import parse
from s3prl_emotion.files.writing import write_text, writing

logger = logging.getLogger(__name__)
RESULTS = "results.jsonl"  # finished runs
TRIALS = "search.jsonl"  # finished runs of the search for learning rates, in the same format
ABOUT = "matrix.json"  # what the report needs to know of the matrix
SESSION = ".session"  # file with the id of the running session; Ray's workers of other sessions end
MATRIX_COPY = "matrix.yaml"  # the matrix file that was run
FORMAT = 1
NEWEST = 1000  # formats beyond it are damage, not a newer version's


@dataclass(frozen=True)
class Line:
    """A whole line of a file of finished runs.

    Attributes:
        number: of the line, from 1
        data: its bytes, without the line break
        entry: the run, empty where the line is damaged
        damage: what is wrong with it, or ``None``
    """

    number: int
    data: bytes
    entry: dict[str, Any]
    damage: str | None


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a file of finished runs, with what is wrong with each.

    A last line without its line break was being written when the process died: it does not count.

    Raises:
        UsageError: the file is of a newer format
    """
    return [_line(path, number, data) for number, data in enumerate(_whole_lines(path), start=1)]


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the finished runs by their id; of several lines for a run the last counts.

    A line that cannot be read, or whose values have a wrong type or are impossible, is left out with a warning: its run
    counts as not done.

    Raises:
        UsageError: the file is of a newer format
    """
    lines = read_lines(path)
    for warning in damage_warnings(path, lines):
        logger.warning("%s", warning)
    return finished_runs(lines)


def finished_runs(lines: Iterable[Line]) -> dict[str, dict[str, Any]]:
    """Return the runs of the lines that are not damaged by their id; of several lines for a run the last counts."""
    entries: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.damage is None:
            entries.pop(line.entry["run"], None)
            entries[line.entry["run"]] = line.entry
    return entries


def damage_warnings(path: Path, lines: Iterable[Line]) -> list[str]:
    """Return a warning for each damaged line."""
    return [
        f"{path}: line {line.number} is damaged ({line.damage}); its run counts as not done"
        for line in lines
        if line.damage is not None
    ]


def _line(path: Path, number: int, data: bytes) -> Line:
    try:
        entry = parse(data)
    except ValueError as error:
        return Line(number, data, {}, str(error))
    form = entry.get("format") if isinstance(entry, dict) else None
    if type(form) is int and FORMAT < form <= NEWEST:
        raise UsageError(f"{path}: line {number} is of format {form}, not known here; upgrade s3prl-emotion")
    damage = damage_of_line(entry)
    return Line(number, data, entry if damage is None else {}, damage)


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines that end with a line break."""
    content = path.read_bytes() if path.is_file() else b""
    return content.split(b"\n")[:-1]


class ResultsFile:
    """A file of finished runs, one JSON object a line, readable after a crash at any byte.

    Only the process that holds the benchmark's lock may add to it.

    Args:
        folder: the benchmark's directory
        name: of the file
    """

    def __init__(self, folder: Path, name: str = RESULTS) -> None:
        self.path = folder / name

    def set_damaged_aside(self) -> None:
        """Move damaged lines to ``NAME.set_aside``, so that their runs are repeated and nothing of them is lost.

        Raises:
            UsageError: the file is of a newer format
            TrainingError: the disk is full or the folder cannot be written; no line is lost
        """
        lines = read_lines(self.path)
        warnings = damage_warnings(self.path, lines)
        if not warnings:
            return
        aside = self.path.with_name(f"{self.path.name}.set_aside")
        kept = aside.read_bytes() if aside.is_file() else b""
        damaged, whole = (
            b"".join(line.data + b"\n" for line in lines if (line.damage is None) == is_whole)
            for is_whole in (False, True)
        )
        with writing(aside, durable=True) as file:
            file.write(kept + damaged)
        with writing(self.path, durable=True) as file:
            file.write(whole)
        for warning in warnings:
            logger.warning("%s, and the line is kept in %s", warning, aside.name)

    def append(self, entry: dict[str, Any]) -> None:
        """Add a run, and return once it is on the disk.

        Raises:
            TrainingError: the disk is full or the file cannot be written; earlier lines stay readable
        """
        line = json.dumps({"format": FORMAT, **entry}, default=str).encode() + b"\n"
        end = sum(len(whole) + 1 for whole in _whole_lines(self.path))
        check_regular(self.path, TrainingError)
        try:
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
                file.truncate(end)  # drop a line that a crash left incomplete
                file.seek(end)
                try:
                    _write_all(file, line)
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            raise TrainingError(
                f"{self.path}: could not be written ({error.strerror}); free room, then restart"
            ) from error


def _write_all(file: RawIOBase, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def write_about(plan: Plan, choices: dict[str, Choice] | None = None) -> None:
    """Write the matrix for the report, its copy for people, and the upstreams' options for the runs."""
    matrix = plan.matrix
    write_text(plan.out / MATRIX_COPY, matrix.text)
    for path, options in plan.model_options.items():
        write_text(path, yaml.safe_dump(options, sort_keys=False, allow_unicode=True), parents=True)
    about = {
        "title": matrix.section.title,
        "notes": matrix.section.notes,
        "head": matrix.section.head,
        "baseline": matrix.baseline,
        "upstreams": list(matrix.upstreams),
        "systems": {name: system.overrides for name, system in matrix.systems.items()},
        "tests": matrix.section.tests,
        "published": [vars(number) for number in matrix.published],
        "search": {name: vars(choice) for name, choice in (choices or {}).items()},
        "runs": [
            {"run": run.cell.id, "definition": run.definition, "folder": str(run.folder.relative_to(plan.out))}
            for run in plan.runs
        ],
    }
    write_json(plan.out / ABOUT, about)


def read_about(folder: Path) -> dict[str, Any]:
    """Read what the report needs to know of the matrix; nothing where the file is missing.

    Raises:
        UsageError: it is damaged, or something in it has a wrong type
    """
    path = folder / ABOUT
    if not path.is_file():
        return {}
    try:
        about = parse(path.read_bytes())
        wrong = damage_of_about(about)
    except (OSError, ValueError) as error:
        wrong = str(error)
    if wrong is not None:
        raise UsageError(f"{path}: is damaged ({wrong}); start the benchmark again, which writes it")
    return about


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing or damaged."""
    try:
        values = parse(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole or not at all."""
    files.write_json(path, values, indent=1, ensure_ascii=False)
