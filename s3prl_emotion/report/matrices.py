"""Matrices with numbers in their cells, as SVG from a template: matplotlib takes 0.1 s for each, which adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.report.drawing import GRID, INK, SERIES
from s3prl_emotion.report.environment import environment

CELL = (46.0, 38.0)  # width and height of a cell where classes are few
SMALL = (36.0, 28.0)  # and where they are many
FEW = 6  # classes
LETTER = 6.0  # width of a letter of the labels, at most
STRONG, STRONGEST = 0.64, 0.8  # of a colour, from where paper reads better on it than ink, in the dark and the light


@dataclass(frozen=True)
class Matrix:
    """A panel: shares as colours, with words in the cells.

    Attributes:
        title: of the panel
        classes: of rows and columns, ``[K]``
        shares: in [0, 1], ``[K, K]``
        words: of the cells, ``[K, K]``, a line each
        axes: what rows and columns are
        top: share that gets the full colour
        outlined: row and column to be outlined, or ``None``
        hollow: whether the diagonal means nothing
        note: shown instead of the cells where there is nothing
    """

    title: str
    classes: Sequence[str]
    shares: Any
    words: Sequence[Sequence[Sequence[str]]]
    axes: tuple[str, str]
    top: float = 1.0
    outlined: int | None = None
    hollow: bool = False
    note: str = ""

    def svg(self) -> str:
        """The panel in the colours of the light page; classes ``strong`` and ``strongest`` let a page choose."""
        number = len(self.classes)
        wide, high = CELL if number <= FEW else SMALL
        longest = max(len(str(name)) for name in self.classes) * LETTER
        level = longest <= wide - 4
        left, below = longest + 26, (16.0 if level else longest * 0.75 + 12) + 18
        return environment().get_template("matrix.svg.jinja").render(
            matrix=self, cells=list(self._cells(wide, high, left)), number=number, wide=wide, high=high, left=left,
            level=level, width=left + number * wide + (4 if level else 14), height=4 + number * high + below, ink=INK,
            grid=GRID, colour=SERIES[0],
        )  # fmt: skip

    def _cells(self, wide: float, high: float, left: float) -> Any:
        strengths = np.clip(np.nan_to_num(np.asarray(self.shares, dtype=float)) / (self.top or 1.0), 0.0, 1.0)
        for row, column in np.ndindex(strengths.shape):
            strength = float(strengths[row, column])
            kind = "strongest" if strength > STRONGEST else "strong" if strength > STRONG else ""
            yield {
                "x": left + column * wide, "y": 4 + row * high, "strength": round(strength, 3), "kind": kind,
                "lines": self.words[row][column], "hollow": self.hollow and row == column,
            }  # fmt: skip
