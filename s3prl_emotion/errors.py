"""The errors that the suite raises on purpose: one clear line each, saying what, where and how to mend it.

All subclass :class:`EmotionError`, so that the command line can tell bad input (one line, exit code 1) from a defect of
the suite (a traceback). They also subclass ``ValueError``, for callers who know nothing of the suite.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PROGRAM = "s3prl-emotion"
INTERRUPTED = 130  # exit code of a process that was ended by Ctrl-C


class EmotionError(ValueError):
    """Base of all errors that are the input's or the environment's fault, not the suite's."""


class UsageError(EmotionError):
    """The command line names something that is not there or does not fit together."""


class ConfigError(EmotionError):
    """A recipe (YAML) holds an unknown key or a value out of range."""


class LabelError(EmotionError):
    """A label table or a split list is missing, malformed or inconsistent."""


class AudioError(EmotionError):
    """An audio file is missing, unreadable, empty or holds values that are not finite."""


class CheckpointError(EmotionError):
    """A checkpoint is missing, damaged, unsafe to load, or belongs to another head or class list."""


class TrainingError(EmotionError):
    """Training cannot go on: a loss or gradient that is not finite, memory or disk that ran out."""


class StoreError(EmotionError):
    """A feature store cannot be opened or written, or does not fit what is asked of it."""


def nearest(name: object, known: Iterable[object], most: int = 3) -> str:
    """Say which known names are nearest to ``name``, for the end of an error message.

    Args:
        name: what the user wrote
        known: what is there
        most: how many names to offer

    Returns:
        ``"; nearest: a, b"``, or ``"; known: …"`` where nothing is similar and the list is short, or ``""``
    """
    names = [" ".join(str(item).split()) for item in known]  # a line break in a name would break the message
    close = difflib.get_close_matches(str(name), names, n=most, cutoff=0.5)
    if close:
        return f"; nearest: {', '.join(close)}"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def one_line(error: EmotionError) -> str:
    """The error's own line; a data loader's worker wraps it into its traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1] if len(lines) > 1 else lines[0]
