"""Figures: confusion matrices, and attention weights over the waveform. Matplotlib without a screen, files whole."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.audio import SAMPLE_RATE
from s3prl_emotion.errors import TrainingError
from s3prl_emotion.files.writing import write_bytes

DPI = 120


def plot_confusion(path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Path:
    """Draw a confusion matrix ``[K, K]`` (rows truth, columns prediction), coloured by recall: paper 001, Fig. 2."""
    figure, axes = new_figure(1.2 + 0.8 * len(classes), 1.0 + 0.7 * len(classes))
    counts = np.asarray(confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        shade = "white" if shares[row, column] > 0.5 else "black"
        text = f"{100 * shares[row, column]:.0f} %\n({counts[row, column]:.0f})"
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="prediction", ylabel="truth", title=title)
    return save_figure(figure, path)


def plot_attention(path: Path, waveform: NDArray[np.floating[Any]], weights: Sequence[float], title: str) -> Path:
    """Draw attention weights ``[T]`` (eq. 7 of paper 001) over the waveform ``[N]`` at 16 kHz."""
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


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of ``width`` x ``height`` inches and its panel, or its panels ``[rows, columns]`` where several."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # deferred: half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all.

    Raises:
        TrainingError: the folder cannot be written or the disk is full; an older file is untouched
    """
    data = io.BytesIO()
    figure.savefig(data, dpi=DPI, format="png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{path}: could not be written ({error.strerror}); name another folder") from error
    write_bytes(path, data.getvalue())
    return path
