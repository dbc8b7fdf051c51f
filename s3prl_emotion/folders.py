"""Where the suite's heads, adapters and recipes lie: below the package in a wheel, beside it in a checkout.

``setup.cfg`` maps the top-level folders into the package, so a wheel has ``s3prl_emotion/downstream`` on disk while a
checkout and an editable install do not. Nothing else in the suite may build these paths.
"""

from __future__ import annotations

from pathlib import Path

from s3prl_emotion.errors import UsageError

PACKAGE = Path(__file__).resolve().parent


def heads_folder() -> Path:
    """Folder with one sub-folder per head (``downstream/``)."""
    return _folder("downstream")


def adapters_folder() -> Path:
    """Folder with one sub-folder per upstream family (``upstream_adapters/``)."""
    return _folder("upstream_adapters")


def recipes_folder() -> Path:
    """Folder with one sub-folder of YAML recipes per paper (``recipes/``)."""
    return _folder("recipes")


def heads() -> list[str]:
    """Names of the suite's heads, sorted: every folder with an ``expert.py``."""
    return sorted(path.parent.name for path in heads_folder().glob("*/expert.py"))


def is_suite_head(name: object) -> bool:
    """Whether ``name`` is one of this suite's heads, rather than a stock task of s3prl."""
    return name in heads()


def _folder(name: str) -> Path:
    for place in (PACKAGE / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise UsageError(f"the suite's folder {name!r} is missing beside {PACKAGE}; install s3prl-emotion again")
