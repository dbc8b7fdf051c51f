"""Read YAML files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError, UsageError

MERGE = "tag:yaml.org,2002:merge"  # YAML's <<


class _UniqueKeys(yaml.SafeLoader):
    """Reject duplicate keys, of which PyYAML silently uses the last."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:  # before << is followed, whose keys may be overridden
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable) and key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
        if isinstance(key, Hashable):
            keys.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, missing: str, name: str = "") -> Any:
    """Read a YAML file: a mapping, a list, ``None`` for an empty one.

    Args:
        path: of the file
        missing: what to say if there is no such file, and how to fix it
        name: what to call the file in messages, such as ``-g options.yaml``; its path by default

    Raises:
        UsageError: no such file
        ConfigError: not YAML, or a mapping with a duplicate key
    """
    name = name or str(path)
    if not path.is_file():
        raise UsageError(f"{name}: {missing}")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from error
