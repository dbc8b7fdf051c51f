"""YAML for a matrix: a key that stands twice is an error, as are names that YAML takes for numbers."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError
from s3prl_emotion.yaml_files import read_yaml

KIND = "matrix"
MERGE = "tag:yaml.org,2002:merge"  # YAML's <<


class _NoDuplicates(yaml.SafeLoader):
    """PyYAML lets the last of several equal keys win, silently."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:  # before << is followed, whose keys may be overridden
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", key_node.start_mark)
        if isinstance(key, Hashable):
            seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the mapping that a matrix is.

    Raises:
        UsageError: no such file
        ConfigError: not YAML, no mapping, or keys that stand twice or are no text
    """
    values = read_yaml(path, f"no such matrix; give a YAML file with kind: {KIND}", loader=_NoDuplicates)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a matrix is a mapping with kind: {KIND}")
    for key, value in values.items():
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            name = next(name for name in value if not isinstance(name, str))
            raise ConfigError(f"{path}: {key}: the name {name!r} must be in quotation marks")
    return values
