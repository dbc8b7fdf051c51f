"""List, verify and clean the collections of a store."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion.errors import StoreError, nearest
from s3prl_emotion.store.means import means_folders
from s3prl_emotion.store.segments import FEATURES, INDEX, Entry, Segment, SegmentWriter, exclusive, intact, stems
from s3prl_emotion.store.store import ABOUT, read_about

logger = logging.getLogger(__name__)


@dataclass
class Collection:
    """A collection on disk."""

    folder: Path
    about: dict[str, Any]
    utterances: int = 0  # of which it holds frames
    bytes: int = 0  # without the folders of means
    shape: str = ""  # layers x channels
    means: dict[str, int] = field(default_factory=dict)  # utterances in each folder of means, by its name
    means_bytes: dict[str, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """Outcome of verifying a collection."""

    folder: Path
    good: int = 0  # of frames
    bad: int = 0
    means: int = 0  # good ones
    segments: list[Path] = field(default_factory=list)  # those with bad records
    about: str | None = None  # what is wrong with its description, which counts as a bad record


def collections(store: Path) -> list[Collection]:
    """Return the collections of a store, sorted by name.

    Raises:
        StoreError: not a feature store
    """
    return [_collection(folder) for folder in _folders(store)]


def verify(store: Path) -> Iterator[Verdict]:
    """Read and check every record of every collection.

    Raises:
        StoreError: not a feature store
    """
    for folder in _folders(store):
        verdict = Verdict(folder)
        try:
            read_about(folder / ABOUT)
        except StoreError as error:
            verdict.about, verdict.bad = str(error), 1
        verdict.good = _verify(folder, verdict)
        verdict.means = sum(_verify(part, verdict) for part in means_folders(folder))
        yield verdict


def entries_of(store: Path) -> Iterator[Tensor]:
    """Yield every intact stack ``[L, T, D]`` of a store, in the order of writing.

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
    """Rewrite segments with damaged or duplicate records, and remove files that no index refers to.

    Returns:
        number of removed records, and of freed bytes

    Raises:
        StoreError: not a feature store, it is being written to, or no disk space for the copies
    """
    gone = before = after = 0
    for collection in _folders(store):
        for folder in (collection, *means_folders(collection)):
            with exclusive(folder):
                before += _bytes(folder)
                for path in _abandoned(folder):  # first, to make room for the copies below
                    path.unlink()
                gone += _compact(folder)
                after += _bytes(folder)
    return gone, before - after


def drop(store: Path, name: str) -> int:
    """Remove a collection.

    Returns:
        number of freed bytes

    Raises:
        StoreError: no such collection, or it is being written to
    """
    folders = {folder.name: folder for folder in _folders(store)}
    if name not in folders:
        raise StoreError(f"{store}: has no collection {name}{nearest(name, folders)}")
    parts = [folders[name], *means_folders(folders[name])]
    with ExitStack() as held:
        for part in parts:
            held.enter_context(exclusive(part))
        size = sum(map(_bytes, parts))
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
    collection = Collection(folder, about, bytes=_bytes(folder))
    for part in means_folders(folder):
        collection.means[part.name], collection.shape = _count(part)
        collection.means_bytes[part.name] = _bytes(part)
    collection.utterances, shape = _count(folder)
    collection.shape = shape or collection.shape
    return collection


def _count(folder: Path) -> tuple[int, str]:
    """Return how many utterances a folder holds, and the layers and channels of the last."""
    keys, shape = set(), ""
    for stem in stems(folder):
        for entry in Segment(stem).new_entries():
            keys.add(entry.key)
            shape = f"{entry.layers} x {entry.dim}"
    return len(keys), shape


def _verify(folder: Path, verdict: Verdict) -> int:
    """Check every record of a folder, add the bad ones to the verdict, and return how many are good."""
    number = 0
    for stem in stems(folder):
        segment, before = Segment(stem), verdict.bad
        for entry in segment.new_entries():
            good = _is_good(segment, entry)
            number, verdict.bad = number + good, verdict.bad + (not good)
        verdict.bad += segment.bad_entries
        if verdict.bad > before:
            verdict.segments.append(stem)
    return number


def _compact(folder: Path) -> int:
    """Copy the good records of segments with bad or duplicate ones to a new segment; return how many were dropped."""
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
    """Return what killed processes left: payloads without index, indices without payload, and partial files."""
    pairs = ((FEATURES, INDEX), (INDEX, FEATURES))
    halves = [
        path
        for kind, other in pairs
        for path in folder.glob(f"*{kind}")
        if path.is_file() and not path.with_suffix(other).is_file()
    ]
    return [*halves, *folder.glob(".*.partial")]


def _is_good(segment: Segment, entry: Entry) -> bool:
    stack = segment.read(entry)
    return stack is not None and intact(entry, stack)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
