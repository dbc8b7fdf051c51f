"""YAML files that users give: one way to read them, with errors that say which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError, UsageError


def read_yaml(path: Path, missing: str, name: str = "", loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read what a file holds: a mapping, a list, ``None`` for an empty one.

    Args:
        path: of the file
        missing: what is wrong where there is no such file, and how to mend it
        name: what to call the file in messages, such as ``-g options.yaml``; its path by default
        loader: a safe one

    Raises:
        UsageError: no such file
        ConfigError: not YAML
    """
    name = name or str(path)
    if not path.is_file():
        raise UsageError(f"{name}: {missing}")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from error
