"""Convert features of different frame rates to a common rate, with integer arithmetic throughout.

Frame ``t`` of a member with ``rate`` samples per frame covers the samples ``[t rate, (t + 1) rate)``; output frames
likewise.

- Length: the number of output frames that begin at least half an output frame before the member's end, at least 1; the
  least over several members.
- A finer member (``rate < out_rate``): an output frame is the mean of the member's frames whose centres lie in it.
- A coarser member: an output frame is the member's frame that contains its centre.
- Equal rates: frames are copied.
"""

from __future__ import annotations

import torch
from torch import Tensor


def aligned_length(frames: int, rate: int, out_rate: int) -> int:
    """Return the output frames that a member's frames fill: ``frames * rate / out_rate``, halves up, at least 1."""
    return max(1, (2 * frames * rate + out_rate) // (2 * out_rate))


def aligned(features: Tensor, rate: int, out_rate: int, length: int) -> Tensor:
    """Convert features ``[T, D]`` to the common rate.

    Args:
        features: of one utterance, T >= 1
        rate: samples per frame
        out_rate: samples per output frame
        length: output frames, at most :func:`aligned_length` of T

    Returns:
        ``[length, D]``
    """
    total = len(features)
    out = torch.arange(length, device=features.device)
    if rate == out_rate:
        return features[:length]
    if rate > out_rate:
        return features[((2 * out + 1) * out_rate // (2 * rate)).clamp(max=total - 1)]
    # the first centre (2 t + 1) rate / 2 at or after j out_rate has the least t with 2 t rate >= 2 j out_rate - rate
    edges = torch.arange(length + 1, device=features.device) * (2 * out_rate) - rate
    first = torch.div(edges + 2 * rate - 1, 2 * rate, rounding_mode="floor").clamp(0, total)
    start, count = first[:-1], first[1:] - first[:-1]
    most = out_rate // rate + 1
    offsets = torch.arange(most, device=features.device)
    inside = (offsets[None, :] < count[:, None]).unsqueeze(-1)  # [length, most, 1]
    picked = features[(start[:, None] + offsets[None, :]).clamp(max=total - 1)]  # [length, most, D]
    return torch.where(inside, picked, 0).sum(dim=1) / count[:, None].to(features.dtype)
