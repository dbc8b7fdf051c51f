"""A corpus of segments: long recordings with a table of parts, and the same utterances as files of their own."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from conftest import PITCH, RATE, TinyCorpus, tone

Row = dict[str, Any]
GAP = 0.2  # s between the segments of a recording


def write_table(path: Path, rows: Sequence[Row], columns: Iterable[str] | None = None) -> Path:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns or rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_segmented(folder: Path, suffix: str = ".wav", takes: int = 2) -> tuple[TinyCorpus, TinyCorpus]:
    """Write a recording of each of six speakers with eight segments; return it, and the same as 48 files.

    Names sort alike in both, and the recordings hold a tone of their own between the segments.
    """
    (folder / "long/calls").mkdir(parents=True)
    (folder / "cut").mkdir()
    rows, files = [], []
    for speaker in range(6):
        at, parts = 0, []
        for number, (name, pitch) in enumerate(PITCH.items()):
            for take in range(takes):
                seed = 100 * speaker + 10 * number + take
                wave = tone(pitch * (1 + 0.02 * speaker), 0.3 + 0.05 * (seed % 7), seed)
                parts += [tone(900.0, GAP, seed + 7), wave]
                at += int(GAP * RATE)
                start, end = at / RATE, (at + len(wave)) / RATE
                at += len(wave)
                who = {"SpkrID": f"s{speaker}", "Gender": "FM"[speaker % 2], "Fold": f"fold{speaker // 2 + 1}"}
                rows.append(
                    {"FileName": f"calls/s{speaker}{suffix}", "Start": start, "End": end, "EmoClass": name, **who}
                )
                files.append({"FileName": f"s{speaker}_{at:06d}.wav", "EmoClass": name, **who})
                soundfile.write(folder / "cut" / files[-1]["FileName"], wave, RATE, "PCM_16")
        soundfile.write(folder / f"long/calls/s{speaker}{suffix}", np.concatenate(parts), RATE)
    long = TinyCorpus(folder / "long", write_table(folder / "segments.csv", rows))
    return long, TinyCorpus(folder / "cut", write_table(folder / "files.csv", files))
