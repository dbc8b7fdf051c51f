"""Read JSON that others may have changed: a reason why it cannot be read, whatever it holds."""

from __future__ import annotations

import json
from typing import Any

from s3prl_emotion.limits import excess, shown

LARGEST = 2**26  # values and characters; the metrics of a thousand speakers are some hundred thousand


def parse(data: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the reason why it cannot be read: it is not UTF-8 or JSON, has a key twice, is nested too deeply or
            is too large, or holds half of a character
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg}: character {error.pos})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    reason = excess(value, largest=LARGEST)
    if reason is not None:
        raise ValueError(reason)
    if "\\ud" in text or "\\uD" in text:
        _check_characters(value)
    return value


def _check_characters(value: Any) -> None:
    """Refuse text that cannot be written: one half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a character") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"has the key {shown(twice)} twice")
    return values
