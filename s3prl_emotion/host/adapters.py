"""Add the upstreams of adapters to ``s3prl.hub``, so that ``-u`` knows them.

An adapter is a folder with ``hubconf.py`` and ``expert.py``, as in ``s3prl/upstream``. It comes from the suite itself,
from a folder that ``--upstream_path`` or ``S3PRL_UPSTREAM_PATH`` names, or from an installed package, through the
entry-point group ``s3prl_emotion.upstreams``.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from s3prl_emotion.errors import UsageError, nearest
from s3prl_emotion.files.folders import adapters_folder
from s3prl_emotion.host.deferred import import_hub, indexed, taken
from s3prl_emotion.host.plugins import Plugins

NOT_UPSTREAMS = {"options"}  # public and callable in s3prl.hub, but no upstreams


def add_suite_adapters() -> None:
    """Make the suite's adapters attributes of ``s3prl.hub``, importable as ``s3prl.upstream.<adapter>``."""
    import_hub(ADAPTERS.folders(adapters_folder()), ADAPTERS.register_folder)
    package = importlib.import_module(ADAPTERS.parent)
    if str(adapters_folder()) not in package.__path__:
        package.__path__.append(str(adapters_folder()))


def upstream_names() -> list[str]:
    """Return the upstreams that ``-u`` knows, sorted."""
    hub = importlib.import_module("s3prl.hub")
    names = [name for name in dir(hub) if not name.startswith("_") and name not in NOT_UPSTREAMS]
    return sorted(name for name in names if name in indexed() or callable(getattr(hub, name)))


def find_upstream(name: str, flag: str = "-u") -> Callable[..., Any]:
    """Return the function of ``s3prl.hub`` that builds an upstream.

    Args:
        name: of the upstream, as given to ``-u``
        flag: that gave the name, for the message

    Raises:
        UsageError: no such upstream; the message names the nearest ones and the adapters that failed to import
    """
    is_public = not name.startswith("_") and name not in NOT_UPSTREAMS
    entry: Any = getattr(importlib.import_module("s3prl.hub"), name, None) if is_public else None
    if not callable(entry):
        raise UsageError(f"{flag} {name}: no such upstream{nearest(name, upstream_names())}{ADAPTERS.hint()}")
    return cast(Callable[..., Any], entry)


def origin_of_upstream(name: str) -> Path:
    """Return the file that defines an upstream.

    Raises:
        UsageError: no such upstream
    """
    return Path(_origin(find_upstream(name))).resolve()


def _add_upstreams(hubconf: ModuleType) -> list[str]:
    """Add all upstreams of an adapter to the hub, or none where a name clashes."""
    hub = importlib.import_module("s3prl.hub")
    entries = dict(_entries(hubconf))
    for name, entry in entries.items():
        other = taken(name)
        if other not in (None, entry):
            raise UsageError(f"{hubconf.__file__}: upstream {name!r} exists already, from {_origin(other)}; rename it")
    for name, entry in entries.items():
        setattr(hub, name, entry)
    return list(entries)


def _entries(hubconf: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the public callables that a ``hubconf.py`` defines or lists in ``__all__``, but not those it imports."""
    listed = getattr(hubconf, "__all__", ())
    for name, entry in vars(hubconf).items():
        own = isinstance(entry, functools.partial) or getattr(entry, "__module__", None) == hubconf.__name__
        if callable(entry) and (name in listed or (own and not name.startswith("_"))):
            yield name, entry


def _origin(entry: Any) -> str:
    """Return the file that defines an entry of the hub."""
    function = getattr(entry, "func", entry)  # of a functools.partial
    name = getattr(function, "__module__", None) or type(entry).__module__
    return str(getattr(sys.modules.get(name), "__file__", None) or name)


ADAPTERS = Plugins(
    noun="adapter",
    parent="s3prl.upstream",
    module="hubconf",
    flag="--upstream_path",
    variable="S3PRL_UPSTREAM_PATH",
    group="s3prl_emotion.upstreams",
    lacking="its hubconf.py defines no upstream, which would be a public function in it",
    add=_add_upstreams,
)
