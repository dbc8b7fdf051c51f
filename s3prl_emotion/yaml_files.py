"""Read YAML files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from s3prl_emotion.errors import ConfigError, UsageError
from s3prl_emotion.limits import DEEPEST, excess, shown

LARGEST_FILE = 2**18  # bytes; the largest recipe has some thousand, and PyYAML reads some 50,000 a second
LONGEST_NUMBER = 64  # characters; 1:59:59:… is a number in YAML, and takes long if it goes on
MERGE = "tag:yaml.org,2002:merge"  # YAML's <<
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _UniqueKeys(yaml.SafeLoader):
    """Reject duplicate keys, of which PyYAML silently uses the last, and end where the nesting is too deep."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value; PyYAML itself calls this for each level, and takes long for thousands of them."""
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} levels deep")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:  # before << is followed, whose keys may be overridden
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable) and key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {shown(key)}", key_node.start_mark)
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
        ConfigError: not YAML, a mapping with a duplicate key, or too large, too deep or full of references
    """
    name = name or str(path)
    if not path.is_file():
        raise UsageError(f"{name}: {missing}")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ConfigError(f"{name}: has {size:,} bytes; a file of options has at most {LARGEST_FILE:,}")
    try:
        return _read(path.read_text(encoding="utf-8"), name)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from error


def _read(text: str, name: str) -> Any:
    loader = _UniqueKeys(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        reason = excess(node, _parts, _size)
        if reason is not None:
            raise ConfigError(f"{name}: {reason}; write it without such references (&name, *name) and levels")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _parts(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _size(node: yaml.Node) -> int:
    if not isinstance(node, yaml.ScalarNode):
        return 1
    if node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
    return 1 + len(node.value)
