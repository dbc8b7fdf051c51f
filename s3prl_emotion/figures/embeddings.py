"""Utterance embeddings of a head: kept as npz, and laid out in a plane by t-SNE; Neumann & Vu 2019, Figs. 3-4."""

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

FEWEST = 5  # utterances
PERPLEXITY = 30.0
COLUMNS = 64  # principal components that t-SNE is given, as its authors advise for wide data
SUFFIX = "_embeddings.npz"


class EmbeddingTap:
    """Keeps what a layer was last given.

    Args:
        layer: whose input ``[B, E]`` is wanted
    """

    def __init__(self, layer: nn.Module) -> None:
        self._seen: Tensor | None = None
        layer.register_forward_pre_hook(self._keep)

    def take(self) -> list[NDArray[np.float32]]:
        """Rows ``[E]`` of the last batch."""
        rows, self._seen = self._seen, None
        return [] if rows is None else list(rows.float().cpu().numpy())

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0].detach()


@dataclass(frozen=True)
class Embeddings:
    """Names ``[N]``, embeddings ``[N, E]``, and what else the file says of each utterance ``[N]``."""

    names: NDArray[np.str_]
    rows: NDArray[np.float32]
    about: dict[str, NDArray[Any]]


def save(folder: Path, stem: str, names: Sequence[str], rows: Sequence[NDArray[np.float32]]) -> Path:
    """Write ``{stem}_embeddings.npz``: ``names [N]`` and ``embeddings [N, E]``.

    Raises:
        TrainingError: the folder cannot be written, or the disk is full
    """
    arrays = {"names": np.asarray(names, dtype=np.str_), "embeddings": np.stack(rows)}
    return write_arrays(folder / f"{stem}{SUFFIX}", arrays)


def load(path: Path) -> Embeddings:
    """Read what :func:`save` wrote, or what ``s3prl-emotion export --pooling`` did.

    Raises:
        UsageError: missing, damaged, or no such file
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
    """Embeddings ``[E]`` of utterances, those of several files joined.

    Args:
        files: npz files of :func:`load`, each with an embedding of every utterance; in place of a file may stand a list
            of files which hold an embedding together, such as one file for each corpus
        names: of the utterances

    Raises:
        UsageError: a file cannot be read, or an utterance is in none
        LabelError: an embedding is not finite
    """
    joined: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for entry in files:
        together = [entry] if isinstance(entry, str) else list(entry)
        rows: dict[str, NDArray[np.float32]] = {}
        for file in together:
            found = load(Path(file).expanduser())
            rows = dict(zip(found.names.tolist(), found.rows, strict=True)) | rows  # the first file goes first
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


def in_a_plane(rows: NDArray[np.floating[Any]], perplexity: float | None = None) -> NDArray[np.float64]:
    """Lay embeddings out by t-SNE (van der Maaten & Hinton 2008; scikit-learn's), from their principal components,
    so that nothing is drawn: the same embeddings give the same picture.

    Args:
        rows: embeddings ``[N, E]``
        perplexity: about how many neighbours count; by default 30, of few utterances a third of them

    Returns:
        points ``[N, 2]``; what an axis shows means nothing, and neither do distances between far groups

    Raises:
        LabelError: too few utterances, values that are not finite, or all the same
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows = np.asarray(rows, dtype=np.float64)
    check_rows(rows)
    if perplexity is None:
        perplexity = usual_perplexity(len(rows))
    if not 1 <= perplexity < len(rows):
        raise LabelError(
            f"perplexity {perplexity:g}: must be at least 1 and below the number of utterances, {len(rows)}"
        )
    with threadpool_limits(1):  # or sums depend on the number of cores, and threads wait for each other on busy ones
        if rows.shape[1] > COLUMNS:
            rows = PCA(min(COLUMNS, len(rows)), random_state=0).fit_transform(rows)
        layout = TSNE(perplexity=perplexity, init="pca" if rows.shape[1] > 1 else "random", random_state=0)
        return np.asarray(layout.fit_transform(rows), dtype=np.float64)


def usual_perplexity(count: int) -> float:
    """30, of few utterances a third of them."""
    return min(PERPLEXITY, (count - 1) / 3)


def check_rows(rows: NDArray[np.floating[Any]]) -> None:
    """Whether embeddings ``[N, E]`` can be laid out.

    Raises:
        LabelError: too few utterances, values that are not finite, or all the same
    """
    if len(rows) < FEWEST:
        raise LabelError(f"{len(rows)} utterances are too few for t-SNE; give {FEWEST} or more")
    if not np.isfinite(rows).all():
        raise LabelError("embeddings that are not finite; the training has diverged")
    if (rows == rows[0]).all():
        raise LabelError("all embeddings are the same; there is nothing to lay out")
