"""Create matplotlib figures without a display, and write them as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from s3prl_emotion.files.writing import write_bytes

DPI = 120


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure of ``width`` x ``height`` inches and its axes, or an array of axes ``[rows, columns]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # deferred: half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all, and return its path.

    Raises:
        TrainingError: the folder cannot be written or the disk is full; an older file is unchanged
    """
    data = io.BytesIO()
    figure.savefig(data, dpi=DPI, format="png")
    write_bytes(path, data.getvalue(), parents=True)
    return path


def plain_text(name: object) -> str:
    """Return a name as text that matplotlib shows as it is; a dollar sign would start a formula."""
    return str(name).replace("$", r"\$")
