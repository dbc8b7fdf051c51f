"""Save attention weights over frames, as npz and as a plot over the waveform."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.figures.attention_plot import plot_attention
from s3prl_emotion.files.writing import write_arrays


def save(folder: Path, stem: str, weights: Mapping[str, NDArray[np.float32]]) -> Path:
    """Write ``{stem}_attention.npz`` with the weights ``[T]`` of each utterance by its name, and return its path."""
    return write_arrays(folder / f"{stem}_attention.npz", weights, parents=True)


def draw(folder: Path, name: str, weights: NDArray[np.float32], waveform: NDArray[np.float32]) -> Path:
    """Write the weights ``[T]`` of one utterance as npz, plot them over its waveform ``[N]``, and return the plot."""
    save(folder, name, {"weights": weights})
    return plot_attention(folder / f"{name}_attention.png", waveform, weights.tolist(), name)
