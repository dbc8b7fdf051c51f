"""The log of a pretraining: a line of JSON each time a loss is known."""

from __future__ import annotations

import json
from pathlib import Path

from s3prl_emotion.files.writing import write_text

LOG = "log.jsonl"


def append(folder: Path, step: int, epoch: int, values: dict[str, float]) -> None:
    """Add a line."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")


def cut_after(folder: Path, step: int) -> None:
    """Drop the lines that came after a step, which will be made again, and what a killed process wrote half."""
    path = folder / LOG
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))


def _step(line: str) -> float:
    """Of a line; beyond all others where it is not whole."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
