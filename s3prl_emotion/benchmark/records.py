"""Read and write what a benchmark leaves in its directory: finished runs as JSON lines, the matrix for the report."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.benchmark.plan import Choice, Plan
from s3prl_emotion.errors import TrainingError, UsageError
from s3prl_emotion.files import writing
from s3prl_emotion.files.outputs import check_regular
from s3prl_emotion.files.writing import write_text

logger = logging.getLogger(__name__)
RESULTS = "results.jsonl"  # finished runs
TRIALS = "search.jsonl"  # finished runs of the search for learning rates, in the same format
ABOUT = "matrix.json"  # what the report needs to know of the matrix
SESSION = ".session"  # file with the id of the running session; Ray's workers of other sessions end
MATRIX_COPY = "matrix.yaml"  # the matrix file that was run
FORMAT = 1


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the finished runs by their id; of several lines for a run the last counts.

    A last line without its line break was being written when the process died: it does not count. Any other line that
    cannot be read is skipped with a warning.

    Raises:
        UsageError: the file is of a newer format
    """
    entries: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            entry = json.loads(line)
            identity, form = entry["run"], entry["format"]
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: line %d is damaged; its run counts as not done", path, number)
            continue
        if form > FORMAT:
            raise UsageError(f"{path}: line {number} is of format {form}, not known here; upgrade s3prl-emotion")
        entries.pop(identity, None)
        entries[identity] = entry
    return entries


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
    write_text(plan.out / MATRIX_COPY, matrix.path.read_text(encoding="utf-8"))
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole or not at all."""
    writing.write_json(path, values, indent=1, ensure_ascii=False)
