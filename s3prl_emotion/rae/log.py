"""Write the log of a pretraining: a line of JSON for each loss."""

from __future__ import annotations

import json
from pathlib import Path

from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files import outputs
from s3prl_emotion.files.writing import REMEDY, write_text

LOG = "log.jsonl"


def append(folder: Path, step: int, epoch: int, values: dict[str, float]) -> None:
    """Append a line."""
    line = json.dumps({"step": step, "epoch": epoch, **values}) + "\n"
    outputs.append(folder / LOG, line, TrainingError, REMEDY)


def cut_after(folder: Path, step: int) -> None:
    """Drop the lines after a step, which will be repeated, and a line that a killed process left incomplete."""
    path = folder / LOG
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))


def _step(line: str) -> float:
    """Return the step of a line; infinity for an incomplete line."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
