"""Limit how many figures a report draws: each takes time, and nobody reads a page with hundreds of them."""

from __future__ import annotations

from collections.abc import Iterable

from s3prl_emotion.report.drawing.figure import Figure

MOST = 6000  # panels, counted once for each of their systems: about 15 s


def within_budget(figures: Iterable[Figure], most: int = MOST) -> set[str]:
    """Return the names of the figures to draw.

    Args:
        figures: all figures, the most important first; the first that does not fit ends the list, since a gap would
            look as if there were nothing to show
        most: greatest sum over the figures of panels times systems
    """
    left, chosen = most, set()
    for figure in figures:
        left -= len(figure.panels) * max(1, len(figure.systems))
        if left < 0:
            break
        chosen.add(figure.name)
    return chosen
