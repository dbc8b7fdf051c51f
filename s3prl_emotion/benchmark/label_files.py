"""The label files that a recipe names, by content: mended labels are other labels, and make another run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark import placeholders

CORPORA = ("corpora", "extra_tests")  # of datarc: each entry with labels and votes of its own


def digests(config: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's definition its label files are.

    Args:
        config: the recipe; it may be malformed, which is told later
        named: the same with placeholders; what a prepared step makes, that step's definition stands for

    Returns:
        ``labels``, and where there are any ``other labels`` by their key in ``datarc``
    """
    paths, symbolic = dict(_files(config)), dict(_files(named))
    others = {
        key: _digest(Path(path).expanduser())
        for key, path in paths.items()
        if not placeholders.prepared_in(symbolic.get(key))
    }
    return {"labels": others.pop("labels", None), **({"other labels": others} if others else {})}


def _files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of ``datarc`` that name files (or, ``degraded``, a folder of them), and what they name."""
    section = config.get("downstream_expert")
    data = section.get("datarc") if isinstance(section, dict) else None
    if not isinstance(data, dict):
        return
    yield "labels", str(data.get("labels"))
    if data.get("degraded"):
        yield "degraded", str(data["degraded"])
    yield from _votes(data, "")
    for kind in CORPORA:
        named = data.get(kind)
        for name, entry in named.items() if isinstance(named, dict) else ():
            if isinstance(entry, dict):
                yield f"{kind}.{name}", str(entry.get("labels"))
                yield from _votes(entry, f"{kind}.{name}.")


def _votes(entry: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    distribution = entry.get("distribution")
    if isinstance(distribution, dict) and distribution.get("votes"):
        yield f"{prefix}votes", str(distribution["votes"])


def _digest(path: Path) -> Any:
    """Of a file; of a folder, those of the tables in it; ``None`` where there is nothing."""
    if path.is_dir():
        return {file.name: _digest(file) for file in sorted(path.glob("*.csv"))} or None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
