"""Print the help of ``run_downstream.py`` without importing torch or s3prl, which takes seconds."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

from s3prl_emotion import host
from s3prl_emotion.files.folders import adapters_folder
from s3prl_emotion.host.index import index_of

PARSING = "get_downstream_args"  # s3prl's function that declares its flags


def show_help(make_parser: Callable[..., Any]) -> None:
    """Run s3prl's own declaration of its flags, from its source; the parser then prints the help and exits.

    Returns where only a full start knows all upstreams, or where this s3prl declares its flags in another way.

    Args:
        make_parser: stands in for ``argparse.ArgumentParser``
    """
    spec = importlib.util.find_spec("s3prl")
    if spec is None or not spec.submodule_search_locations or _has_plugins():
        return
    folder = Path(spec.submodule_search_locations[0])
    script = folder / "run_downstream.py"
    body = [part for part in _body(script) if isinstance(part, ast.FunctionDef) and part.name == PARSING]
    index = index_of(folder / "hub.py", host.ADAPTERS.folders(adapters_folder())) if body else None
    if index is None or not index.complete:
        return
    names: dict[str, Any] = {
        "argparse": SimpleNamespace(ArgumentParser=make_parser),
        "hub": SimpleNamespace(**index.modules),
    }
    try:
        code = compile(ast.Module([*body], []), str(script), "exec")
        function = next(constant for constant in code.co_consts if isinstance(constant, CodeType))
        FunctionType(function, names)()
    except (NameError, AttributeError):  # it needs more of its module, or of the hub
        return


def _body(file: Path) -> list[ast.stmt]:
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []


def _has_plugins() -> bool:
    return any(os.environ.get(kind.variable) or entry_points(group=kind.group) for kind in (host.ADAPTERS, host.HEADS))
