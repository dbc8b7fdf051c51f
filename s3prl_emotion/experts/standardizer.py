"""Standardise an upstream's channels by their mean and standard deviation over the training utterances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s3prl_emotion.errors import ConfigError

Rows = NDArray[np.float64]


def moments(rows: Rows) -> tuple[Rows, Rows]:
    """Return the population mean ``[D]`` and standard deviation ``[D]`` of ``rows [U, D]``, U >= 1, finite.

    A constant feature has standard deviation 1, so that it becomes 0.
    """
    location, spread = rows.mean(axis=0), rows.std(axis=0)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(location))  # a smaller deviation is rounding of the mean
    return location, np.where(varies, spread, 1.0)


def check_finite(names: Sequence[str], rows: Tensor) -> None:
    """Check features ``[U, D]`` of utterances.

    Raises:
        ConfigError: names the first whose features are not finite
    """
    finite = torch.isfinite(rows).all(dim=1)
    if not finite.all():
        raise ConfigError(f"{names[int((~finite).nonzero()[0])]}: the upstream's features are not finite")


class Standardizer(nn.Module):
    """Channels as z-scores. It is fitted once, to the means over frames of the training utterances, and not trained."""

    location: Tensor
    scale: Tensor
    ready: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("ready", torch.zeros(1, dtype=torch.int64))  # whether these two are fitted

    def fit(self, names: Sequence[str], rows: Tensor) -> None:
        """Fit to the features ``[U, D]`` of utterances; one that came with a checkpoint stays, as its weights need it.

        Raises:
            ConfigError: features that are not finite
        """
        check_finite(names, rows)
        if not self.ready.item():
            location, scale = moments(rows.double().numpy())
            self.location.copy_(torch.from_numpy(location))
            self.scale.copy_(torch.from_numpy(scale))
            self.ready.fill_(1)

    def check_fitted(self) -> None:
        """Check that it was fitted.

        Raises:
            ConfigError: it was not, as under s3prl's own runner
        """
        if not self.ready.item():
            raise ConfigError(
                "modelrc.standardize: not fitted to a training split; train with the suite's run_downstream.py, or "
                "give a trained checkpoint with -e"
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features [..., D]`` as z-scores."""
        return (features - self.location) / self.scale
