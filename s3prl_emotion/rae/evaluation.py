"""Evaluate how well held-out audio is reconstructed, compared with predicting each band's mean."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from s3prl_emotion.distributed import everyones
from s3prl_emotion.rae.adapter import RecurrentAutoencoder, root_mean, squared_error
from s3prl_emotion.rae.audio_stream import Batch


@torch.no_grad()
def held_out_loss(model: RecurrentAutoencoder, batches: Iterable[Batch], num_mels: int) -> tuple[float, float] | None:
    """Compute the root mean squared error over all frames, in float32, and that of predicting each band's mean.

    Args:
        model: the model, which is put into evaluation mode
        batches: batches of this process
        num_mels: number of Mel bands, M

    Returns:
        both errors, over the batches of all processes; ``None`` without any frame
    """
    model.eval()
    device = next(model.parameters()).device
    errors, sums, squares = torch.zeros(2).double(), torch.zeros(num_mels).double(), torch.zeros(()).double()
    for batch in batches:
        if len(batch):
            features, lengths = batch.features.to(device), batch.lengths.to(device)
            errors += squared_error(features, model(features, lengths), lengths).double().cpu()
            sums += batch.features.double().sum(dim=(0, 1))  # padding is 0
            squares += batch.features.double().square().sum()
    errors, sums, squares = (_total(parts) for parts in zip(*everyones((errors, sums, squares)), strict=True))
    if not errors[1]:
        return None
    frames = errors[1] / num_mels
    variance = (squares - sums.square().sum() / frames) / errors[1]
    return float(root_mean(errors)), max(0.0, float(variance)) ** 0.5


def _total(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(parts).sum(dim=0)
