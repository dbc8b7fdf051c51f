"""Lay out utterance embeddings in two dimensions by t-SNE; Neumann & Vu 2019, Figs. 3-4."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError

FEWEST = 5  # utterances
PERPLEXITY = 30.0
COLUMNS = 64  # principal components given to t-SNE, as its authors advise for wide data


def tsne(rows: NDArray[np.floating[Any]], perplexity: float | None = None) -> NDArray[np.float64]:
    """Lay out embeddings in two dimensions by t-SNE; van der Maaten & Hinton 2008, scikit-learn's implementation.

    It starts from the principal components, without random draws, so the same embeddings give the same points.

    Args:
        rows: embeddings ``[N, E]``
        perplexity: about how many neighbours of a point count; see :func:`usual_perplexity` for the default

    Returns:
        points ``[N, 2]``; neither the axes nor the distances between far groups have a meaning

    Raises:
        LabelError: the perplexity is out of range, or the embeddings cannot be laid out, see :func:`check_rows`
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
    with threadpool_limits(1):  # sums would depend on the number of cores, and threads wait for each other on busy ones
        if rows.shape[1] > COLUMNS:
            rows = PCA(min(COLUMNS, len(rows)), random_state=0).fit_transform(rows)
        layout = TSNE(perplexity=perplexity, init="pca" if rows.shape[1] > 1 else "random", random_state=0)
        return np.asarray(layout.fit_transform(rows), dtype=np.float64)


def usual_perplexity(count: int) -> float:
    """Return the default perplexity of a number of utterances: 30, or a third of them where they are few."""
    return min(PERPLEXITY, (count - 1) / 3)


def check_rows(rows: NDArray[np.floating[Any]]) -> None:
    """Raise an error if embeddings ``[N, E]`` cannot be laid out.

    Raises:
        LabelError: too few utterances, values that are not finite, or all embeddings are the same
    """
    if len(rows) < FEWEST:
        raise LabelError(f"{len(rows)} utterances are too few for t-SNE; give {FEWEST} or more")
    if not np.isfinite(rows).all():
        raise LabelError("embeddings are not finite; train again with a lower optimizer.lr")
    if (rows == rows[0]).all():
        raise LabelError("all embeddings are the same, so there is nothing to lay out; train the head longer")
