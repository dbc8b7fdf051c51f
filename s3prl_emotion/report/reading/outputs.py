"""Read what a run gave for a split: the probabilities of the classes and the estimates of the dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.checks import checked_rows
from s3prl_emotion.report.reading.predictions import Table, read_columns

PROBABILITY = "p_"  # begins the column of a class's probability


@dataclass(frozen=True)
class Outputs:
    """One run's outputs for a split of N utterances, sorted by name.

    Attributes:
        names: names of the utterances, ``[N]``
        speakers: speakers, empty strings where they are not known, ``[N]``
        truth: true classes, empty strings where they are not known, ``[N]``
        classes: names of the K classes; none for a head without classes
        probabilities: of the classes, ``[N, K]``
        dimensions: names of the D dimensions that have both labels and estimates
        true_values: labels of the dimensions, ``[N, D]``, NaN where they are not known
        estimates: estimates of the dimensions, ``[N, D]``
    """

    names: NDArray[np.str_]
    speakers: NDArray[np.str_]
    truth: NDArray[np.str_]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    dimensions: tuple[str, ...]
    true_values: NDArray[np.float64]
    estimates: NDArray[np.float64]

    def difference_to(self, other: Outputs) -> str | None:
        """Return what keeps two outputs from having a mean, in words: ``utterances``; ``None``: nothing."""
        same = {
            "classes": set(self.classes) == set(other.classes),
            "dimensions": self.dimensions == other.dimensions,
            "utterances": np.array_equal(self.names, other.names),
            "labels": np.array_equal(self.truth, other.truth)
            and np.array_equal(self.true_values, other.true_values, equal_nan=True),
        }
        return next((what for what, is_same in same.items() if not is_same), None)


def read_outputs(path: Path) -> Outputs:
    """Read ``{split}_{fold}_predictions.csv`` with the probabilities of the classes.

    Raises:
        LabelError: the file is missing or damaged, or has neither probabilities nor estimates
    """
    table = read_columns(path, lambda name: name.startswith(PROBABILITY))
    classes = tuple(name.removeprefix(PROBABILITY) for name in table.others)
    if not (classes or table.dimensions):
        raise LabelError(f"{path}: holds no probabilities of classes")
    try:
        probabilities = table.numbers(table.others)
        if classes:
            checked_rows(probabilities, "probabilities", len(classes))
    except (ValueError, LabelError) as error:
        raise LabelError(f"{path}: predictions cannot be read ({' '.join(str(error).split())})") from error
    return Outputs(
        table.words[table.name],
        _words(table, "SpkrID"),
        _words(table, "truth"),
        classes,
        probabilities,
        table.dimensions,
        table.true_values,
        table.estimates,
    )


def _words(table: Table, name: str) -> NDArray[np.str_]:
    return table.words.get(name, np.full(len(table.words[table.name]), ""))
