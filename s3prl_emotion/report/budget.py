"""How many figures a report draws: each takes its time, and a page with hundreds of them is not read."""

from __future__ import annotations

from s3prl_emotion.report.drawing import Figure

MOST = 6000  # panels, each counted as often as it has systems: some 15 s


def within_budget(
    drawn: dict[str, list[Figure]], details: dict[str, list[Figure]], most: int = MOST
) -> tuple[dict[str, list[Figure]], dict[str, list[Figure]], str | None]:
    """Leave figures out where they are too many: details first, those of later upstreams and splits first.

    Args:
        drawn: main figures by upstream
        details: further figures by upstream
        most: panels times systems that are drawn

    Returns:
        what is drawn of both, and a note on what is not
    """
    left, missing = most, 0
    kept: list[dict[str, list[Figure]]] = []
    for group in (drawn, details):
        kept.append({upstream: [] for upstream in group})
        for upstream, figures in group.items():
            for figure in figures:
                cost = _cost(figure)
                if cost <= left:
                    kept[-1][upstream].append(figure)
                    left -= cost
                else:
                    left, missing = 0, missing + 1  # a gap would look like there being nothing
    note = (
        f"{missing} of {sum(len(figures) for figures in [*drawn.values(), *details.values()])} figures are not drawn, "
        "since they are too many; all numbers stand in the tables"
    )
    return kept[0], kept[1], note if missing else None


def _cost(figure: Figure) -> int:
    return len(figure.panels) * max(1, len(figure.systems))
