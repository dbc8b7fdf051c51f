"""Find which ``hubconf.py`` defines which upstream, from their source: importing all of them takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLAIN = (ast.Import, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


@dataclass
class Index:
    """Upstreams by name.

    Attributes:
        modules: the module that defines each upstream, by the upstream's name
        complete: whether the source shows every name; loops and star imports may make names that only an import shows
    """

    modules: dict[str, str] = field(default_factory=dict)
    complete: bool = True

    def add(self, module: str, file: Path, reexports: bool = False) -> None:
        """Add the upstreams of a ``hubconf.py``; the index is incomplete where it cannot be read.

        Args:
            module: name of the module
            file: its source
            reexports: count what it imports from other modules named ``hubconf``, as a star import of it does
        """
        try:
            body = ast.parse(file.read_bytes()).body
        except (OSError, SyntaxError, ValueError):
            self.complete = False
            return
        listed = _listed(body)
        imported = _imported(body) if reexports and listed is None else []
        self.modules.update(dict.fromkeys([*imported, *_defined(body), *(listed or ())], module))
        if listed is None and not all(_is_plain(statement) for statement in body):
            self.complete = False


def index_of(hub: Path, adapters: Iterable[Path]) -> Index:
    """Return the upstreams of s3prl and of adapters.

    Args:
        hub: s3prl's ``hub.py``, which imports the names of each ``hubconf.py``
        adapters: folders with a ``hubconf.py``, which are imported as ``s3prl.upstream.<folder>``
    """
    body = ast.parse(hub.read_bytes()).body
    own = [statement for statement in body if not isinstance(statement, ast.ImportFrom)]
    index = Index(dict.fromkeys(_defined(own), "s3prl.hub"), all(map(_is_plain, own)))
    for statement in body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        module = statement.module or ""
        for name in statement.names:
            if name.name == "*":
                index.add(module, hub.parents[1].joinpath(*module.split(".")).with_suffix(".py"), reexports=True)
            elif module.endswith(".hubconf"):
                index.modules[name.asname or name.name] = module
    for folder in adapters:
        index.add(f"s3prl.upstream.{folder.name}.hubconf", folder / "hubconf.py")
    return index


def _defined(body: list[ast.stmt]) -> list[str]:
    """Return the public functions and classes, their other names, and partial functions, in order."""
    names: list[str] = []
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign) and _is_entry(statement.value, names):
            names += [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def _imported(body: list[ast.stmt]) -> list[str]:
    """Return the public names that come from a ``hubconf.py``."""
    return [
        name.asname or name.name
        for statement in body
        if isinstance(statement, ast.ImportFrom) and str(statement.module).rpartition(".")[2] == "hubconf"
        for name in statement.names
        if not (name.asname or name.name).startswith(("_", "*"))
    ]


def _is_entry(value: ast.expr, names: list[str]) -> bool:
    called = value.func if isinstance(value, ast.Call) else None
    is_partial = getattr(called, "id", getattr(called, "attr", None)) == "partial"
    return is_partial or (isinstance(value, ast.Name) and value.id in names)


def _listed(body: list[ast.stmt]) -> list[str] | None:
    """Return the names in ``__all__``; None where there is none, or only running the code shows it."""
    values = {
        target.id: statement.value
        for statement in body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    listed: Any = values.get("__all__")
    if not isinstance(listed, ast.List | ast.Tuple):
        return None
    names: list[str] = []
    try:
        for item in listed.elts:
            if isinstance(item, ast.Starred):  # *_SHORTCUTS: a list, or a dict's keys
                names += ast.literal_eval(values[getattr(item.value, "id", "")])
            else:
                names.append(ast.literal_eval(item))
    except (KeyError, ValueError):
        return None
    return names


def _is_plain(statement: ast.stmt) -> bool:
    """Return whether a statement binds no other names than it shows."""
    if isinstance(statement, ast.ImportFrom):
        return statement.names[0].name != "*"
    return isinstance(statement, PLAIN) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
