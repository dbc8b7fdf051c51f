"""Sum the layers of a batch's utterances straight into one padded batch, as one autograd function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from s3prl_emotion.masking import full_precision


def sum_layers(stacks: Sequence[Tensor], weights: Tensor, normalize: bool = False) -> Tensor:
    """Return ``sum_l weights[l] * stacks[b][l]`` of each utterance, padded with zeros: ``[B, T, D]``.

    Padding the sums afterwards would make autograd copy the padded gradient once per utterance.

    Args:
        stacks: layers ``[L, T_b, D]`` of each utterance; half precision is summed in the precision of the weights,
            without a copy of the stack
        weights: of the layers, ``[L]``, float32 or float64
        normalize: apply a layer normalisation over D, without parameters, to every layer first

    Returns:
        features ``[B, max T_b, D]`` of the weights' type; differentiable once, in the weights and in the stacks
    """
    with full_precision(weights):
        if normalize and any(stack.requires_grad for stack in stacks):  # autograd differentiates the normalisation
            stacks = [functional.layer_norm(stack.to(weights.dtype), stack.shape[-1:]) for stack in stacks]
            normalize = False
        return _LayerSum.apply(weights, normalize, *stacks)


class _LayerSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, normalize: bool, *stacks: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *stacks)
        ctx.normalize = normalize
        frames = [stack.shape[1] for stack in stacks]
        padded = weights.new_empty(len(stacks), max(frames), stacks[0].shape[-1])
        for row, stack, length in zip(padded, stacks, frames, strict=True):
            row[length:].zero_()
            if _fits_matrix_product(stack, weights, normalize):
                torch.mv(stack.flatten(1).t(), weights, out=row[:length].view(-1))
                continue
            row = row[:length].zero_()
            for layer, weight in zip(_layers(stack, normalize, weights.dtype), weights, strict=True):
                row.addcmul_(layer, weight)  # reads half precision as it is, adds in the row's precision
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *stacks = ctx.saved_tensors
        slope = torch.zeros_like(weights) if ctx.needs_input_grad[0] else None
        of_stacks: list[Tensor | None] = [None] * len(stacks)
        with full_precision(weights):
            for number, (stack, row) in enumerate(zip(stacks, gradient, strict=True)):
                row = row[: stack.shape[1]]
                if slope is not None:
                    _add_products(slope, stack, row.reshape(-1), ctx.normalize)
                if ctx.needs_input_grad[2 + number]:
                    of_stacks[number] = (weights.view(-1, 1, 1) * row).to(stack.dtype)
        return slope, None, *of_stacks


def _add_products(slope: Tensor, stack: Tensor, row: Tensor, normalize: bool) -> None:
    """Add the inner product of each layer ``[T, D]`` and ``row [T * D]`` to ``slope [L]``."""
    if _fits_matrix_product(stack, slope, normalize):
        slope.addmv_(stack.flatten(1), row)
        return
    buffer = slope.new_empty(stack.shape[1:])
    for total, layer in zip(slope, _layers(stack, normalize, slope.dtype), strict=True):
        total.add_(torch.dot(buffer.copy_(layer).view(-1), row))


def _fits_matrix_product(stack: Tensor, weights: Tensor, normalize: bool) -> bool:
    return stack.dtype == weights.dtype and not normalize


def _layers(stack: Tensor, normalize: bool, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the layers ``[T, D]`` one by one, normalised in ``dtype`` where asked for."""
    for layer in stack:
        yield functional.layer_norm(layer.to(dtype), layer.shape[-1:]) if normalize else layer
