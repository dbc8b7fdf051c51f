"""Check the types and ranges of plain data that was read from a file, and say what is wrong where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from s3prl_emotion.limits import shown

LARGEST_COUNT = 2**53
LONGEST_TEXT = 10_000  # characters of a name
Check = Callable[[Any], "str | None"]
"""Returns what is wrong with a value, or ``None``: ``must be a count, got 'x'``, or ``name: must be …``."""


def must(expected: str, value: Any) -> str:
    """Return what is wrong with a value that is not what was expected."""
    return f"must be {expected}, got {shown(value, 60)}"


def text(value: Any) -> str | None:
    """Check a name."""
    return None if isinstance(value, str) and len(value) <= LONGEST_TEXT else must("text", value)


def count(value: Any) -> str | None:
    """Check a whole number from 0."""
    return None if type(value) is int and 0 <= value <= LARGEST_COUNT else must("a whole number from 0", value)


def integer(value: Any) -> str | None:
    """Check a whole number."""
    return None if type(value) is int and abs(value) <= LARGEST_COUNT else must("a whole number", value)


def boolean(value: Any) -> str | None:
    """Check a truth value."""
    return None if isinstance(value, bool) else must("true or false", value)


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """Return the check of a finite number from ``low`` to ``high``, but for rounding."""
    ends = {
        (True, True): f"a number from {low:g} to {high:g}",
        (True, False): f"a number from {low:g}",
        (False, True): f"a number to {high:g}",
        (False, False): "a number",
    }
    expected = ends[math.isfinite(low), math.isfinite(high)]

    def check(value: Any) -> str | None:
        known = type(value) in (int, float) and math.isfinite(value) and low - 1e-6 <= value <= high + 1e-6
        return None if known else must(expected, value)

    return check


def optional(check: Check) -> Check:
    """Return the check of a value that may be ``None``."""
    return lambda value: None if value is None else check(value)


def listing(check: Check, length: int | None = None) -> Check:
    """Return the check of a list whose entries all pass a check."""

    def of_list(value: Any) -> str | None:
        if not isinstance(value, list) or length not in (None, len(value)):
            return must("a list" if length is None else f"a list of {length}", value)
        return _first({str(index): item for index, item in enumerate(value)}, lambda name: check)

    return of_list


def mapping(check: Check | None = None) -> Check:
    """Return the check of a mapping whose values all pass a check."""

    def of_mapping(value: Any) -> str | None:
        if not isinstance(value, dict):
            return must("a mapping", value)
        return _first({key: text(key) for key in value}, lambda name: lambda wrong: wrong) or (
            None if check is None else _first(value, lambda name: check)
        )

    return of_mapping


def record(required: Mapping[str, Check], further: Mapping[str, Check]) -> Check:
    """Return the check of a mapping with known entries, besides any others."""

    def of_record(value: Any) -> str | None:
        if not isinstance(value, dict):
            return must("a mapping", value)
        missing = next((name for name in required if name not in value), None)
        if missing is not None:
            return f"{missing} is missing"
        known = {**required, **further}
        return _first({name: item for name, item in value.items() if name in known}, known.__getitem__)

    return of_record


def _first(values: Mapping[str, Any], check_of: Callable[[str], Check]) -> str | None:
    """Return the first thing that is wrong, behind the name of its entry."""
    for name, value in values.items():
        wrong = check_of(name)(value)
        if wrong is not None:
            end = wrong if not wrong.startswith("must be") else f": {wrong}"
            return f"{shown(name, 60)[1:-1]}{end if end.startswith(':') else f'.{end}'}"
    return None
