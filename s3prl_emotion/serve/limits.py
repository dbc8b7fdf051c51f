"""Limits on uploads, and the exception that refuses a request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s3prl_emotion.errors import UsageError


class Refused(Exception):  # noqa: N818 - not an error of the server
    """A request is refused with an HTTP status and a one-line message."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


@dataclass(frozen=True)
class Limits:
    """Limits on uploads: bytes, seconds, files, waiting requests.

    Attributes:
        megabytes: largest upload, all its files together (10^6 bytes)
        seconds: longest audio of a file (s)
        files: most files in an upload
        waiting: most uploads that are received, waiting or predicted at a time
    """

    megabytes: float = 50.0
    seconds: float = 600.0
    files: int = 16
    waiting: int = 8

    def __post_init__(self) -> None:
        for flag, value in (("--max_mb", self.megabytes), ("--max_seconds", self.seconds)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{flag} {value:g}: must be above 0")
        for flag, count in (("--max_files", self.files), ("--max_waiting", self.waiting)):
            if count < 1:
                raise UsageError(f"{flag} {count}: must be 1 or more")

    @property
    def size(self) -> int:
        """Largest upload (bytes)."""
        return max(1, int(self.megabytes * 1e6))
