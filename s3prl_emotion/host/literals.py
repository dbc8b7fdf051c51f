"""Read the Python expressions in configurations of s3prl's models and tasks without evaluating code."""

from __future__ import annotations

import ast
import math
import re
import sys
from typing import Any

from s3prl_emotion.errors import CheckpointError

MOST_CHARACTERS = 4096
MOST_ITEMS = 4096  # of a list, repetitions included; models have some ten layers
SHOWN = 60  # characters of a refused string in its message
NAME = re.compile(r"(self\.)?(?!\w*__)[A-Za-z_]\w*")
CONSTANTS = {"math.inf": math.inf, "-math.inf": -math.inf}
KALDI = re.compile(r"torchaudio\.compliance\.kaldi\.(fbank|mfcc|spectrogram)")


def read_literal(text: Any) -> Any:
    """Return the value of a Python literal; lists may be added and repeated: ``[(512, 3, 2)] * 4 + [(512, 2, 2)]``.

    Raises:
        CheckpointError: the string is anything else; nothing in it was run
    """
    if isinstance(text, str) and len(text) <= MOST_CHARACTERS:
        try:
            return _value(ast.parse(text.strip(), mode="eval").body)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
    raise CheckpointError(_refusal(text, "a Python literal", "the upstream's configuration"))


def kaldi_function(text: Any) -> Any:
    """Return the function that the name in a configuration of s3prl's filterbanks stands for.

    Raises:
        CheckpointError: the string is not the name of one of the three functions; nothing in it was run
    """
    import torchaudio.compliance.kaldi

    found = KALDI.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        wanted = "the name of a feature (fbank, mfcc, spectrogram)"
        raise CheckpointError(_refusal(text, wanted, "the upstream's configuration"))
    return getattr(torchaudio.compliance.kaldi, found[1])


def read_name(text: Any) -> Any:
    """Return the class or function whose name, or the method whose ``self.name``, stands in a task's recipe.

    The name is looked up where it is evaluated: among the caller's variables, then in its module.

    Raises:
        CheckpointError: the string is anything else, or nothing callable has this name; nothing in it was run
    """
    if isinstance(text, str) and text in CONSTANTS:
        return CONSTANTS[text]
    if isinstance(text, str) and NAME.fullmatch(text):
        caller, (first, _, method) = sys._getframe(1), text.partition(".")
        found = getattr(caller.f_locals.get("self"), method, None) if method else None
        for scope in () if method else (caller.f_locals, caller.f_globals):
            found = found or scope.get(first)
        if callable(found):
            return found
    raise CheckpointError(_refusal(text, "the name of a class or function that it knows", "the task's recipe"))


def _value(node: ast.expr) -> Any:
    """Return the value of a node: a literal, or a sum or repetition of lists or tuples."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, list | tuple):
            return _limited(len(left) + len(right), lambda: left + right)
        sequence, count = (right, left) if isinstance(right, list | tuple) else (left, right)
        if isinstance(node.op, ast.Mult) and isinstance(sequence, list | tuple) and type(count) is int:
            return _limited(len(sequence) * count, lambda: sequence * count)
    return ast.literal_eval(node)


def _limited(items: int, build: Any) -> Any:
    if items > MOST_ITEMS:
        raise ValueError("too many items")
    return build()


def _refusal(text: Any, wanted: str, where: str) -> str:
    shown = " ".join(str(text).split()) if isinstance(text, str) else type(text).__name__
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} …"
    return f"refused: {shown!r} in {where} is not {wanted}; no code in it was run"
