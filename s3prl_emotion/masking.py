"""Keep padding, zero variance and half precision from spoiling results and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_emotion.errors import AudioError


class PaddedFeatures(list[Tensor]):
    """Features ``[T_b, D]`` of a batch that are rows of one padded batch ``[B, T, D]``, for :func:`pad_features`.

    They are views of the batch: replace an entry of the list rather than change it in place.

    Args:
        batch: features with zeros beyond each utterance's frames
        lengths: frames of each utterance, T_b
    """

    def __init__(self, batch: Tensor, lengths: Sequence[int]) -> None:
        # unbind: its backward pass stacks the rows' gradients once, that of batch[b] would pad each to the batch
        super().__init__(row[:length] for row, length in zip(batch.unbind(), lengths, strict=True))
        self._batch, self._rows = batch, tuple(self)

    def batch(self) -> Tensor | None:
        """Return the padded batch ``[B, T, D]``; ``None`` if entries of the list were replaced, removed or added."""
        same = len(self) == len(self._rows) and all(one is row for one, row in zip(self, self._rows, strict=True))
        return self._batch if same else None


class OneFrameFeatures(Sequence[Tensor]):
    """Features ``[1, D]`` of utterances, which are rows of one batch ``[B, 1, D]``, for :func:`pad_features`.

    Rows are taken from the batch when they are asked for, since each would be a node of autograd's graph.
    """

    def __init__(self, batch: Tensor) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, index: Any) -> Any:
        """Return the features ``[1, D]`` of an utterance."""
        return self.batch[index]


def pad_features(features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Pad the features ``[T_b, D]`` of utterances to ``[B, T, D]``, and return them with ``lengths [B]``.

    Raises:
        AudioError: an utterance has no frame
    """
    if isinstance(features, OneFrameFeatures):
        return features.batch, torch.ones(len(features), dtype=torch.int64, device=features.batch.device)
    for feature, name in zip(features, names, strict=True):
        if len(feature) == 0:
            raise AudioError(f"{name}: too short, this upstream gives it no frame; leave it out of the labels")
    lengths = torch.tensor([len(feature) for feature in features], device=features[0].device)
    batch = features.batch() if isinstance(features, PaddedFeatures) else None
    return pad_sequence(list(features), batch_first=True) if batch is None else batch, lengths


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Mark the frames that belong to an utterance.

    Args:
        lengths: frames of each utterance, ``[B]``
        frames: frames of the padded batch, T

    Returns:
        boolean mask ``[B, T]``, true where ``t < lengths[b]``
    """
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def without_padding(features: Tensor, inside: Tensor) -> Tensor:
    """Set padded frames of features ``[B, T, D]`` to 0, even where they are NaN; ``inside [B, T]`` marks the others.

    ``torch.where`` is twice as fast as ``masked_fill`` when a mask is broadcast over channels.
    """
    return torch.where(inside.unsqueeze(-1), features, 0.0)


def guarded_sqrt(values: Tensor) -> Tensor:
    """Return square roots, with value and gradient 0 at 0 and below, where ``sqrt`` has an infinite slope or none."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Turn autocast off for second-order statistics, for which half precision is too coarse.

    Yields:
        a function that casts half-precision tensors to float32 and leaves float32 and float64 as they are
    """
    device = tensor.device.type
    with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
        yield lambda value: value if value.dtype == torch.float64 else value.float()
