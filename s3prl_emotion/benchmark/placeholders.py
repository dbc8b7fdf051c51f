"""Placeholders such as ``{fold}`` in the strings of a matrix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s3prl_emotion.errors import ConfigError, nearest

PATTERN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
PREPARED = "prepared."


def fill(value: Any, values: Mapping[str, str], where: str) -> Any:
    """Replace placeholders in every string of a value from YAML.

    Args:
        value: a string, or lists and mappings of anything; a mapping's keys stay as they are
        values: of each placeholder
        where: for messages

    Raises:
        ConfigError: a placeholder that ``values`` lacks
    """
    if isinstance(value, str):
        return PATTERN.sub(lambda found: _one(found, values, where), value)
    if isinstance(value, list):
        return [fill(item, values, where) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, values, where) for key, item in value.items()}
    return value


def words(command: str, values: Mapping[str, str], several: Mapping[str, Sequence[str]], where: str) -> list[str]:
    """Split a command as a shell does and fill each word; a word that is a placeholder of ``several`` becomes many.

    Raises:
        ConfigError: an unknown placeholder, quotation marks that do not close, or nothing
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where}: {command!r} cannot be split into words ({error})") from error
    if not parts:
        raise ConfigError(f"{where}: an empty command")
    filled: list[str] = []
    for part in parts:
        if part.startswith("{") and part[1:-1] in several:
            filled += several[part[1:-1]]
        else:
            filled.append(fill(part, values, where))
    return filled


def names_in(value: Any) -> set[str]:
    """Placeholders in every string of a value."""
    return {name for text in _strings(value) for name in PATTERN.findall(text) if name}


def prepared_in(value: Any) -> set[str]:
    """Steps whose folders a value names."""
    return {name.removeprefix(PREPARED) for name in names_in(value) if name.startswith(PREPARED)}


def _one(found: re.Match[str], values: Mapping[str, str], where: str) -> str:
    if found.group() in ("{{", "}}"):
        return found.group()[0]
    name = found.group(1)
    if name not in values:
        raise ConfigError(
            f"{where}: no placeholder {{{name}}} here{nearest(name, values)}; a brace itself is written {{{{"
        )
    return values[name]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
