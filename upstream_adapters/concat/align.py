"""How features of different frame rates come to one; integer arithmetic throughout.

Frame ``t`` of a member with ``rate`` samples per frame stands for samples ``[t rate, (t + 1) rate)``, and so does an
output frame for its own.

- Length: as many output frames as begin at least half an output frame ahead of the member's end, at least 1; of several
  members the least.
- A finer member (``rate < out_rate``): an output frame is the mean of the member's frames whose centres lie in it.
- A coarser one: an output frame is the member's frame in which its centre lies.
- Equal rates: frame by frame.
"""

from __future__ import annotations

import torch
from torch import Tensor


def aligned_length(frames: int, rate: int, out_rate: int) -> int:
    """Output frames that ``frames`` of a member fill: ``frames * rate / out_rate``, halves up, at least 1."""
    return max(1, (2 * frames * rate + out_rate) // (2 * out_rate))


def aligned(features: Tensor, rate: int, out_rate: int, length: int) -> Tensor:
    """Features ``[T, D]`` on the common rate.

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
    # centre (2 t + 1) rate / 2 is at or beyond j out_rate from the first t on with 2 t rate >= 2 j out_rate - rate
    edges = torch.arange(length + 1, device=features.device) * (2 * out_rate) - rate
    first = torch.div(edges + 2 * rate - 1, 2 * rate, rounding_mode="floor").clamp(0, total)
    start, count = first[:-1], first[1:] - first[:-1]
    most = out_rate // rate + 1
    offsets = torch.arange(most, device=features.device)
    inside = (offsets[None, :] < count[:, None]).unsqueeze(-1)  # [length, most, 1]
    picked = features[(start[:, None] + offsets[None, :]).clamp(max=total - 1)]  # [length, most, D]
    return torch.where(inside, picked, 0).sum(dim=1) / count[:, None].to(features.dtype)
