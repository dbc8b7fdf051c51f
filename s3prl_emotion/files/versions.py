"""List the versions of Python and of the packages that a result depends on."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata

from s3prl_emotion import __version__

# audmetric is the tests' reference for the metrics; its version stays part of the files' format.
PACKAGES = ("s3prl", "torch", "torchaudio", "transformers", "numpy", "audmetric", "scikit-learn", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    numbers = {"s3prl-emotion": __version__, "python": platform.python_version()}
    return numbers | {name: _version(name) for name in PACKAGES}


@lru_cache(maxsize=32)
def _version(name: str) -> str:
    """Return the version of a package; its metadata take 10 ms to read, and do not change while a process runs."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
