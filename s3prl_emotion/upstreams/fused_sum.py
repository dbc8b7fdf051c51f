"""Sum the layers of a batch's utterances straight into one padded batch, as one autograd function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from s3prl_emotion.masking import full_precision

BLOCK_ON_CPU = 2**19  # elements, 2 MiB in float32: conversion and product both run in the processor's cache
BLOCK_ON_GPU = 2**24  # elements, 64 MiB in float32: few kernels to launch


def sum_layers(stacks: Sequence[Tensor], weights: Tensor, normalize: bool = False) -> Tensor:
    """Return ``sum_l weights[l] * stacks[b][l]`` of each utterance, padded with zeros: ``[B, T, D]``.

    Padding the sums afterwards would make autograd copy the padded gradient once per utterance.

    Args:
        stacks: layers ``[L, T_b, D]`` of each utterance, at least one; other precisions than the weights' are converted
            to it a few frames at a time, without a copy of the stack
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
        padded = weights.new_empty(len(stacks), max(stack.shape[1] for stack in stacks), stacks[0].shape[-1])
        for row, stack in zip(padded, stacks, strict=True):
            row[stack.shape[1] :].zero_()
            for frames, block in _blocks(stack, weights.dtype, normalize):
                torch.mv(block.t(), weights, out=row[frames].view(-1))
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *stacks = ctx.saved_tensors
        slope = torch.zeros_like(weights) if ctx.needs_input_grad[0] else None
        of_stacks: list[Tensor | None] = [None] * len(stacks)
        with full_precision(weights):
            for number, (stack, row) in enumerate(zip(stacks, gradient, strict=True)):
                if slope is not None:
                    for frames, block in _blocks(stack, weights.dtype, ctx.normalize):
                        slope.addmv_(block, row[frames].reshape(-1))
                if ctx.needs_input_grad[2 + number]:
                    of_stacks[number] = (weights.view(-1, 1, 1) * row[: stack.shape[1]]).to(stack.dtype)
        return slope, None, *of_stacks


def _blocks(stack: Tensor, dtype: torch.dtype, normalize: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield a stack's frames and its layers there, ``[L, n * D]`` in ``dtype``: all at once if nothing is converted.

    A block is overwritten by the next one.
    """
    layers, frames, dim = stack.shape
    if stack.dtype == dtype and not normalize:
        yield slice(0, frames), stack.flatten(1)
        return
    most = BLOCK_ON_CPU if stack.device.type == "cpu" else BLOCK_ON_GPU
    step = max(1, min(frames, most // (layers * dim)))
    buffer = torch.empty(layers * step * dim, dtype=dtype, device=stack.device)
    for start in range(0, frames, step):
        part = stack[:, start : start + step]
        block = buffer[: part.numel()].view(part.shape).copy_(part)
        if normalize:
            block = functional.layer_norm(block, (dim,))
        yield slice(start, start + part.shape[1]), block.flatten(1)
