"""Keep an exponential moving average of the trained weights, ``runner.ema_decay``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

KEY = "Unaveraged"  # of a checkpoint: the weights that training goes on with; its models hold the averages


class Averages:
    """Averages ``θ̄_t = d_t θ̄_{t-1} + (1 - d_t) θ_t`` of the weights θ after step t = 1, 2, …

    ``d_t`` is ``min(d, 1 - 1/t)``. While t is below 1 / (1 - d), this is the mean of the weights after each step, so
    that the random weights before the first step have no part in it; then it is the exponential moving average with
    decay d, as in Tarvainen and Valpola 2017, "Mean teachers are better role models", whose code raises the decay
    likewise.

    Only trained parameters are averaged. Buffers, such as the moments of labels, are those of the last step.

    Args:
        parameters: by name, changed by the optimizer
        decay: d, in (0, 1)
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.averages = [parameter.detach().clone() for parameter in self.parameters.values()]

    def update(self, step: int) -> None:
        """Average in the weights after ``step`` steps."""
        average = get_ema_multi_avg_fn(min(self.decay, 1 - 1 / step))
        average(self.averages, [parameter.detach() for parameter in self.parameters.values()], None)

    @contextmanager
    def applied(self) -> Iterator[dict[str, Tensor]]:
        """Put the averages into the models for the time of the block, which gets the unaveraged weights by name."""
        self._swap()
        try:
            yield dict(zip(self.parameters, self.averages, strict=True))
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters.values(), self.averages, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)  # in place: recurrent layers on a GPU keep their weights in one block
            average.copy_(kept)
