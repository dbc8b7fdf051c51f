"""Show text that holds names from elsewhere on a terminal: control characters in it are escaped."""

from __future__ import annotations

import copy
import logging
import os
import sys
from pathlib import Path

from s3prl_emotion.errors import visible
from s3prl_emotion.files.outputs import is_standard_output


def say(*lines: str, about: Path | None = None) -> None:
    """Write lines to standard output; a line break within one is escaped, since it stands in a name.

    Args:
        lines: to write
        about: the output that they are about; if that is standard output, they go to standard error
    """
    stream = sys.stderr if about is not None and is_standard_output(about) else sys.stdout
    stream.write("".join(f"{visible(line)}\n" for line in lines))


class VisibleFormatter(logging.Formatter):
    """Formats log records as the formatter that it replaces, with control characters of names and messages escaped."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.formatter = formatter or logging.Formatter("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record; line breaks of messages and tracebacks stay, those within values do not."""
        record = copy.copy(record)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_value, record.args))
        record.exc_text = None  # other handlers keep theirs
        return visible(self.formatter.format(record), keep="\n\t")


def make_log_visible() -> None:
    """Let the log's handlers that write to the terminal escape control characters."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler and not isinstance(handler.formatter, VisibleFormatter):
            handler.setFormatter(VisibleFormatter(handler.formatter))


def _value(value: object) -> object:
    return visible(str(value)) if isinstance(value, (str, os.PathLike, BaseException)) else value
