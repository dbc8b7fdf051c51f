"""Locate the heads, adapters, recipes and the cache: inside the package in a wheel, beside it in a checkout.

``setup.cfg`` maps the top-level folders into the package, so a wheel has ``s3prl_emotion/downstream`` on disk while a
checkout and an editable install do not. No other module may build these paths.
"""

from __future__ import annotations

import os
from pathlib import Path

from s3prl_emotion.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]
CACHE_VARIABLE = "S3PRL_EMOTION_CACHE"


def heads_folder() -> Path:
    """Return the folder with one sub-folder per head (``downstream/``)."""
    return _folder("downstream")


def adapters_folder() -> Path:
    """Return the folder with one sub-folder per upstream family (``upstream_adapters/``)."""
    return _folder("upstream_adapters")


def recipes_folder() -> Path:
    """Return the folder with one sub-folder of YAML recipes per paper (``recipes/``)."""
    return _folder("recipes")


def cache_folder() -> Path:
    """Return the folder for files that can be made again: ``S3PRL_EMOTION_CACHE``, or one in the user's own cache.

    Raises:
        UsageError: the variable is not set and the user has no home folder
    """
    named = os.environ.get(CACHE_VARIABLE)
    try:
        if named:
            return Path(named).expanduser()
        xdg = os.environ.get("XDG_CACHE_HOME")
        return (Path(xdg) if xdg else Path.home() / ".cache") / "s3prl_emotion"
    except RuntimeError as error:  # from pathlib: no home folder
        raise UsageError(f"no folder for the cache: {error}; name one in {CACHE_VARIABLE}") from error


def heads() -> list[str]:
    """Return the names of the suite's heads, sorted: the folders with an ``expert.py``."""
    return sorted(path.parent.name for path in heads_folder().glob("*/expert.py"))


def _folder(name: str) -> Path:
    for folder in (PACKAGE / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"the suite's folder {name!r} is missing beside {PACKAGE}; install s3prl-emotion again")
