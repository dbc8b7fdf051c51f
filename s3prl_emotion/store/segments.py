"""Segments: how stacks of layers lie on disk, so that a crash, a full disk or a flipped bit never yields a wrong one.

A segment is a pair of files that one process writes and many read, at the same time if need be::

    <made>-<pid>-<random>.features    payloads: [L, T, D] row-major, each at a multiple of 64 bytes
    <made>-<pid>-<random>.index       magic, then one entry of 80 bytes a payload, in the order of writing

An entry is written after its payload, in one piece. It carries checksums of the payload and of itself, so a torn entry,
or a payload that did not reach the disk before the machine died, is told apart from a good one. A writer never goes on
with an older segment, so torn ends stay ends. While it lives it shares a lock on the folder, which keeps upkeep off.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import xxhash
from torch import Tensor

from s3prl_emotion.errors import StoreError
from s3prl_emotion.files.locks import lock

MAGIC = b"S3EMOIX1"
ENTRY = struct.Struct("<16s16sQQIIIIQQ")  # key, checksum, offset, bytes, L, T, D, dtype, samples, checksum of these
ALIGNMENT = 64  # bytes; as torch's own memory, so that the same arithmetic gives the same bits
SEGMENT_BYTES = 4 << 30  # a writer then begins another segment, so that upkeep goes in portions
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DTYPE_NAMES = tuple(str(dtype).removeprefix("torch.") for dtype in DTYPES)
FEATURES, INDEX, LOCK = ".features", ".index", "lock"


class Entry(NamedTuple):
    """Where a stack lies and what it is."""

    key: bytes
    checksum: bytes
    offset: int
    size: int
    layers: int
    frames: int
    dim: int
    dtype: int
    samples: int


class Segment:
    """A segment as a reader sees it; grows while its writer lives."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.index_read = 0
        self.bad_entries = 0
        self.map: Tensor | None = None  # the bytes of the file; holds no descriptor, of which a process may have few

    def new_entries(self) -> Iterator[Entry]:
        """Entries that were added since the last call; those that are damaged are left out and counted."""
        with self.stem.with_suffix(INDEX).open("rb") as file:
            magic, raw = file.read(len(MAGIC)), b""
            if magic == MAGIC:
                self.index_read = max(self.index_read, len(MAGIC))
                file.seek(self.index_read)
                raw = file.read()
            elif len(magic) == len(MAGIC) and self.index_read == 0:  # shorter: it is just being made
                self.bad_entries, self.index_read = self.bad_entries + 1, len(MAGIC)
        whole = len(raw) - len(raw) % ENTRY.size  # a torn last entry, or one that is being written
        self.index_read += whole
        starts = range(0, whole, ENTRY.size)
        for start, (*fields, check) in zip(starts, ENTRY.iter_unpack(raw[:whole]), strict=True):
            if xxhash.xxh3_64_intdigest(raw[start : start + ENTRY.size - 8]) != check:
                self.bad_entries += 1
                continue
            yield Entry._make(fields)

    def read(self, entry: Entry) -> Tensor | None:
        """The stack ``[L, T, D]`` of an entry, mapped and not copied; ``None`` where the file was cut short."""
        path, end = self.stem.with_suffix(FEATURES), entry.offset + entry.size
        size = path.stat().st_size
        if size < end:  # also where it was mapped before: reading beyond the end of a file kills the process
            return None
        if self.map is None or len(self.map) < end:  # older views keep the older map alive
            self.map = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        flat = self.map[entry.offset : end].view(DTYPES[entry.dtype])
        return flat.view(entry.layers, entry.frames, entry.dim)

    def prefetch(self, entry: Entry) -> None:
        """Ask the system to read an entry from the disk ahead of its use."""
        with contextlib.suppress(OSError):  # a hint, no more
            descriptor = os.open(self.stem.with_suffix(FEATURES), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, entry.offset, entry.size, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


class SegmentWriter:
    """Appends stacks to segments of its own in ``folder``."""

    def __init__(self, folder: Path, locked: bool = False) -> None:
        self.folder = folder
        self.locked = locked  # by the caller, see alone()
        self.stem = folder
        self.payload: int | None = None
        self.index: int | None = None
        self.lock: int | None = None
        self.end = 0

    def append(self, key: bytes, stack: Tensor, samples: int) -> Path:
        """Write a stack ``[L, T, D]`` and then its entry.

        Returns:
            the segment that it went to

        Raises:
            StoreError: the disk is full or the folder cannot be written; what was there before is untouched
        """
        data = raw_bytes(stack.detach().cpu().contiguous())
        if self.payload is None or self.end + len(data) > SEGMENT_BYTES:
            self._end()
            self._begin()
        offset = -(-self.end // ALIGNMENT) * ALIGNMENT
        entry = ENTRY.pack(key, checksum(data), offset, len(data), *stack.shape, DTYPES.index(stack.dtype), samples, 0)
        entry = entry[:-8] + struct.pack("<Q", xxhash.xxh3_64_intdigest(entry[:-8]))
        index_end = os.lseek(self._descriptor(self.index), 0, os.SEEK_END)
        try:
            _write_all(self._descriptor(self.payload), data, offset)
            _write_all(self._descriptor(self.index), memoryview(entry), index_end)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor(self.index), index_end)
                os.ftruncate(self._descriptor(self.payload), self.end)
            raise StoreError(
                f"{self.folder}: no room for {len(data) / 1e6:.1f} MB more ({error.strerror}); free room on the disk "
                "and run again: what is stored is kept"
            ) from error
        self.end = offset + len(data)
        return self.stem

    def close(self) -> None:
        """Let go of segment and lock."""
        self._end()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def _end(self) -> None:
        for descriptor in (self.payload, self.index):
            if descriptor is not None:
                os.close(descriptor)
        self.payload = self.index = None

    def _begin(self) -> None:
        self.stem = stem = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        try:
            if self.lock is None and not self.locked:
                self.lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
                lock(self.lock, shared=True, wait=True)  # until upkeep ends
            self.payload = os.open(stem.with_suffix(FEATURES), flags, 0o666)
            self.index = os.open(stem.with_suffix(INDEX), flags, 0o666)
            _write_all(self.index, memoryview(MAGIC), 0)
        except OSError as error:
            self.close()
            raise StoreError(
                f"{self.folder}: cannot be written ({error.strerror}); mend its rights or free room on the disk"
            ) from error
        self.end = 0

    @staticmethod
    def _descriptor(value: int | None) -> int:
        if value is None:
            raise StoreError("the segment is closed")
        return value


def checksum(data: memoryview) -> bytes:
    """Checksum of a payload, 16 bytes."""
    return xxhash.xxh3_128_digest(data)


def intact(entry: Entry, stack: Tensor) -> bool:
    """Whether a stack is what was written."""
    return checksum(raw_bytes(stack)) == entry.checksum


def raw_bytes(tensor: Tensor) -> memoryview:
    """Memory of a contiguous tensor on the CPU, not copied."""
    return tensor.view(-1).view(torch.uint8).numpy().data


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep writers of a collection waiting.

    Raises:
        StoreError: somebody writes to it right now
    """
    with (folder / LOCK).open("ab") as file:
        if not lock(file):
            raise StoreError(f"{folder}: is being written to; run this again when extraction or training has ended")
        yield


def stems(folder: Path) -> list[Path]:
    """Segments of a collection, oldest first."""
    return sorted(path.with_suffix("") for path in folder.glob(f"*{INDEX}") if path.with_suffix(FEATURES).is_file())


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
