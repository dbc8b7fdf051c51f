"""Record the utterance embeddings of a head, write them as npz, and read them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.files.writing import write_arrays

SUFFIX = "_embeddings.npz"


class EmbeddingTap:
    """Record the last input of a layer.

    Args:
        layer: layer whose input ``[B, E]`` is the utterance embedding
    """

    def __init__(self, layer: nn.Module) -> None:
        self._last: Tensor | None = None
        layer.register_forward_pre_hook(self._keep)

    def take(self) -> list[NDArray[np.float32]]:
        """Return the rows ``[E]`` of the last batch, and forget them."""
        rows, self._last = self._last, None
        return [] if rows is None else list(rows.float().cpu().numpy())

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._last = inputs[0].detach()


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of N utterances.

    Attributes:
        names: names of the utterances, ``[N]``
        rows: embeddings, ``[N, E]``
        about: classes and speakers, ``[N]`` each, as far as the file has them
    """

    names: NDArray[np.str_]
    rows: NDArray[np.float32]
    about: dict[str, NDArray[Any]]


def save(folder: Path, stem: str, names: Sequence[str], rows: Sequence[NDArray[np.float32]]) -> Path:
    """Write ``{stem}_embeddings.npz`` with ``names [N]`` and ``embeddings [N, E]``, and return its path.

    Raises:
        TrainingError: the folder cannot be written, or the disk is full
    """
    arrays = {"names": np.asarray(names, dtype=np.str_), "embeddings": np.stack(rows)}
    return write_arrays(folder / f"{stem}{SUFFIX}", arrays)


def load(path: Path) -> Embeddings:
    """Read embeddings that :func:`save` or ``s3prl-emotion export --pooling`` wrote.

    Raises:
        UsageError: the file is missing or damaged, or holds something else
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; an evaluation with downstream_expert.embeddings: true writes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files if "/" not in name}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: damaged, or no npz file ({' '.join(str(error).split())})") from error
    rows, names = content.get("embeddings", content.get("features")), content.get("names")
    if rows is not None and rows.ndim == 3 and rows.shape[1] == 1:  # one layer
        rows = rows[:, 0]
    if rows is not None and rows.ndim == 3:
        raise UsageError(f"{path}: holds {rows.shape[1]} layers; take one with s3prl-emotion export -l LAYER")
    if rows is None or names is None or rows.ndim != 2 or rows.dtype.kind not in "fiu" or names.shape != rows.shape[:1]:
        raise UsageError(
            f"{path}: holds no utterance embeddings (names [N] and embeddings [N, E]); of s3prl-emotion export, take "
            "one with --pooling mean"
        )
    about = {key: content[name] for key, name in (("class", "classes"), ("speaker", "speakers")) if name in content}
    return Embeddings(names.astype(np.str_), rows.astype(np.float32), about)


def stored_rows(files: Sequence[str | Sequence[str]], names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read the embeddings ``[E]`` of utterances, by name, and concatenate those of several files.

    Args:
        files: npz files with an embedding of every utterance, as :func:`load` reads them; a list of files counts as
            one, so that each corpus may have its own
        names: names of the utterances

    Raises:
        UsageError: a file cannot be read, or lacks an utterance
        LabelError: an embedding is not finite
    """
    joined: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for entry in files:
        together = [entry] if isinstance(entry, str) else list(entry)
        rows: dict[str, NDArray[np.float32]] = {}
        for file in together:
            loaded = load(Path(file).expanduser())
            rows = dict(zip(loaded.names.tolist(), loaded.rows, strict=True)) | rows  # the first file has priority
        if len({len(row) for row in rows.values()}) > 1:
            raise UsageError(f"{', '.join(together)}: hold embeddings of different sizes; export them alike")
        for name, parts in joined.items():
            if name not in rows:
                raise UsageError(
                    f"{', '.join(together)}: holds no embedding of {name}; export that corpus with s3prl-emotion export"
                )
            if not np.isfinite(rows[name]).all():
                raise LabelError(f"{', '.join(together)}: the embedding of {name} is not finite; export it anew")
            parts.append(rows[name])
    return {name: np.concatenate(parts) for name, parts in joined.items()}
