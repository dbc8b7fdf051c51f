"""Plot attention weights over the waveform of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.figures.canvas import new_figure, save_figure


def plot_attention(path: Path, waveform: NDArray[np.floating[Any]], weights: Sequence[float], title: str) -> Path:
    """Plot attention weights ``[T]`` over the waveform ``[N]`` at 16 kHz; Kakouros et al. 2023, eq. 7, Fig. 3.

    Args:
        path: path of the PNG
        waveform: samples, ``[N]``
        weights: weight of each frame, ``[T]``; frames divide the waveform evenly
        title: title of the figure

    Raises:
        TrainingError: the file cannot be written
    """
    figure, axes = new_figure(9.0, 3.0)
    seconds = len(waveform) / SAMPLE_RATE
    axes.plot(np.linspace(0, seconds, len(waveform)), waveform, color="0.7", linewidth=0.5)
    axes.set(xlabel="time (s)", ylabel="amplitude", title=title, xlim=(0, seconds))
    curve = axes.twinx()
    edges = np.linspace(0, seconds, len(weights) + 1)
    curve.stairs(weights, edges, color="tab:red", linewidth=1.2)
    curve.axhline(1 / len(weights), color="tab:red", linestyle=":", linewidth=0.8)
    curve.set_ylabel("attention weight (dotted: 1/T)", color="tab:red")
    curve.set_ylim(bottom=0)
    return save_figure(figure, path)
