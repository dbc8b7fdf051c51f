"""Change a recipe on the command line: ``-o`` in s3prl's notation, which evaluates no code."""

from __future__ import annotations

import ast
import copy
from argparse import Namespace
from typing import Any

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import DEEPEST, shown


def override(text: str, args: Namespace, config: dict[str, Any], flag: str = "-o") -> None:
    """Apply ``-o`` in s3prl's notation: ``args.key=value`` and ``config.a.b=value``, separated by ``,,``.

    It differs from the host's in two ways: only the first ``=`` of a part separates key and value, and values are
    literals (numbers, strings, lists, ``None``/``null``, ``True``/``true``) that are never evaluated as code. Other
    words are strings, as in the host.

    Args:
        text: value of the flag
        args: command line, changed in place
        config: recipe, changed in place
        flag: the flag's name, for messages

    Raises:
        UsageError: a part without ``=``, or a key that starts with neither ``args.`` nor ``config.``
    """
    for part in text.split(",,"):
        if not part.strip():
            continue
        key, equals, value_text = part.partition("=")
        first, *rest = key.strip().split(".")
        depth = len(rest) == 1 if first == "args" else len(rest) >= 1
        if len(rest) > DEEPEST:
            raise UsageError(f"{flag}: {shown(key)}: more than {DEEPEST} levels; no recipe has so many")
        if not equals or first not in ("args", "config") or not depth or not all(rest):
            form = "args.KEY=VALUE or config.SECTION.KEY=VALUE"
            raise UsageError(f"{flag}: {shown(part.strip())} is not of the form {form}")
        value = _literal(value_text.strip())
        if first == "args":
            setattr(args, rest[0], value)
            continue
        target = config
        for name in rest[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise UsageError(f"{flag}: {key.strip()}: {name!r} holds a value, not a section")
        target[rest[-1]] = value


def overridden(
    text: str | None, args: Namespace, config: dict[str, Any], flag: str = "-o"
) -> tuple[Namespace, dict[str, Any]]:
    """Return copies of ``args`` and ``config`` with ``-o`` applied."""
    args, config = copy.copy(args), copy.deepcopy(config)
    if text is not None and text.lower() != "none":
        override(text, args, config, flag)
    return args, config


def _literal(text: str) -> Any:
    if text in ("null", "true", "false"):  # YAML's spelling, as in the recipe itself
        return {"null": None, "true": True, "false": False}[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
