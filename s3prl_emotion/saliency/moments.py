"""Accumulate means and covariances of all layers' utterance means in one pass.

Memory is O(L N²), whatever the corpus's size: 210 MB for 25 layers of 1024 dimensions, and half as much again for the
buffer of utterances. Sums are kept in float64 and around the mean, block by block (Chan, Golub and
LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1): sums of squares around 0 would cancel where an
embedding's offset is large beside its spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s3prl_emotion.errors import EmotionError
from s3prl_emotion.saliency.checks import centred, checked_pair
from s3prl_emotion.saliency.dependence import absolute_correlations, combine
from s3prl_emotion.saliency.pca import projection
from s3prl_emotion.upstreams.saliency_file import PCAProjection
from s3prl_emotion.upstreams.streams import slices_of

BLOCK = 512  # utterances that are summed at a time
STRIPE = 256  # rows of a covariance matrix that are computed at a time
PARTS = ("mean", "scatter", "target_mean", "target_scatter", "cross")


class StreamedMoments:
    """Moments from which CCS, layer saliency and PCA of all layers are computed.

    Add utterances one by one, or in blocks, in any order, with :meth:`update`; :meth:`merge` combines the moments of
    several processes. A dimension or target that is the same in all utterances has a variance of exactly 0, whatever
    its offset.

    Attributes:
        count: number of utterances, U
        layers: number of layers, L
        dims: number of dimensions, N
        targets: number of targets, D
    """

    def __init__(self, layers: int, dims: int, targets: int, block: int = BLOCK) -> None:
        if min(layers, dims, targets, block) < 1:
            raise EmotionError(f"saliency: {layers} layers, {dims} dimensions, {targets} targets: must be 1 or more")
        self.layers, self.dims, self.targets, self.block = layers, dims, targets, block
        self._summed = 0
        self._waiting = 0
        self._buffer = torch.empty(layers, block, dims, dtype=torch.float64)
        self._labels = torch.empty(block, targets, dtype=torch.float64)
        self._mean = torch.zeros(layers, dims, dtype=torch.float64)
        self._scatter = torch.zeros(layers, dims, dims, dtype=torch.float64)  # upper stripes only, see `_add_products`
        self._target_mean = torch.zeros(targets, dtype=torch.float64)
        self._target_scatter = torch.zeros(targets, dtype=torch.float64)
        self._cross = torch.zeros(layers, targets, dims, dtype=torch.float64)

    @property
    def count(self) -> int:
        """Number of utterances so far."""
        return self._summed + self._waiting

    def update(self, means: Tensor, targets: Tensor) -> None:
        """Add one utterance or several; an error adds none.

        Args:
            means: means over the frames, of all layers, ``[L, N]`` or ``[U, L, N]``
            targets: ``[D]`` or ``[U, D]``

        Raises:
            EmotionError: mismatched shapes, or embeddings that are not finite
            LabelError: targets that are not finite
        """
        means, targets = torch.as_tensor(means).detach(), torch.as_tensor(targets).detach()
        if means.dim() == 2 and targets.dim() == 1:
            means, targets = means.unsqueeze(0), targets.unsqueeze(0)
        means, targets = checked_pair(means, targets, layers=True)
        if means.shape[1:] != (self.layers, self.dims) or targets.shape[1] != self.targets:
            raise EmotionError(
                f"saliency: utterance means {list(means.shape[1:])} with {targets.shape[1]} targets, expected"
                f" [{self.layers}, {self.dims}] with {self.targets}"
            )
        for start in range(0, len(means), self.block):
            self._fill(means[start : start + self.block], targets[start : start + self.block])

    def merge(self, other: StreamedMoments) -> None:
        """Add the utterances of other moments, such as those of another process (:meth:`from_state`).

        Raises:
            EmotionError: different numbers of layers, dimensions or targets
        """
        if (self.layers, self.dims, self.targets) != (other.layers, other.dims, other.targets):
            raise EmotionError(
                f"saliency: moments of [{other.layers}, {other.dims}] with {other.targets} targets cannot be added to"
                f" those of [{self.layers}, {self.dims}] with {self.targets}"
            )
        state = other.state()
        count = int(state.pop("count"))
        if count:
            self._flush()
            self._add(count, state)

    def state(self) -> dict[str, Tensor]:
        """Return the moments as plain tensors, to save or to send."""
        self._flush()
        return {name: getattr(self, f"_{name}").clone() for name in PARTS} | {"count": torch.tensor(self._summed)}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> StreamedMoments:
        """Rebuild moments from :meth:`state`."""
        layers, targets, dims = state["cross"].shape
        moments = cls(layers, dims, targets)
        for name in PARTS:
            getattr(moments, f"_{name}").copy_(state[name])
        moments._summed = int(state["count"])
        return moments

    def covariance(self, layer: int) -> Tensor:
        """Return the population covariance (÷ U) of a layer's dimensions, ``[N, N]``, float64."""
        self._flush()
        upper = self._scatter[layer].triu() / self._positive_count()
        return upper + upper.triu(1).T

    def cross_correlation_saliency(self, per_target: bool = False, sizes: Sequence[int] | None = None) -> Tensor:
        """Compute the CCS of every dimension of every layer, Mitra et al. 2024, eqs. 1-3.

        Args:
            per_target: return eq. 1 for each target instead of their mean (eq. 3)
            sizes: numbers of dimensions of streams side by side, each of which gets a saliency of its own: the sum of
                eq. 2 runs over the other dimensions of the stream; ``None`` for one stream

        Returns:
            ``[L, N]``, or ``[L, D, N]`` with ``per_target``, float64
        """
        scores = torch.stack([self._saliency(layer, sizes or [self.dims]) for layer in range(self.layers)])
        return scores if per_target else scores.mean(dim=1)

    def layer_saliency(self, per_target: bool = False) -> Tensor:
        """Compute the saliency of every layer, as :func:`~s3prl_emotion.saliency.layer_saliency` does.

        Returns:
            ``[L]``, or ``[D, L]`` with ``per_target``, float64
        """
        scores = self.cross_correlation_saliency(per_target=True).mean(dim=2)
        return scores.T if per_target else scores.mean(dim=1)

    def pca(self, layer: int, components: int) -> PCAProjection:
        """Compute principal components of a layer; see :func:`~s3prl_emotion.saliency.pca_projection`."""
        covariance = self.covariance(layer)
        return projection(self._mean[layer].clone(), covariance, components)

    def _saliency(self, layer: int, sizes: Sequence[int]) -> Tensor:
        """Return eq. 1 for each target, ``[D, N]``."""
        count = self._positive_count()
        covariance = self.covariance(layer)
        spread = covariance.diagonal().sqrt()
        target_spread = (self._target_scatter / count).sqrt()
        relevance = absolute_correlations(self._cross[layer] / count, target_spread, spread)
        scores = []
        for part in slices_of(sizes):
            between = absolute_correlations(covariance[part, part], spread[part], spread[part])
            scores.append(combine(relevance[:, part], between))
        return torch.cat(scores, dim=1)

    def _positive_count(self) -> int:
        self._flush()
        if not self._summed:
            raise EmotionError("saliency: there is no utterance; is the training split empty?")
        return self._summed

    def _fill(self, means: Tensor, targets: Tensor) -> None:
        """Put at most ``block`` utterances into the buffer, and sum it whenever it is full."""
        room = self.block - self._waiting
        for part, labels in ((means[:room], targets[:room]), (means[room:], targets[room:])):
            if len(part):
                rows = slice(self._waiting, self._waiting + len(part))
                self._buffer[:, rows] = part.transpose(0, 1).to(self._buffer)
                self._labels[rows] = labels.to(self._labels)
                self._waiting = rows.stop
            if self._waiting == self.block:
                self._flush()

    def _flush(self) -> None:
        """Add the buffer's moments to the sums."""
        count = self._waiting
        if not count:
            return
        total = self._summed + count
        labels, labels_mean = centred(self._labels[:count])
        labels_apart = labels_mean - self._target_mean
        # The distance of the two means counts as one more row: U1 U2 / (U1 + U2) (mean2 - mean1)².
        weight = (self._summed * count / total) ** 0.5
        labels = torch.cat([labels, (weight * labels_apart).unsqueeze(0)])
        self._target_scatter += labels.square().sum(dim=0)
        self._target_mean += labels_apart * (count / total)
        for layer in range(self.layers):
            rows, mean = centred(self._buffer[layer, :count])
            apart = mean - self._mean[layer]
            rows = torch.cat([rows, (weight * apart).unsqueeze(0)])
            self._cross[layer].addmm_(labels.T, rows)
            _add_products(self._scatter[layer], rows)
            self._mean[layer] += apart * (count / total)
        self._summed, self._waiting = total, 0

    def _add(self, count: int, state: dict[str, Tensor]) -> None:
        """Add moments of ``count`` other utterances."""
        total = self._summed + count
        weight = (self._summed * count / total) ** 0.5
        labels_apart = state["target_mean"] - self._target_mean
        self._target_scatter += state["target_scatter"] + (weight * labels_apart).square()
        self._target_mean += labels_apart * (count / total)
        self._cross += state["cross"]
        self._scatter += state["scatter"]
        for layer in range(self.layers):
            apart = (state["mean"][layer] - self._mean[layer]).unsqueeze(0)
            self._cross[layer].addmm_((weight * labels_apart).unsqueeze(1), weight * apart)
            _add_products(self._scatter[layer], weight * apart)
            self._mean[layer] += apart.squeeze(0) * (count / total)
        self._summed = total


def _add_products(scatter: Tensor, rows: Tensor) -> None:
    """Add ``rows' rows`` in place; the lower triangle, which mirrors the upper one, only within stripes."""
    for start in range(0, len(scatter), STRIPE):
        stripe = slice(start, start + STRIPE)
        scatter[stripe, start:].addmm_(rows[:, stripe].T, rows[:, start:])
