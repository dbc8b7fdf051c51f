"""Import upstream adapters and add their upstreams to ``s3prl.hub``, so that ``-u`` knows them.

An adapter is a folder with ``hubconf.py`` and ``expert.py``, as in ``s3prl/upstream``. It comes from the suite itself,
from a folder that ``--upstream_path`` or ``S3PRL_UPSTREAM_PATH`` names, or from an installed package, through the
entry-point group ``s3prl_emotion.upstreams``.

Adapters in folders are imported as ``s3prl.upstream.<folder>``, each from its own path: a search path would use the
first of two folders of the same name and hide the second. Adapters of packages keep the package's own module names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import UsageError, nearest

logger = logging.getLogger(__name__)
ENTRY_POINTS = "s3prl_emotion.upstreams"
FLAG, VARIABLE = "--upstream_path", "S3PRL_UPSTREAM_PATH"
PARENT = "s3prl.upstream"
NOT_UPSTREAMS = {"options"}  # public and callable in s3prl.hub, but no upstreams

_failed: dict[str, str] = {}  # folder or entry point of an adapter that could not be imported -> why


def register_adapters(folder: Path) -> list[str]:
    """Add every upstream of a folder of adapters to ``s3prl.hub``, as s3prl's own ``hubconf.py`` files do.

    An adapter that fails to import is skipped with a warning; the error for an unknown upstream names it too.

    Args:
        folder: an adapter itself (holds ``hubconf.py``), or one sub-folder per adapter

    Returns:
        the names, which are attributes of ``s3prl.hub`` from then on

    Raises:
        UsageError: two adapters have the same folder name, or two upstreams the same name
    """
    added = []
    for adapter in adapter_folders(folder):
        known = None if "." in adapter.name else _path_of_module(f"{PARENT}.{adapter.name}")
        if known not in (None, adapter):
            raise UsageError(f"{adapter}: an adapter of this folder name exists already, {known}; rename the folder")
        added += _add(str(adapter), _import_folder, adapter)
    return added


def register_search_path(flag: str | None = None) -> list[str]:
    """Add the adapters of all folders that ``--upstream_path`` and ``S3PRL_UPSTREAM_PATH`` name.

    Args:
        flag: value of ``--upstream_path``: folders separated as in ``PATH``

    Returns:
        the names, which are attributes of ``s3prl.hub`` from then on

    Raises:
        UsageError: no such folder, no adapter in it, or a clash of names
    """
    added = []
    for source, folders in ((VARIABLE, os.environ.get(VARIABLE)), (FLAG, flag)):
        for word in (folders or "").split(os.pathsep):
            if not word:
                continue
            folder = Path(word).expanduser()
            if not folder.is_dir():
                raise UsageError(f"{source} {word}: no such folder")
            if not adapter_folders(folder):
                raise UsageError(f"{source} {word}: contains no adapter; there must be a <name>/hubconf.py in it")
            added += register_adapters(folder)
    return added


def register_entry_points() -> list[str]:
    """Add the adapters of installed packages: entry points of the group ``s3prl_emotion.upstreams``.

    An entry point names an adapter's ``hubconf`` module, an adapter's package, or a package of adapters.

    Returns:
        the names, which are attributes of ``s3prl.hub`` from then on

    Raises:
        UsageError: two upstreams have the same name
    """
    added = []
    for point in entry_points(group=ENTRY_POINTS):
        origin = f"entry point {point.name} = {point.value}"
        for module in _attempt(origin, _modules_of_entry_point, point) or []:
            added += _add(f"{origin} ({module})", importlib.import_module, module)
    return added


def adapter_folders(folder: Path) -> list[Path]:
    """Return the adapters in ``folder``, resolved and sorted: itself, or its sub-folders with a ``hubconf.py``."""
    if (folder / "hubconf.py").is_file():
        return [folder.resolve()]
    return sorted({path.parent.resolve() for path in folder.glob("*/hubconf.py") if path.parent.name[0] != "."})


def upstream_names() -> list[str]:
    """Return the upstreams that ``-u`` knows, sorted."""
    hub = importlib.import_module("s3prl.hub")
    names = (name for name in dir(hub) if not name.startswith("_") and name not in NOT_UPSTREAMS)
    return sorted(name for name in names if callable(getattr(hub, name)))


def find_upstream(name: str, flag: str = "-u") -> Callable[..., Any]:
    """Return the function of ``s3prl.hub`` that builds an upstream.

    Args:
        name: of the upstream, as given to ``-u``
        flag: that gave the name, for the message

    Raises:
        UsageError: no such upstream; the message names the nearest ones and the adapters that failed to import
    """
    known = upstream_names()
    if name not in known:
        broken = [f"{origin} ({why})" for origin, why in _failed.items()]
        hint = f"; adapters that failed to import: {'; '.join(broken)}" if broken else ""
        raise UsageError(f"{flag} {name}: no such upstream{nearest(name, known)}{hint}")
    entry: Callable[..., Any] = getattr(importlib.import_module("s3prl.hub"), name)
    return entry


def _add(origin: str, load: Callable[[Any], ModuleType], what: Any) -> list[str]:
    """Import one adapter and add all its upstreams to the hub, or none where a name clashes."""
    module = _attempt(origin, load, what)
    if module is None:
        return []
    hub = importlib.import_module("s3prl.hub")
    entries = dict(_entries(module))
    if not entries:
        _fail(origin, "its hubconf.py defines no upstream, which would be a public function in it")
    for name, entry in entries.items():
        other = getattr(hub, name, entry)
        if other is not entry:
            raise UsageError(f"{module.__file__}: upstream {name!r} exists already, from {_origin(other)}; rename it")
    for name, entry in entries.items():
        setattr(hub, name, entry)
    return list(entries)


def _entries(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the public callables that a ``hubconf.py`` defines or lists in ``__all__``, but not those it imports."""
    listed = getattr(module, "__all__", ())
    for name, entry in vars(module).items():
        own = isinstance(entry, functools.partial) or getattr(entry, "__module__", None) == module.__name__
        if callable(entry) and (name in listed or (own and not name.startswith("_"))):
            yield name, entry


def _origin(entry: Any) -> str:
    """Return the file that defines an entry of the hub."""
    function = getattr(entry, "func", entry)  # of a functools.partial
    name = getattr(function, "__module__", None) or type(entry).__module__
    return str(getattr(sys.modules.get(name), "__file__", None) or name)


def _attempt(origin: str, load: Callable[[Any], Any], what: Any) -> Any:
    """Return ``load(what)``, or ``None`` with a warning if it raises: foreign code may fail in any way."""
    try:
        loaded = load(what)
    except Exception as error:
        _fail(origin, f"{type(error).__name__}: {' '.join(str(error).split())}{_line_of(error)}")
        return None
    _failed.pop(origin, None)
    return loaded


def _fail(origin: str, why: str) -> None:
    _failed[origin] = why
    logger.warning("skip the upstream adapter %s: %s", origin, why)


def _line_of(error: Exception) -> str:
    """Return the adapter's file and line where an import failed; a syntax error names them itself."""
    trace, where = error.__traceback__, ""
    while trace is not None and not isinstance(error, SyntaxError):
        file = trace.tb_frame.f_code.co_filename
        if Path(file).name in ("hubconf.py", "expert.py"):
            where = f" in {Path(file).name} line {trace.tb_lineno}"
        trace = trace.tb_next
    return where


def _import_folder(folder: Path) -> ModuleType:
    """Import ``<folder>/hubconf.py`` as ``s3prl.upstream.<folder>.hubconf``; once, however often it is registered."""
    name = f"{PARENT}.{folder.name}"
    if "." in folder.name:
        raise ImportError("a dot in a folder's name cannot be imported; rename the folder")
    if name in sys.modules:
        return importlib.import_module(f"{name}.hubconf")
    package = importlib.util.module_from_spec(_package_spec(name, folder))
    sys.modules[name] = package
    try:
        if package.__spec__ is not None and package.__spec__.loader is not None:
            package.__spec__.loader.exec_module(package)
        hubconf = importlib.import_module(f"{name}.hubconf")
    except BaseException:
        for part in [part for part in sys.modules if part == name or part.startswith(f"{name}.")]:
            del sys.modules[part]
        raise
    setattr(importlib.import_module(PARENT), folder.name, package)
    return hubconf


def _package_spec(name: str, folder: Path) -> ModuleSpec:
    """Return a spec that imports a folder as a package, with or without an ``__init__.py``."""
    start = folder / "__init__.py"
    spec = None
    if start.is_file():
        spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
    if spec is None:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    return spec


def _path_of_module(name: str) -> Path | None:
    """Return the folder or file of module ``name``: an adapter registered before, or a part of s3prl."""
    importlib.import_module(PARENT)
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) if module else importlib.util.find_spec(name)
    if spec is None:
        return None
    location = next(iter(spec.submodule_search_locations or []), spec.origin)
    return Path(location).resolve() if location else None


def _modules_of_entry_point(point: EntryPoint) -> list[str]:
    """Return the full names of the ``hubconf`` modules that an entry point stands for."""
    if point.attr:
        raise ImportError("names an object; give a module, as in my = my_package.my_upstream.hubconf")
    module = importlib.import_module(point.module)
    paths = [Path(folder) for folder in getattr(module, "__path__", [])]
    if not paths:
        return [point.module]
    if any((folder / "hubconf.py").is_file() for folder in paths):
        return [f"{point.module}.hubconf"]
    names = sorted({adapter.name for folder in paths for adapter in adapter_folders(folder)})
    if not names:
        raise ImportError("is a package without hubconf.py, and without sub-folders that have one")
    return [f"{point.module}.{name}.hubconf" for name in names]
