"""Read STM files (NIST's segment time marks), which say when somebody speaks in a talk.

A line is ``<file> <channel> <speaker> <begin> <end> [<label>] transcript``, times in seconds; ``;;`` begins a comment.
In TED-LIUM, the audio between segments has the speaker ``inter_segment_gap`` or the transcript
``ignore_time_segment_in_scoring``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IGNORED = "ignore_time_segment_in_scoring"
GAP = "inter_segment_gap"
FIELDS = 5  # least number


@dataclass(frozen=True)
class Cut:
    """A segment of a talk, in seconds."""

    talk: str
    begin: float
    end: float

    def samples(self, rate: int, total: int) -> tuple[int, int]:
        """Return the segment in samples at ``rate`` (Hz), within a file of ``total`` samples."""
        start, stop = (min(total, round(seconds * rate)) for seconds in (self.begin, self.end))
        return start, stop


def read_stm(path: Path) -> Iterator[tuple[int, Cut | str]]:
    """Read the segments with speech.

    Yields:
        number of the line, and the segment or what is wrong with the line
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields or fields[0].startswith(";;"):
                continue
            if len(fields) >= FIELDS and (fields[2] == GAP or IGNORED in [field.lower() for field in fields[FIELDS:]]):
                continue
            yield number, _cut(fields)


def _cut(fields: list[str]) -> Cut | str:
    if len(fields) < FIELDS:
        return f"{len(fields)} fields, at least {FIELDS} are needed"
    talk, _, _, begin, end = fields[:FIELDS]
    try:
        times = float(begin), float(end)
    except ValueError:
        return f"times {begin!r}, {end!r} are no numbers"
    if not (math.isfinite(times[0]) and math.isfinite(times[1]) and 0 <= times[0] < times[1]):
        return f"from {begin} to {end} s is no segment"
    if Path(talk).name != talk:
        return f"{talk!r} is no file name"
    return Cut(talk, *times)
