"""Confusions of classes, and the scores of the n most probable classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics.groups import N_BEST, N_BEST_KEYS
from s3prl_emotion.report.computing.details import SplitDetails
from s3prl_emotion.report.drawing.figure import Figure
from s3prl_emotion.report.drawing.matrix import Matrix
from s3prl_emotion.report.sections.base import Place, SplitSection
from s3prl_emotion.report.sections.cells import PASSED, Systems, cells, column_title
from s3prl_emotion.report.table import Table, table_of


class Hypotheses(SplitSection):
    """Classes that systems confuse, and their first and second hypotheses."""

    title = "Classes and hypotheses"
    note = (
        "n-best: the prediction counts as correct if the true class is among the n most probable ones. paUAR-X is the "
        "share of speakers whose UAR is above X %."
    )

    def tables(self, place: Place) -> Iterator[Table | None]:
        """Yield the scores of the n best hypotheses."""
        yield hypotheses_table(self.details(place))

    def figures(self, place: Place) -> Iterator[Figure]:
        """Yield the confusions of all systems, and the hypotheses of each."""
        systems = self.details(place)
        panels = [
            _confusion(system, details.classes, details.confusion)
            for system, details in systems.items()
            if details.confusion is not None
        ]
        if panels:
            caption = (
                "Confusions summed over all runs: percentage of the true class, and number of utterances in brackets."
            )
            yield Figure(place.figure_name("confusion"), caption, (), tuple(panels))
        for index, (system, details) in enumerate(systems.items()):
            panels = _hypotheses(details)
            if panels:
                caption = (
                    f"{system}: first and second hypothesis of each true class, as percentages of its utterances (as "
                    "Mitra et al. 2025, Fig. 5). Outlined: the first is right (row), the second is right (column)."
                )
                yield Figure(place.figure_name(f"hypotheses-{index}"), caption, (), tuple(panels))


def hypotheses_table(systems: Systems) -> Table | None:
    """Return the scores of the n best hypotheses; Mitra et al. 2025, Tables 3 and 4."""
    names = (*N_BEST_KEYS, *PASSED)
    rows = []
    for system, details in systems.items():
        for n in N_BEST:
            values = [f"{name}.{n}-best" for name in names]
            if any(name in details.scores for name in values[:2]):
                rows.append([system, str(n), *cells(details, values)])
    return table_of("n-best hypotheses", ["system", "n", *map(column_title, names)], rows)


def _confusion(system: str, classes: Sequence[str], counts: NDArray[np.int64]) -> Matrix:
    """Return a system's confusions ``counts [K, K]``, coloured by recall."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    words = [
        [[f"{100 * share:.0f}", f"({_short(number)})"] for share, number in zip(*both, strict=True)]
        for both in zip(shares, counts, strict=True)
    ]
    return Matrix(system, classes, shares, words, ("truth", "prediction"))


def _short(number: int) -> str:
    """Return a count that fits into a cell: ``9999``, ``12k``."""
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"


def _hypotheses(details: SplitDetails) -> list[Matrix]:
    """Return first and second hypothesis of each true class; Mitra et al. 2025, Fig. 5."""
    counts = {name: pairs for name, pairs in details.hypotheses.items() if len(pairs) > 1}
    shares = {name: pairs / max(int(pairs.sum()), 1) for name, pairs in counts.items()}
    top = max((float(values.max()) for values in shares.values()), default=1.0) or 1.0
    panels = []
    for name, values in shares.items():
        total = int(counts[name].sum())
        words = [[[f"{100 * share:.0f}"] if share else [] for share in row] for row in values.tolist()]
        panels.append(
            Matrix(
                f"true: {name} ({total})", details.classes, values, words, ("first hypothesis", "second hypothesis"),
                top, details.classes.index(name), hollow=True, note="" if total else "does not occur",
            )
        )  # fmt: skip
    return panels
