"""Read the mapping that a matrix is; names that YAML reads as numbers are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.yaml_files import read_yaml

KIND = "matrix"


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the mapping that a matrix is.

    Raises:
        UsageError: no such file
        ConfigError: not YAML, no mapping, or a duplicate key, or one that is no text
    """
    values = read_yaml(path, f"no such matrix; give a YAML file with kind: {KIND}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a matrix is a mapping with kind: {KIND}")
    for key, value in values.items():
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            name = next(name for name in value if not isinstance(name, str))
            raise ConfigError(f"{path}: {key}: the name {name!r} must be in quotation marks")
    return values
