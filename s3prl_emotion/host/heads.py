"""Add heads to ``s3prl.downstream``, so that ``-d`` knows them.

A head is a folder with ``expert.py``, as in ``s3prl/downstream``, and a default recipe, ``config.yaml``. It comes from
the suite itself, from a folder that ``--downstream_path`` or ``S3PRL_DOWNSTREAM_PATH`` names, or from an installed
package, through the entry-point group ``s3prl_emotion.downstreams``. Wherever it comes from, it can be imported as
``s3prl.downstream.<head>``, and none of its files is ever loaded under two names.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.files.folders import heads_folder
from s3prl_emotion.host.plugins import Plugins, path_of_module

PARENT = "s3prl.downstream"
_plugged_in: dict[str, Path] = {}  # folders of the heads from outside the suite, by name


def add_suite_heads() -> None:
    """Make the suite's own heads importable as ``s3prl.downstream.<head>``."""
    package = importlib.import_module(PARENT)
    if str(heads_folder()) not in package.__path__:
        package.__path__.append(str(heads_folder()))


def downstream_names() -> list[str]:
    """Return the heads and tasks that ``-d`` knows: the suite's, the host's and those that are plugged in, sorted."""
    package = importlib.import_module(PARENT)
    names = {path.parent.name for folder in package.__path__ for path in Path(folder).glob("*/expert.py")}
    return sorted(names | _plugged_in.keys())


def plugged_in_heads() -> dict[str, Path]:
    """Return the folder of each head or task from outside the suite and s3prl, by name."""
    return dict(_plugged_in)


def check_downstream(name: str) -> None:
    """Check that there is a head or task of this name.

    Raises:
        UsageError: there is none; the message names the nearest ones and the heads that failed to import
    """
    known = downstream_names()
    if name not in known:
        raise UsageError(f"-d {name}: no such head or task{nearest(name, known)}{HEADS.hint()}")


def expert_class(head: str) -> Any:
    """Return the class ``DownstreamExpert`` of a head or task."""
    return importlib.import_module(f"{PARENT}.{head}.expert").DownstreamExpert


def _add_head(expert: ModuleType) -> list[str]:
    """Note the head whose ``expert.py`` was imported, and make it importable as ``s3prl.downstream.<head>``."""
    if not hasattr(expert, "DownstreamExpert"):
        return []
    package = expert.__name__.rpartition(".")[0]
    name, folder = package.rpartition(".")[2], Path(str(expert.__file__)).resolve().parent
    known = _plugged_in.get(name) or path_of_module(f"{PARENT}.{name}")
    if known not in (None, folder):
        raise UsageError(f"{folder}: head {name!r} exists already, {known}; rename its folder")
    if package != f"{PARENT}.{name}":
        _ALIASES.packages[f"{PARENT}.{name}"] = package
        importlib.import_module(f"{PARENT}.{name}.expert")
    _plugged_in[name] = folder
    return [name]


class _Aliases(MetaPathFinder, Loader):
    """Resolve ``s3prl.downstream.<head>`` to the package that a head was installed as, and so its submodules."""

    def __init__(self) -> None:
        self.packages: dict[str, str] = {}  # by the name in s3prl

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if self._real_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(self._real_name(spec.name)))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give back the module its own spec, which the import system has replaced; it is executed already."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state

    def _real_name(self, fullname: str) -> str | None:
        alias = ".".join(fullname.split(".")[:3])
        return self.packages[alias] + fullname[len(alias) :] if alias in self.packages else None


_ALIASES = _Aliases()
sys.meta_path.insert(0, _ALIASES)
HEADS = Plugins(
    noun="head",
    parent=PARENT,
    module="expert",
    flag="--downstream_path",
    variable="S3PRL_DOWNSTREAM_PATH",
    group="s3prl_emotion.downstreams",
    lacking="its expert.py defines no class DownstreamExpert",
    add=_add_head,
)
