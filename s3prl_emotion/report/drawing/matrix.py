"""Draw matrices with numbers in their cells, as SVG from a template; matplotlib would take 0.1 s for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3prl_emotion.report.drawing.figure import GRID, INK, SERIES
from s3prl_emotion.report.environment import environment

CELL = (46.0, 38.0)  # width and height of a cell of up to FEW classes
SMALL = (36.0, 28.0)  # of a cell of more classes
FEW = 6  # classes
LETTER = 6.0  # greatest width of a letter of the labels
STRONG, STRONGEST = 0.64, 0.8  # opacity above which light text reads better than dark, on the dark and the light page


@dataclass(frozen=True)
class Matrix:
    """A panel that shows shares as colours, with words in the cells.

    Attributes:
        title: title of the panel
        classes: names of the K rows and columns
        shares: shares in [0, 1], ``[K, K]``
        words: lines of text in the cells, ``[K, K]``
        axes: titles of the rows and of the columns
        top: share that gets the full colour
        outlined: row and column to outline, or ``None``
        hollow: whether the diagonal has no meaning
        note: text shown in place of the cells' words
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
        """Return the panel in the colours of the light page, with classes that the dark page restyles."""
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
