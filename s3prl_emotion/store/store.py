"""Open a collection of a store for reading and writing."""

from __future__ import annotations

import gc
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_emotion.errors import StoreError, TrainingError
from s3prl_emotion.files.leftovers import remove_left
from s3prl_emotion.files.outputs import check_folder
from s3prl_emotion.files.versions import versions
from s3prl_emotion.files.writing import write_json
from s3prl_emotion.store.identity import Identity
from s3prl_emotion.store.segments import Entry, Segment, SegmentWriter, intact, stems

logger = logging.getLogger(__name__)
ABOUT = "upstream.json"
FORMAT = 1
REFRESH_SECONDS = 1.0  # longest delay with which records of other processes are noticed


@dataclass
class Stats:
    """Counts since the collection was opened."""

    hits: int = 0
    computed: int = 0
    corrupt: int = 0


class FeatureStore:
    """Stacks of layers ``[L, T, D]`` of one upstream, by waveform.

    Any number of processes may read and write at once. A process checks a record against its checksum when it first
    reads it; a damaged record is dropped and counted with a warning, and can be written again.

    Args:
        folder: the store; it is made if missing
        identity: of the features, see :func:`~s3prl_emotion.store.identity.identify`
        device: on which missing features will be computed, for the record
        ckpt: source of the upstream's weights, for the record

    Raises:
        StoreError: not a feature store, one of a newer format, or it cannot be made
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: Identity, device: str = "cpu", ckpt: str | None = None
    ) -> None:
        self.ckpt = ckpt
        self.root = Path(folder).expanduser()
        self.identity = identity
        self.folder = self.root / identity.id
        self.dtype = getattr(torch, identity.values["dtype"])
        self.stats = Stats()
        self.segments: dict[Path, Segment] = {}
        self.locations: dict[bytes, tuple[Segment, Entry]] = {}
        self.spare: dict[bytes, list[tuple[Segment, Entry]]] = {}  # duplicates, which two processes computed
        self.verified: set[bytes] = set()
        self.writer: SegmentWriter | None = None
        self.refreshed = 0.0
        self.device = device
        self.writable, self.is_made = True, False
        self.writable = self._open(device)
        self.refresh()

    def __len__(self) -> int:
        return len(self.locations)

    def __contains__(self, key: bytes) -> bool:
        return key in self.locations

    def get(self, key: bytes, samples: int) -> Tensor | None:
        """Return the stack ``[L, T, D]`` of a waveform with ``samples`` samples, mapped from the file, or ``None``.

        Callers must not write to the tensor.
        """
        while (location := self.locations.get(key)) is not None:
            segment, entry = location
            try:
                stack = segment.read(entry) if entry.samples == samples else None
            except FileNotFoundError:  # upkeep moved it; the next refresh() finds it again
                self._forget(key)
                continue
            if stack is not None and (key in self.verified or intact(entry, stack)):
                self.verified.add(key)
                self.stats.hits += 1
                return stack
            self.stats.corrupt += 1
            if not self._forget(key):
                logger.warning("%s: a damaged record (%d samples); it is computed again", segment.stem, entry.samples)
        return None

    def put(self, key: bytes, stack: Tensor, samples: int) -> Tensor:
        """Store the stack ``[L, T, D]`` of a waveform.

        Returns:
            the stack in the store's type, as :meth:`get` returns it

        Raises:
            StoreError: no space on the disk, or a value beyond the range of the store's type
        """
        self.stats.computed += 1
        exact, stack = stack.detach(), stack.detach().to(self.dtype)
        if self.dtype == torch.float16 and bool((stack.isinf() & exact.isfinite()).any()):
            raise StoreError(
                f"--store_dtype float16: holds values up to 65504, the features reach {exact.abs().max().item():.3g}; "
                "use bfloat16 or float32"
            )
        if self.writable:
            if self.writer is None:
                if not self.folder.is_dir():
                    self.make()
                self.writer = SegmentWriter(self.folder)
            self._read_segment(self.writer.append(key, stack, samples))
        return stack

    def make(self) -> None:
        """Make the folder of the collection with its description, where they are missing.

        Raises:
            StoreError: they cannot be written
        """
        about = self.folder / ABOUT
        if not self.writable or (self.is_made and about.is_file()):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._is_described(about, self.device):
                write_json(about, self._about(self.device))
            self.is_made = True
        except (OSError, TrainingError) as error:
            raise StoreError(
                f"--feature_store {self.root}: cannot be written ({error}); name another folder or free disk space"
            ) from error

    def prefetch(self, keys: list[bytes]) -> None:
        """Ask the system to read these records from the disk before they are used."""
        for key in keys:
            if key in self.locations:
                segment, entry = self.locations[key]
                segment.prefetch(entry)

    def refresh(self, older_than: float = 0.0) -> None:
        """Look for records of other processes, unless the last look is less than ``older_than`` seconds ago."""
        if time.monotonic() - self.refreshed < older_than:
            return
        with _no_collection():
            for stem in stems(self.folder):  # none where the folder is not made yet
                self._read_segment(stem)
        self.refreshed = time.monotonic()

    def close(self) -> None:
        """Close all files; stacks that were returned stay valid."""
        if self.writer is not None:
            self.writer.close()
        self.segments, self.locations, self.spare = {}, {}, {}

    # --- inside ----------------------------------------------------------------------------------------------------

    def _open(self, device: str) -> bool:
        """Return whether the collection can be written; a new one is made with its first record."""
        about = self.folder / ABOUT
        existing = next((path for path in (self.folder, self.folder.parent) if path.is_dir()), self.root)
        if self.root.is_dir() and not os.access(existing, os.W_OK):
            if self.folder.parent == self.root:  # else said for the collection that holds this one
                logger.warning("%s is read-only: features that it lacks are computed each time", self.root)
            self._is_described(about, device)
            return False
        check_folder(self.root, "--feature_store ", StoreError)
        if self.folder.is_dir():
            remove_left(self.folder)
            self.make()
        return True

    def _about(self, device: str) -> dict[str, Any]:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        by = {**versions(), "device": device, "ckpt": self.ckpt}
        return {"format": FORMAT, "identity": self.identity.values, "made": made, "by": by}

    def _is_described(self, path: Path, device: str) -> bool:
        """Return whether ``upstream.json`` exists and is right; it only describes, reading does not need it."""
        if not path.is_file():
            return False
        try:
            about = read_about(path)
        except StoreError:
            about = {"format": FORMAT, "identity": {}, "by": {}}
        if about["format"] > FORMAT:
            raise StoreError(
                f"{path}: format {about['format']} of the store is not known here; upgrade s3prl-emotion, or remove "
                f"{path.parent} to have it filled again"
            )
        if Identity(about["identity"]).text != self.identity.text:
            logger.warning("%s: damaged; it is written again if possible", path)
            return False
        ours = {**versions(), "device": device}
        differing = [name for name in ("torch", "transformers", "device") if about["by"].get(name) != ours[name]]
        if differing:
            was = ", ".join(f"{name} {about['by'].get(name)} (here {ours[name]})" for name in differing)
            logger.warning("%s was begun with %s: features are the same within rounding", self.folder, was)
        return True

    def _read_segment(self, stem: Path) -> None:
        """Read the new entries of a segment."""
        try:
            segment = self.segments.setdefault(stem, Segment(stem))
            before, entries = segment.bad_entries, list(segment.new_entries())
        except FileNotFoundError:  # upkeep removed it meanwhile
            return
        for entry in entries:
            if entry.key in self.locations:
                self.spare.setdefault(entry.key, []).append((segment, entry))
            else:
                self.locations[entry.key] = (segment, entry)
        if segment.bad_entries > before:
            self.stats.corrupt += segment.bad_entries - before
            logger.warning(
                "%s: %d damaged entries; these are computed again", segment.stem, segment.bad_entries - before
            )

    def _forget(self, key: bytes) -> bool:
        """Drop a record; return whether a duplicate replaces it."""
        self.verified.discard(key)
        if self.spare.get(key):
            self.locations[key] = self.spare[key].pop()
            return True
        del self.locations[key]
        return False


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable Python's garbage collector, which would take most of the time while 150,000 entries are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_about(path: Path) -> dict[str, Any]:
    """Return the content of a collection's ``upstream.json``.

    Raises:
        StoreError: missing or damaged
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"format": int, "identity": dict, "made": str, "by": dict}
        if not all(isinstance(about[name], kind) for name, kind in kinds.items()) or isinstance(about["format"], bool):
            raise TypeError("a value of the wrong type")
        return {name: about[name] for name in kinds}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: damaged or missing; remove {path.parent} to have it filled again") from error
