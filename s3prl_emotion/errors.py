"""Errors that the suite raises on purpose: each is one line that says what is wrong, where, and how to fix it.

All subclass :class:`EmotionError`, so that the command line can tell bad input (one line, exit code 1) from a bug in
the suite (a traceback). They also subclass ``ValueError``, for callers who do not know the suite.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

PROGRAM = "s3prl-emotion"
INTERRUPTED = 130  # exit code after Ctrl-C
LONGEST_NAME = 200  # characters of a name that are compared with the known ones
LONGEST_LINE = 2000  # characters of a message
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal runs, that turn the direction of text or end a line; and bytes that are not UTF-8."""
OUT_OF_MEMORY = (  # in messages of torch, its libraries and the system
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "ALLOC_FAILED",
    "could not create a memory object",
)


class EmotionError(ValueError):
    """Base of all errors caused by the input or the environment, not by the suite.

    A message that quotes a huge value is shortened in its middle, so that what is wrong and the remedy stay. Control
    characters, which names from elsewhere may hold, are escaped.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_shortened(visible(arg, keep="\n\t")) if isinstance(arg, str) else arg for arg in args))


class UsageError(EmotionError):
    """The command line names something that does not exist, or options that do not fit together."""


class ConfigError(EmotionError):
    """A recipe (YAML) has an unknown key or a value out of range."""


class LabelError(EmotionError):
    """A label table or a split list is missing, malformed or inconsistent."""


class NoFoldsError(LabelError):
    """A label table has no folds, and none can be drawn: nothing can be tested, though all rows can be used."""


class AudioError(EmotionError):
    """An audio file is missing, unreadable or empty, or has samples that are not finite."""


class BeyondEndError(AudioError):
    """A segment lies beyond the end of its file; ``where`` says where that is."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what to build the error from, in another process too."""
        return type(self), (self.args[0], self.where)


class CheckpointError(EmotionError):
    """A checkpoint is missing, damaged, unsafe to load, or belongs to another head or class list."""


class TrainingError(EmotionError):
    """Training cannot continue: a loss or gradient that is not finite, or no memory or disk space left."""


class LoaderError(EmotionError):
    """A process that loads data died, or does not answer."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's bytes are not those that were written: an older one may still be whole."""


class StoreError(EmotionError):
    """A feature store cannot be opened or written, or does not match the request."""


def nearest(name: object, known: Iterable[object], most: int = 3) -> str:
    """Return the end of an error message that names the known names nearest to ``name``.

    Args:
        name: what the user wrote
        known: the names to choose from
        most: largest number of names to offer

    Returns:
        ``"; nearest: a, b"``; if none is similar, ``"; known: …"`` for a short list and ``""`` for a long one
    """
    names = [" ".join(str(item).split()) for item in known]  # a line break in a name would break the message
    close = difflib.get_close_matches(str(name)[:LONGEST_NAME], names, n=most, cutoff=0.5)
    if close:
        return f"; nearest: {', '.join(close)}"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def visible(text: str, keep: str = "") -> str:
    r"""Return text with control characters escaped, as a terminal and a line of a table need it.

    Args:
        text: of any origin
        keep: characters to leave as they are

    Example:
        >>> visible("a\x1b[2J\n\u202egpj.wav")
        'a\\x1b[2J\\n\\u202egpj.wav'
    """
    return UNSEEN.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory does not suffice, on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, not imported here
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(words in str(error) for words in OUT_OF_MEMORY)


def one_line(error: EmotionError) -> str:
    """Return the error's own line, without the traceback that a data loader's worker wraps around it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if not any(line.startswith("Traceback (most recent call last)") for line in lines):
        return " ".join(line.strip() for line in lines)  # a name may hold a line break
    return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1]


def _shortened(message: str) -> str:
    """Shorten the lines of a message; there are several if a data loader's worker has put its traceback ahead."""
    if len(message) <= LONGEST_LINE:
        return message
    half = LONGEST_LINE // 2
    return "\n".join(
        line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}" for line in message.split("\n")
    )
