"""Hash files and folders by their content, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import xxhash

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx")
LARGE = 64 << 20  # bytes; a larger file of weights is sampled, since its parameters are hashed in the loaded model
ENDS = 1 << 20  # bytes at the start and at the end of a sampled file, where archives keep plain data and checksums
SAMPLES, SAMPLE = 64, 1 << 14  # number and bytes of the samples between
CACHE, DOCUMENTATION = "__pycache__", ".md"
BLOCK = 1 << 22  # bytes


def file_hash(path: Path) -> str:
    """Return a hash of a file's content; of a large file of weights, of its size and of samples of its content."""
    digest = xxhash.xxh3_128()
    size = path.stat().st_size
    with path.open("rb") as file:
        if path.suffix not in WEIGHTS or size <= LARGE:
            while block := file.read(BLOCK):
                digest.update(block)
            return digest.hexdigest()
        digest.update(f"{size}\n".encode())
        for start, length in _samples(size):
            file.seek(start)
            digest.update(file.read(length))
    return digest.hexdigest()


def folder_hash(folder: Path) -> str:
    """Return a hash of the names and contents of a folder's files, except caches, hidden folders and ``*.md``."""
    digest = xxhash.xxh3_128()
    for path in files_in(folder):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that its hash covers, sorted; links are followed."""
    found = []
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "." and name != CACHE]
        found += [] if real in seen else [Path(root, name) for name in files if not name.endswith(DOCUMENTATION)]
        seen.add(real)
    return sorted(path for path in found if path.is_file())


def _samples(size: int) -> Iterator[tuple[int, int]]:
    """Yield offsets and lengths of the samples of a large file."""
    yield 0, ENDS
    yield from ((ENDS + number * (size - 2 * ENDS) // SAMPLES, SAMPLE) for number in range(SAMPLES))
    yield size - ENDS, ENDS
