"""``results.jsonl``: one finished run a line, readable after a crash at any byte."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from s3prl_emotion.errors import TrainingError, UsageError

logger = logging.getLogger(__name__)
NAME = "results.jsonl"
FORMAT = 1


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by their id, the last line of each.

    A last line without its line break was being written when the process died: it does not count. Any other line that
    cannot be read is left out with a warning.

    Raises:
        UsageError: the file is of a newer format
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            entry = json.loads(line)
            identity, form = entry["run"], entry["format"]
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: line %d is damaged; its run counts as not done", path, number)
            continue
        if form > FORMAT:
            raise UsageError(f"{path}: line {number} is of format {form}, not known here; upgrade s3prl-emotion")
        found.pop(identity, None)
        found[identity] = entry
    return found


def _whole_lines(path: Path) -> list[bytes]:
    """Lines that end, without the rest."""
    content = path.read_bytes() if path.is_file() else b""
    return content.split(b"\n")[:-1]


class ResultsFile:
    """The file, open for adding; hold :func:`~s3prl_emotion.benchmark.locks.locked` meanwhile.

    Args:
        folder: the benchmark's directory
        name: of the file
    """

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self.path = folder / name

    def append(self, entry: dict[str, Any]) -> None:
        """Add a run, so that it is on the disk when this returns.

        Raises:
            TrainingError: no room, or no right to write; what was there before stays readable
        """
        line = json.dumps({"format": FORMAT, **entry}, default=str).encode() + b"\n"
        end = sum(len(whole) + 1 for whole in _whole_lines(self.path))
        try:
            with self.path.open("r+b" if self.path.exists() else "xb") as file:
                file.seek(end)
                file.truncate()  # a line that a crash tore
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(
                f"{self.path}: could not be written ({error.strerror}); free room, then restart"
            ) from error
