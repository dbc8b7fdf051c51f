"""Read and write segments, the files of a store, so that no crash, full disk or flipped bit yields wrong features.

A segment is a pair of files that one process writes and any number of processes read, even at the same time::

    <made>-<pid>-<random>.features    payloads: [L, T, D] row-major, each at a multiple of 64 bytes
    <made>-<pid>-<random>.index       magic, then one entry of 80 bytes per payload, in the order of writing

An entry is written after its payload, in one call. It has checksums of the payload and of itself, which reveal a torn
entry, or a payload that did not reach the disk before the machine died. A writer never appends to an older segment, so
a torn entry is always the last. While a writer is open it shares a lock on the folder, which excludes upkeep.
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
ALIGNMENT = 64  # bytes; as in torch's own memory, so that the same arithmetic gives the same bits
SEGMENT_BYTES = 4 << 30  # a writer then begins another segment, so that upkeep rewrites little at a time
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DTYPE_NAMES = tuple(str(dtype).removeprefix("torch.") for dtype in DTYPES)
MOST = 1 << 24  # layers, channels: more is damage that a checksum does not reveal
LAST_BYTE = 1 << 62  # of any file
FEATURES, INDEX, LOCK = ".features", ".index", "lock"


class Entry(NamedTuple):
    """Position, shape, type and checksum of a stack."""

    key: bytes
    checksum: bytes
    offset: int
    size: int
    layers: int
    frames: int
    dim: int
    dtype: int
    samples: int

    def is_possible(self) -> bool:
        """Return whether the fields agree with each other, so that they can be read as a stack."""
        if self.dtype >= len(DTYPES) or not (1 <= self.layers <= MOST and 1 <= self.dim <= MOST):
            return False
        count = self.layers * self.frames * self.dim
        return self.size == count * DTYPES[self.dtype].itemsize and self.offset + self.size <= LAST_BYTE


class Segment:
    """A segment as a reader sees it, which grows while its writer is open."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.index_read = 0
        self.bad_entries = 0
        self.map: Tensor | None = None  # bytes of the file; holds no descriptor, of which a process may have few

    def new_entries(self) -> Iterator[Entry]:
        """Yield the entries that were added since the last call; skip and count damaged and impossible ones."""
        with self.stem.with_suffix(INDEX).open("rb") as file:
            magic, raw = file.read(len(MAGIC)), b""
            if magic == MAGIC:
                self.index_read = max(self.index_read, len(MAGIC))
                file.seek(self.index_read)
                raw = file.read()
            elif len(magic) == len(MAGIC) and self.index_read == 0:  # shorter: it is being made
                self.bad_entries, self.index_read = self.bad_entries + 1, len(MAGIC)
        whole = len(raw) - len(raw) % ENTRY.size  # a torn last entry, or one that is being written
        self.index_read += whole
        starts = range(0, whole, ENTRY.size)
        for start, (*fields, check) in zip(starts, ENTRY.iter_unpack(raw[:whole]), strict=True):
            entry = Entry._make(fields)
            if xxhash.xxh3_64_intdigest(raw[start : start + ENTRY.size - 8]) == check and entry.is_possible():
                yield entry
            else:
                self.bad_entries += 1

    def read(self, entry: Entry) -> Tensor | None:
        """Return the stack ``[L, T, D]`` of an entry, mapped, not copied; ``None`` if the file was truncated."""
        path, end = self.stem.with_suffix(FEATURES), entry.offset + entry.size
        size = path.stat().st_size
        if size < end:  # also if mapped before: reading beyond the end of a file kills the process
            return None
        if self.map is None or len(self.map) < end:  # views of the older map keep it alive
            self.map = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        flat = self.map[entry.offset : end].view(DTYPES[entry.dtype])
        return flat.view(entry.layers, entry.frames, entry.dim)

    def prefetch(self, entry: Entry) -> None:
        """Ask the system to read an entry from the disk before it is used."""
        with contextlib.suppress(OSError):  # only a hint
            descriptor = os.open(self.stem.with_suffix(FEATURES), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, entry.offset, entry.size, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


class SegmentWriter:
    """Append stacks to new segments in ``folder``."""

    def __init__(self, folder: Path, locked: bool = False) -> None:
        self.folder = folder
        self.locked = locked  # by the caller, see exclusive()
        self.stem = folder
        self.payload: int | None = None
        self.index: int | None = None
        self.lock: int | None = None
        self.end = 0

    def append(self, key: bytes, stack: Tensor, samples: int) -> Path:
        """Write a stack ``[L, T, D]`` and then its entry.

        Returns:
            path of the segment

        Raises:
            StoreError: the disk is full or the folder cannot be written; earlier records are unchanged
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
                f"{self.folder}: no room for {len(data) / 1e6:.1f} MB more ({error.strerror}); free disk space "
                "and run again: stored features are kept"
            ) from error
        self.end = offset + len(data)
        return self.stem

    def close(self) -> None:
        """Close the segment and release the lock."""
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
                f"{self.folder}: cannot be written ({error.strerror}); fix its permissions or free disk space"
            ) from error
        self.end = 0

    @staticmethod
    def _descriptor(value: int | None) -> int:
        if value is None:
            raise StoreError("the segment is closed")
        return value


def checksum(data: memoryview) -> bytes:
    """Return the checksum of a payload, 16 bytes."""
    return xxhash.xxh3_128_digest(data)


def intact(entry: Entry, stack: Tensor) -> bool:
    """Return whether a stack is as it was written."""
    return checksum(raw_bytes(stack)) == entry.checksum


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU, not copied."""
    return tensor.view(-1).view(torch.uint8).numpy().data


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make writers of a collection wait until the block ends.

    Raises:
        StoreError: a process is writing to it
    """
    with (folder / LOCK).open("ab") as file:
        if not lock(file):
            raise StoreError(f"{folder}: is being written to; run this again when extraction or training has ended")
        yield


def stems(folder: Path) -> list[Path]:
    """Return the segments of a collection, oldest first."""
    return sorted(path.with_suffix("") for path in folder.glob(f"*{INDEX}") if _is_pair(path))


def _is_pair(index: Path) -> bool:
    return index.is_file() and index.with_suffix(FEATURES).is_file()


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
