"""List the versions of Python and of the packages that a result depends on."""

from __future__ import annotations

import platform
from importlib import metadata

from s3prl_emotion import __version__

# audmetric is the tests' reference for the metrics; its version stays part of the files' format.
PACKAGES = ("s3prl", "torch", "torchaudio", "transformers", "numpy", "audmetric", "scikit-learn", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    numbers = {"s3prl-emotion": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            numbers[name] = "not installed as a package"
    return numbers
