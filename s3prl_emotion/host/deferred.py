"""Import what s3prl imports ahead, but few runs need, when it is used: upstreams, and Hugging Face's client."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from s3prl_emotion.host.index import Index, index_of

HUB = "s3prl.hub"
SLOW = ("s3prl.upstream.hf_hubert.expert", "s3prl.upstream.hf_wav2vec2.expert")  # models of transformers: seconds
_names_of: Callable[[ModuleType], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__


def import_hub(adapters: Iterable[Path], add_adapter: Callable[[Path], Any]) -> None:
    """Put a hub in place of ``s3prl.hub`` that imports an upstream when it is asked for; once per process.

    A hub that is imported already stays, and gets all adapters at once.

    Args:
        adapters: the folders of the suite's adapters
        add_adapter: imports the adapter of a folder and adds its names to the hub
    """
    folders = {f"s3prl.upstream.{folder.name}.hubconf": folder for folder in adapters}
    if HUB in sys.modules:
        if not isinstance(sys.modules[HUB], LazyHub):
            for folder in folders.values():
                add_adapter(folder)
        return
    spec = importlib.util.find_spec(HUB)
    if spec is None or spec.origin is None:  # s3prl is broken: let the import say how
        importlib.import_module(HUB)
        return
    hub = importlib.util.module_from_spec(spec)
    hub.__class__ = LazyHub
    for name, value in (
        ("_index", index_of(Path(spec.origin), folders.values())),
        ("_adapters", folders),
        ("_add_adapter", add_adapter),
        ("_lock", RLock()),
        ("_is_full", False),
    ):
        setattr(hub, name, value)
    sys.modules[HUB] = hub
    vars(importlib.import_module("s3prl"))["hub"] = hub


def import_script() -> tuple[ModuleType, ModuleType]:
    """Import s3prl's ``run_downstream`` and its runner without Hugging Face's client, which only uploads use.

    Returns:
        both modules
    """
    client = importlib.import_module("huggingface_hub")
    waits = "huggingface_hub.hf_api" not in sys.modules
    if waits:
        vars(client)["HfApi"] = _builder("huggingface_hub", "HfApi")
    try:
        names = ("s3prl.run_downstream", "s3prl.downstream.runner")
        script, runner = [importlib.import_module(name) for name in names]
    finally:
        if waits:  # whoever imports it itself gets the real one
            del vars(client)["HfApi"]
    return script, runner


def taken(name: str) -> Any:
    """Return what ``s3prl.hub`` has under a name, or None; the whole hub is imported only where its index has gaps."""
    hub = sys.modules[HUB]
    if isinstance(hub, LazyHub) and name not in dir(hub):
        return None
    return getattr(hub, name, None)


def indexed() -> set[str]:
    """Return the upstreams of ``s3prl.hub`` that are not imported yet."""
    hub = sys.modules[HUB]
    return set(hub._index.modules) if isinstance(hub, LazyHub) else set()


class LazyHub(ModuleType):
    """``s3prl.hub``, whose upstreams are imported by name, and all of them for a name that the index lacks."""

    _index: Index
    _adapters: dict[str, Path]
    _add_adapter: Callable[[Path], Any]
    _lock: Any
    _is_full: bool

    def __getattr__(self, name: str) -> Any:
        """Import the upstream ``name``."""
        names = _names_of(self)
        if not name.startswith("_"):
            with self._lock:
                if name not in names and not self._is_full:
                    self._import_one(self._index.modules.get(name, HUB))
                if name not in names and not self._is_full:
                    self._import_all()
                if name in names:
                    return names[name]
        raise AttributeError(f"module {HUB!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        """Return all names, from the index where it is complete."""
        if not self._index.complete:
            self._import_all()
        return sorted({*_names_of(self), *self._index.modules})

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """All that the hub holds, for ``vars`` and star imports."""
        self._import_all()
        return _names_of(self)

    def _import_one(self, module: str) -> None:
        """Import one ``hubconf.py`` and take over its names."""
        if module == HUB:
            return
        upstreams = [name for name, home in self._index.modules.items() if home == module]
        for name in upstreams:  # it is on its way: an adapter's names are checked against the others
            del self._index.modules[name]
        try:
            if module in self._adapters:
                self._add_adapter(self._adapters[module])
                return
            hubconf = importlib.import_module(module)
            for name in filter(partial(hasattr, hubconf), upstreams):  # another name for one is found with all
                setattr(self, name, getattr(hubconf, name))
        except BaseException:  # whoever asks again is told again
            self._index.modules.update(dict.fromkeys(upstreams, module))
            raise

    def _import_all(self) -> None:
        """Import all of s3prl's upstreams, as its own hub does, and all adapters."""
        with self._lock:
            if self._is_full:
                return
            self._is_full = True
            plugged_in = dict(_names_of(self))
            waiting = [name for name in SLOW if name not in sys.modules]
            for name in waiting:
                stand_in = ModuleType(name)
                vars(stand_in)["UpstreamExpert"] = _builder(name, "UpstreamExpert")
                sys.modules[name] = stand_in
            try:
                self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
            except BaseException:
                self._is_full = False
                raise
            finally:
                for name in waiting:  # whoever imports the module itself gets the real one
                    del sys.modules[name]
            _names_of(self).update(plugged_in)
            self._index = Index()
            for folder in self._adapters.values():
                self._add_adapter(folder)


def _builder(module: str, name: str) -> Any:
    """Return a function that imports a class when it is called, and builds an object of it."""

    def build(*args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **options)

    return build
