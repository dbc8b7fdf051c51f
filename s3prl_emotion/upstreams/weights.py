"""Find the files of a model's weights, and check them before they are loaded: safetensors first, else ``.bin``."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from s3prl_emotion.errors import UsageError
from s3prl_emotion.files.checkpoint import archive_fault, is_archive
from s3prl_emotion.files.trust import can_load_safely

SAFE = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDEX = ".index.json"  # lists the files of weights that are split into several
NAMES = (SAFE, SAFE + INDEX, PICKLED, PICKLED + INDEX)  # the first choice first
POINTER = b"version https://git-lfs.github.com/spec/"  # first bytes of what git keeps in place of a large file
LARGEST_POINTER = 1024  # bytes
LARGEST_INDEX = 2**26  # bytes; those of the largest models have some 100 KB

Get = Callable[[str], Path | None]


@dataclass(frozen=True)
class Weights:
    """The files of a model's weights.

    Attributes:
        files: one, or the parts of weights that are split
        safe: whether they are safetensors and not ``.bin``
    """

    files: tuple[Path, ...]
    safe: bool


def find_weights(get: Get, where: str) -> Weights | None:
    """Return the files of the weights, safetensors if there are any.

    Args:
        get: returns the path of a file of the model by its name, or ``None``
        where: the model's name in messages

    Returns:
        the files; ``None`` if the model has no weights

    Raises:
        UsageError: an index is damaged, or a file that it lists is missing; a file is a git-LFS pointer; or the weights
            are ``.bin`` files, and torch is below 2.6
    """
    for name in NAMES:
        path = get(name)
        if path is None:
            continue
        check_pointer(path, where)
        files = tuple(_parts(path, get, where)) if name.endswith(INDEX) else (path,)
        for file in files:
            check_pointer(file, where)
        safe = name.startswith(SAFE)
        if not safe and not can_load_safely():
            raise UsageError(
                f"{where}: its weights are .bin files, which torch {torch.__version__} cannot load safely "
                "(CVE-2025-32434); install torch 2.6 or later, or convert them to safetensors"
            )
        return Weights(files, safe)
    return None


def check_pointer(path: Path, where: str) -> None:
    """Refuse a file that git-LFS has not fetched.

    Raises:
        UsageError: it is a pointer
    """
    if is_pointer(path):
        raise UsageError(
            f"{where}: {path.name} is a git-LFS pointer, not the file itself; run 'git lfs pull' in its directory"
        )


def is_pointer(path: Path) -> bool:
    """Return whether a file is what git-LFS keeps in place of one that it has not fetched."""
    if not path.is_file() or path.stat().st_size > LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def check_pickled(path: Path, where: str) -> None:
    """Check that a ``.bin`` file holds tensors by name and nothing else; no code in it runs, and no tensor is read.

    Raises:
        UsageError: it holds anything else, or is damaged
    """
    fault = archive_fault(path) if is_archive(path) else None
    if fault is not None:
        raise UsageError(f"{where}: {path.name} is damaged ({fault}); fetch it again")
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as error:
        raise UsageError(
            f"{where}: {path.name} is refused: it holds more than tensors, or is damaged; no code in it was run"
        ) from error
    except Exception as error:  # damaged bytes make torch's readers fail in many ways
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{where}: {path.name} is damaged ({detail}); fetch it again") from error
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UsageError(
            f"{where}: {path.name} does not hold tensors by name, as save_pretrained writes them; convert the model "
            "with transformers"
        )


def _parts(index: Path, get: Get, where: str) -> list[Path]:
    """Return the files that an index lists."""
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError("too large")
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("its weight_map lists no files, or files of other directories")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UsageError(f"{where}: {index.name} is damaged ({detail}); fetch it again") from error
    files = []
    for name in names:
        path = get(name)
        if path is None:
            raise UsageError(f"{where}: {name} is missing, which {index.name} lists; fetch it")
        files.append(path)
    return files
