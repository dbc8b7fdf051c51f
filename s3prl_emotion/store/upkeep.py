"""Looking after a store: what it holds, whether it is intact, and getting rid of what is not needed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion.errors import StoreError, nearest
from s3prl_emotion.store.segments import FEATURES, INDEX, Entry, Segment, SegmentWriter, alone, intact, stems
from s3prl_emotion.store.store import ABOUT, read_about

logger = logging.getLogger(__name__)


@dataclass
class Collection:
    """A collection as it lies on disk."""

    folder: Path
    about: dict[str, Any]
    utterances: int = 0
    bytes: int = 0
    shape: str = ""  # layers x channels


@dataclass
class Verdict:
    """Outcome of reading every record."""

    folder: Path
    good: int = 0
    bad: int = 0
    segments: list[Path] = field(default_factory=list)  # those with bad records


def collections(store: Path) -> list[Collection]:
    """What a store holds, sorted by name.

    Raises:
        StoreError: not a feature store
    """
    return [_collection(folder) for folder in _folders(store)]


def verify(store: Path) -> Iterator[Verdict]:
    """Read every record of every collection and check it.

    Raises:
        StoreError: not a feature store
    """
    for folder in _folders(store):
        verdict = Verdict(folder)
        for stem in stems(folder):
            segment = Segment(stem)
            before = verdict.bad
            for entry in segment.new_entries():
                good = _is_good(segment, entry)
                verdict.good, verdict.bad = verdict.good + good, verdict.bad + (not good)
            verdict.bad += segment.bad_entries
            if verdict.bad > before:
                verdict.segments.append(stem)
        yield verdict


def entries_of(store: Path) -> Iterator[Tensor]:
    """Every intact stack ``[L, T, D]`` of a store, in the order of writing.

    Raises:
        StoreError: not a feature store
    """
    for folder in _folders(store):
        for stem in stems(folder):
            segment = Segment(stem)
            for entry in segment.new_entries():
                stack = segment.read(entry)
                if stack is not None and intact(entry, stack):
                    yield stack


def clean(store: Path) -> tuple[int, int]:
    """Rewrite segments that hold damaged or double records, and remove what no index refers to.

    Returns:
        records that went, bytes that were freed

    Raises:
        StoreError: not a feature store, it is being written to, or there is no room for the copies
    """
    gone, before = 0, 0
    after = 0
    for folder in _folders(store):
        with alone(folder):
            before += _bytes(folder)
            for path in _abandoned(folder):  # first, since the copies below take room
                path.unlink()
            gone += _compact(folder)
            after += _bytes(folder)
    return gone, before - after


def drop(store: Path, name: str) -> int:
    """Remove a collection.

    Returns:
        bytes that were freed

    Raises:
        StoreError: no such collection, or it is being written to
    """
    folders = {folder.name: folder for folder in _folders(store)}
    if name not in folders:
        raise StoreError(f"{store}: holds no collection {name}{nearest(name, folders)}")
    with alone(folders[name]):
        size = _bytes(folders[name])
        shutil.rmtree(folders[name])
    return size


def _folders(store: Path) -> list[Path]:
    if not store.is_dir():
        raise StoreError(f"{store}: no such folder")
    folders = sorted(path.parent for path in store.glob(f"*/{ABOUT}"))
    if not folders:
        raise StoreError(f"{store}: holds no stored features")
    return folders


def _collection(folder: Path) -> Collection:
    try:
        about = read_about(folder / ABOUT)
    except StoreError as error:
        logger.warning("%s", error)
        about = {"identity": {}, "made": "?", "by": {}}
    found = Collection(folder, about, bytes=_bytes(folder))
    keys = set()
    for stem in stems(folder):
        segment = Segment(stem)
        for entry in segment.new_entries():
            keys.add(entry.key)
            found.shape = f"{entry.layers} x {entry.dim}"
    found.utterances = len(keys)
    return found


def _compact(folder: Path) -> int:
    """Copy good records of damaged or partly double segments into a new one; the number of records that went."""
    seen: set[bytes] = set()
    gone = 0
    writer = SegmentWriter(folder, locked=True)
    for stem in reversed(stems(folder)):
        segment = Segment(stem)
        entries = list(segment.new_entries())
        good = [entry for entry in entries if entry.key not in seen and _is_good(segment, entry)]
        seen |= {entry.key for entry in good}
        lost = len(entries) - len(good) + segment.bad_entries
        if lost or not entries:
            for entry in good:
                stack = segment.read(entry)
                if stack is not None:
                    writer.append(entry.key, stack, entry.samples)
            stem.with_suffix(INDEX).unlink()
            stem.with_suffix(FEATURES).unlink()
        gone += lost
    writer.close()
    return gone


def _abandoned(folder: Path) -> list[Path]:
    """What killed processes left: payloads without an index, the other way round, and files not yet renamed."""
    pairs = ((FEATURES, INDEX), (INDEX, FEATURES))
    halves = [
        path for kind, other in pairs for path in folder.glob(f"*{kind}") if not path.with_suffix(other).is_file()
    ]
    return [*halves, *folder.glob(".*.partial")]


def _is_good(segment: Segment, entry: Entry) -> bool:
    stack = segment.read(entry)
    return stack is not None and intact(entry, stack)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
