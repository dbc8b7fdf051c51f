"""Hash the code that an upstream's features depend on: its adapter's folder, and what this imports elsewhere."""

from __future__ import annotations

import ast
import contextlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from torch import nn

from s3prl_emotion.errors import StoreError
from s3prl_emotion.store.contents import file_hash, files_in, folder_hash

HOST, SUITE = "s3prl", "s3prl_emotion"
OF_HOST = ("s3prl.upstream.", "s3prl.utility.")  # the rest of s3prl downloads, trains or evaluates
NOT_OF_SUITE = ("audio", "errors", "recipe", "yaml_files", "host", "files", "store")  # read, report or plug in
LIBRARIES = {"torch", "torchaudio", "transformers", "numpy", "scipy"}  # known by their versions, also from a checkout
SEARCHED = "submodule_search_locations"
PACKAGES = {"site-packages", "dist-packages"}


def code_hash(model: nn.Module, upstream: str = "") -> str:
    """Return a hash of the code of an upstream in memory.

    It covers the folder of the adapter with all files in it, and every module that the adapter imports, directly or
    through others, from s3prl's upstreams, from this suite, from the adapter's own package, or from outside installed
    packages. Installed packages do not count, since their versions give the same features within rounding
    (``upstream.json`` names the versions that were used). Imports under computed names are not seen.

    Args:
        model: the upstream
        upstream: ``-u``, whose function in ``s3prl.hub`` is code of the adapter too

    Raises:
        StoreError: the upstream's class has no source file
    """
    kind, classes = type(model), {base for part in model.modules() for base in type(part).__mro__}
    packages = {HOST, SUITE, _top(kind.__module__)}
    try:
        start = {base.__module__: _file_of_class(base) for base in classes if _top(base.__module__) in packages}
        start[kind.__module__] = _file_of_class(kind)
    except (TypeError, OSError) as error:
        raise StoreError(f"{kind}: no source file, so a store cannot notice changes of its code") from error
    own = {_top(kind.__module__)} - LIBRARIES if _adapter(start[kind.__module__]) else set()
    others = {base.__module__ for base in classes} | {_module_of(upstream)}
    for name in others - start.keys():
        if (path := _file_of(name)) is not None and _counts(name, path, own):
            start[name] = path
    return " ".join(sorted(f"{path.name}:{_hash(path)}" for path in _reached(start, own)))


def _reached(start: dict[str, Path], own: set[str]) -> set[Path]:
    """Return the adapters' folders that the modules in ``start`` lie in, and the other modules that these import."""
    reached: set[Path] = set()
    waiting = []
    for name, path in start.items():
        folder = _adapter(path)
        if folder is None:
            waiting.append((name, path))
        elif folder not in reached:
            reached.add(folder)
            waiting += _modules(name, path, folder)
    folders, scanned = set(reached), set()
    while waiting:
        name, path = waiting.pop()
        if path in scanned:
            continue
        scanned.add(path)
        if not folders & set(path.parents):
            reached.add(path)
        for imported in _imports(path, name, path.stat().st_mtime_ns):
            found = _file_of(imported)
            if found is not None and _counts(imported, found, own):
                waiting.append((imported, found))
    return reached


def _modules(name: str, path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield names and files of all modules in the folder of an adapter, one of which is ``name`` in ``path``."""
    below = len(path.relative_to(folder).parts) - (path.name == "__init__.py")
    parts = name.split(".")
    package = parts[: len(parts) - below]
    for file in files_in(folder):
        if file.suffix == ".py":
            inside = file.relative_to(folder).with_suffix("").parts
            yield ".".join([*package, *inside]).removesuffix(".__init__"), file


@lru_cache(maxsize=4096)
def _imports(file: Path, name: str, _changed: int) -> frozenset[str]:
    """Return the absolute names of what a module imports, by statements or under constant names."""
    if file.suffix != ".py":
        return frozenset()
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # a template, or of another Python: its content counts
        return frozenset()
    names: set[str] = set()
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _function(node) in ("import_module", "__import__") and node.args:
            value = getattr(node.args[0], "value", None)
            names |= {value} if isinstance(value, str) else set()
    parents = {".".join(parts[:end]) for item in names if (parts := item.split(".")) for end in range(1, len(parts))}
    return frozenset(names | parents) - {""}


def _function(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", None) or getattr(call.func, "id", ""))


def _counts(name: str, path: Path, own: set[str]) -> bool:
    """Return whether a module's code can change features: see :func:`code_hash`."""
    top = _top(name)
    if top == SUITE:
        return name != SUITE and name.split(".")[1] not in NOT_OF_SUITE
    if top == HOST:
        return name.startswith(OF_HOST)
    return top in own or (top not in LIBRARIES and not _installed(path))


def _file_of(name: str) -> Path | None:
    """Return the file of a module, imported or not, without importing it; ``None`` where there is none."""
    if not name:
        return None
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
    elif name.partition(".")[0] in sys.stdlib_module_names:
        return None
    else:
        file = _search(name)
    path = Path(file).resolve() if isinstance(file, str) else None
    return path if path is not None and path.is_file() else None


def _search(name: str) -> str | None:
    spec = _spec(name)
    return spec.origin if spec is not None and spec.has_location else None


def _spec(name: str) -> ModuleSpec | None:
    """Return the spec of a module; nothing is imported, unlike with ``importlib.util.find_spec``."""
    places = None
    if above := name.rpartition(".")[0]:
        imported = sys.modules.get(above)
        places = getattr(imported, "__path__", None) if imported else getattr(_spec(above), SEARCHED, None)
        if places is None:
            return None  # an attribute of a module, or of a package that is not installed
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            if (spec := finder.find_spec(name, places)) is not None:
                return spec
    return None


def _file_of_class(item: type) -> Path:
    return Path(inspect.getfile(item)).resolve()


def _adapter(file: Path) -> Path | None:
    """Return the adapter's folder that a module lies in, or one level below."""
    return next((folder for folder in file.parents[:2] if (folder / "hubconf.py").is_file()), None)


def _module_of(upstream: str) -> str:
    """Return the module of the function in ``s3prl.hub`` that builds an upstream."""
    entry = getattr(sys.modules.get("s3prl.hub"), upstream, None)
    return getattr(getattr(entry, "func", entry), "__module__", None) or ""  # func: of a functools.partial


def _hash(path: Path) -> str:
    return folder_hash(path) if path.is_dir() else file_hash(path)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _installed(path: Path) -> bool:
    """Return whether a file belongs to Python itself or to an installed package."""
    return bool(PACKAGES & set(path.parts)) or any(path.is_relative_to(folder) for folder in _library_folders())


@lru_cache(maxsize=1)
def _library_folders() -> frozenset[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()}
    return frozenset(Path(folder).resolve() for folder in folders if folder)
