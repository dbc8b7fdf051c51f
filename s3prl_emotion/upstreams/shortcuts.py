"""Make names for ``-u`` that stand for one model of the hub each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from s3prl_emotion.errors import UsageError

Build = Callable[..., Any]


def shortcuts(models: Mapping[str, str], build: Build, custom: str, module: str) -> dict[str, Build]:
    """Return the functions of a ``hubconf.py``, by their names.

    Args:
        models: id on the hub of each name
        build: builds a model, from its id, options and ``refresh``
        custom: name for ``-u`` of any other model of the kind
        module: ``__name__`` of the ``hubconf.py``
    """
    return {name: _shortcut(name, hub_id, build, custom, module) for name, hub_id in models.items()}


def _shortcut(name: str, hub_id: str, build: Build, custom: str, module: str) -> Build:
    def entry(
        ckpt: str | None = None, model_config: Any = None, *args: Any, refresh: bool = False, **kwargs: Any
    ) -> Any:
        if ckpt is not None:
            raise UsageError(f"-u {name} stands for {hub_id}; for another checkpoint use -u {custom} -k {ckpt}")
        return build(hub_id, model_config, refresh=refresh)

    entry.__name__ = entry.__qualname__ = name
    entry.__module__ = module
    entry.__doc__ = f"Build {hub_id} from the hub; options as in :func:`{custom}`."
    return entry
