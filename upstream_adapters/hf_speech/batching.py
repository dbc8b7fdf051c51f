"""Split batches into similar lengths, and keep padding from changing an utterance's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

MAX_WASTE = 1.1  # upper bound of padded over true length of a sub-batch


def buckets(lengths: Sequence[int], max_waste: float = MAX_WASTE) -> list[list[int]]:
    """Split a batch into sub-batches of similar lengths, longest first.

    Args:
        lengths: of the utterances, at least 1 each
        max_waste: upper bound of a sub-batch's padded length over its true length; utterances of equal length always
            stay together

    Returns:
        positions in ``lengths``, each in one sub-batch
    """
    batches: list[list[int]] = []
    longest = total = 0
    for position in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        total += lengths[position]
        if not batches or longest * (len(batches[-1]) + 1) >= max_waste * total:
            batches.append([])
            longest = total = lengths[position]
        batches[-1].append(position)
    return batches


@dataclass
class Padding:
    """Lengths of the sub-batch that is being computed; ``None`` if nothing is padded."""

    samples: list[int] | None = None
    mask: Tensor | None = None
    """``[B, T]``, true for frames of the utterance."""


class LengthwiseConvolutions(nn.Module):
    """The convolutions in front of a model with a group norm over time, which padding would change.

    Rows of equal length are computed together, without padding; only the output is padded.
    """

    def __init__(self, convolutions: nn.Module, padding: Padding) -> None:
        super().__init__()
        self.convolutions = convolutions
        self._padding = padding

    def forward(self, waveforms: Tensor) -> Tensor:
        """``[B, N]`` to ``[B, C, T]``."""
        lengths = self._padding.samples
        if lengths is None:
            return self.convolutions(waveforms)
        rows: dict[int, Tensor] = {}
        for length in set(lengths):
            alike = [row for row, other in enumerate(lengths) if other == length]
            rows |= dict(zip(alike, self.convolutions(waveforms[alike, :length]), strict=True))
        features = pad_sequence([rows[row].transpose(0, 1) for row in range(len(lengths))], batch_first=True)
        return features.transpose(1, 2)


def keep_padding_out(encoder: nn.Module, padding: Padding) -> None:
    """Set padded frames to zero before every convolution over frames, as if the utterance ended there.

    ``transformers`` clears padded frames once, before the first such convolution; biases and attention fill them again
    before the next (data2vec-audio has five in a row, a conformer one in each layer).
    """

    def clear(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if padding.mask is None:
            return None
        return (inputs[0].masked_fill(~padding.mask[:, None, :], 0.0), *inputs[1:])

    for module in encoder.modules():
        if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
            module.register_forward_pre_hook(clear)
