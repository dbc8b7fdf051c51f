"""Import plug-ins, upstream adapters and heads, from folders and installed packages.

A plug-in in a folder is imported as ``<parent>.<folder>`` (``s3prl.upstream.my_mel``), each from its own path: a search
path would use the first of two folders of the same name and hide the second. A plug-in of a package keeps the
package's own module names.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import UsageError

logger = logging.getLogger(__name__)
FILES = ("hubconf.py", "expert.py")  # of plug-ins, whose lines are named where an import fails


@dataclass(frozen=True)
class Plugins:
    """Plug-ins of one kind: where they come from, and which of them could not be imported.

    Attributes:
        noun: what a message calls one, such as "adapter"
        parent: package that those in folders are imported into
        module: the module of a plug-in that is imported
        flag: of the command line, which names folders
        variable: of the environment, likewise
        group: of the entry points of installed packages
        lacking: what a module without names lacks, for the message
        add: makes the names of an imported module known and returns them; raises ``UsageError`` where a name clashes
        failed: why each plug-in could not be imported, by its folder or entry point
    """

    noun: str
    parent: str
    module: str
    flag: str
    variable: str
    group: str
    lacking: str
    add: Callable[[ModuleType], list[str]]
    failed: dict[str, str] = field(default_factory=dict)

    def register_folder(self, folder: Path) -> list[str]:
        """Import every plug-in of a folder; skip those that fail, with a warning.

        Args:
            folder: a plug-in itself, or one sub-folder per plug-in

        Returns:
            the names that are known from then on

        Raises:
            UsageError: two plug-ins have the same folder name, or their names clash
        """
        added = []
        for plugin in self.folders(folder):
            known = None if "." in plugin.name else path_of_module(f"{self.parent}.{plugin.name}")
            if known not in (None, plugin):
                article = "an" if self.noun[0] in "aeiou" else "a"
                raise UsageError(
                    f"{plugin}: {article} {self.noun} of this folder name exists already, {known}; rename the folder"
                )
            added += self._register(str(plugin), self._import_folder, plugin)
        return added

    def register_search_path(self, flag: str | None = None) -> list[str]:
        """Import the plug-ins of all folders that the flag and the environment name.

        Args:
            flag: the flag's value: folders separated as in ``PATH``

        Returns:
            the names that are known from then on

        Raises:
            UsageError: no such folder, no plug-in in it, or a clash of names
        """
        added = []
        for source, folders in ((self.variable, os.environ.get(self.variable)), (self.flag, flag)):
            for word in filter(None, (folders or "").split(os.pathsep)):
                folder = Path(word).expanduser()
                if not folder.is_dir():
                    raise UsageError(f"{source} {word}: no such folder")
                if not self.folders(folder):
                    raise UsageError(
                        f"{source} {word}: contains no {self.noun}; there must be a <name>/{self.module}.py in it"
                    )
                added += self.register_folder(folder)
        return added

    def register_entry_points(self) -> list[str]:
        """Import the plug-ins of installed packages.

        An entry point names the module of a plug-in, its package, or a package of several.

        Returns:
            the names that are known from then on

        Raises:
            UsageError: a clash of names
        """
        added = []
        for point in entry_points(group=self.group):
            origin = f"entry point {point.name} = {point.value}"
            for module in self._attempt(origin, self._modules_of, point) or []:
                added += self._register(f"{origin} ({module})", importlib.import_module, module)
        return added

    def folders(self, folder: Path) -> list[Path]:
        """Return the plug-ins in ``folder``, resolved and sorted: itself, or its sub-folders with the module."""
        file = f"{self.module}.py"
        if (folder / file).is_file():
            return [folder.resolve()]
        return sorted({path.parent.resolve() for path in folder.glob(f"*/{file}") if path.parent.name[0] != "."})

    def hint(self) -> str:
        """Return the end of the message about an unknown name: which plug-ins failed to import, and why."""
        broken = [f"{origin} ({why})" for origin, why in self.failed.items()]
        return f"; {self.noun}s that failed to import: {'; '.join(broken)}" if broken else ""

    def _register(self, origin: str, load: Callable[[Any], ModuleType], what: Any) -> list[str]:
        module = self._attempt(origin, load, what)
        if module is None:
            return []
        names = self.add(module)
        if not names:
            self._fail(origin, self.lacking)
        return names

    def _attempt(self, origin: str, load: Callable[[Any], Any], what: Any) -> Any:
        """Return ``load(what)``, or ``None`` with a warning if it raises: foreign code may fail in any way."""
        try:
            loaded = load(what)
        except Exception as error:
            self._fail(origin, f"{type(error).__name__}: {' '.join(str(error).split())}{_line_of(error)}")
            return None
        self.failed.pop(origin, None)
        return loaded

    def _fail(self, origin: str, why: str) -> None:
        self.failed[origin] = why
        logger.warning("skip the %s %s: %s", self.noun, origin, why)

    def _import_folder(self, folder: Path) -> ModuleType:
        """Import the module of a folder; once, however often it is registered."""
        name = f"{self.parent}.{folder.name}"
        if "." in folder.name:
            raise ImportError("a dot in a folder's name cannot be imported; rename the folder")
        if name in sys.modules:
            return importlib.import_module(f"{name}.{self.module}")
        package = importlib.util.module_from_spec(_package_spec(name, folder))
        sys.modules[name] = package
        try:
            if package.__spec__ is not None and package.__spec__.loader is not None:
                package.__spec__.loader.exec_module(package)
            module = importlib.import_module(f"{name}.{self.module}")
        except BaseException:
            for part in [part for part in sys.modules if part == name or part.startswith(f"{name}.")]:
                del sys.modules[part]
            raise
        setattr(importlib.import_module(self.parent), folder.name, package)
        return module

    def _modules_of(self, point: EntryPoint) -> list[str]:
        """Return the full names of the modules that an entry point stands for."""
        if point.attr:
            raise ImportError(f"names an object; give a module, as in my = my_package.my_{self.noun}.{self.module}")
        module = importlib.import_module(point.module)
        paths = [Path(folder) for folder in getattr(module, "__path__", [])]
        if not paths:
            return [point.module]
        if any((folder / f"{self.module}.py").is_file() for folder in paths):
            return [f"{point.module}.{self.module}"]
        names = sorted({plugin.name for folder in paths for plugin in self.folders(folder)})
        if not names:
            raise ImportError(f"is a package without {self.module}.py, and without sub-folders that have one")
        return [f"{point.module}.{name}.{self.module}" for name in names]


def path_of_module(name: str) -> Path | None:
    """Return the folder or file of a module, imported or not; ``None`` where there is no such module."""
    importlib.import_module(name.rpartition(".")[0])
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) if module else importlib.util.find_spec(name)
    if spec is None:
        return None
    location = next(iter(spec.submodule_search_locations or []), spec.origin)
    return Path(location).resolve() if location else None


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


def _line_of(error: Exception) -> str:
    """Return the plug-in's file and line where an import failed; a syntax error names them itself."""
    trace, where = error.__traceback__, ""
    while trace is not None and not isinstance(error, SyntaxError):
        file = Path(trace.tb_frame.f_code.co_filename).name
        if file in FILES:
            where = f" in {file} line {trace.tb_lineno}"
        trace = trace.tb_next
    return where
