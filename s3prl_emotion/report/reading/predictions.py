"""Read a run's predictions on a split."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.errors import LabelError
from s3prl_emotion.limits import shown

UTTERANCE = "Utterance"  # column with the names of segments, where FileName is that of their file
WORDS = (UTTERANCE, "FileName", "SpkrID", "Gender", "truth", "prediction")
UNKNOWN = frozenset(["", "nan"])  # cells of utterances without a label
DIVERGED = frozenset(["inf", "-inf"])  # estimates of a training that diverged
COLUMNS = frozenset([*WORDS, *DIMENSIONS, *(f"{name}_pred" for name in DIMENSIONS)])  # not the class probabilities


@dataclass(frozen=True)
class Predictions:
    """One run's predictions on a split of N utterances, sorted by name.

    Attributes:
        names: names of the utterances, ``[N]``
        speakers: speakers, empty strings where they are not known, ``[N]``
        truth: true classes, ``[N]``, or ``None``; empty strings where there is none, or one that is not evaluated
        prediction: predicted classes, ``[N]``, or ``None``
        dimensions: names of the D dimensions that have both labels and estimates
        true_values: labels of the dimensions, ``[N, D]``
        estimates: estimates of the dimensions, ``[N, D]``
    """

    names: NDArray[np.str_]
    speakers: NDArray[np.str_]
    truth: NDArray[np.str_] | None
    prediction: NDArray[np.str_] | None
    dimensions: tuple[str, ...]
    true_values: NDArray[np.float64]
    estimates: NDArray[np.float64]

    def same_utterances(self, other: Predictions) -> bool:
        """Return whether both are of the same utterances with the same labels."""
        return (
            np.array_equal(self.names, other.names)
            and self.dimensions == other.dimensions
            and np.array_equal(self.true_values, other.true_values)
            and (self.truth is None) == (other.truth is None)
            and (self.truth is None or other.truth is None or np.array_equal(self.truth, other.truth))
        )


@dataclass(frozen=True)
class Table:
    """A file of predictions of N utterances, sorted by name.

    Attributes:
        name: the column with the utterances' names
        words: columns of words by name, ``[N]`` each
        dimensions: names of the D dimensions that have both labels and estimates
        true_values: labels of the dimensions, ``[N, D]``; not finite where a label is not known
        estimates: estimates of the dimensions, ``[N, D]``; not finite where a training diverged
        others: names of the further columns that were asked for, in the order of the file
        numbers: reads some of these as numbers ``[N, C]``, and raises ``ValueError`` where a cell is none
    """

    name: str
    words: dict[str, NDArray[np.str_]]
    dimensions: tuple[str, ...]
    true_values: NDArray[np.float64]
    estimates: NDArray[np.float64]
    others: tuple[str, ...]
    numbers: Callable[[Sequence[str]], NDArray[np.float64]]


def read_columns(path: Path, is_other: Callable[[str], bool] = lambda name: False) -> Table:
    """Read the columns of a file of predictions that reports need.

    Args:
        path: the file
        is_other: returns whether a further column is needed

    Raises:
        LabelError: the file is missing or damaged
    """
    import pandas as pd

    try:
        _check_rows(path)
        table = pd.read_csv(
            path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, encoding="utf-8",
            usecols=lambda name: name in COLUMNS or is_other(name),
        )  # fmt: skip
        name = UTTERANCE if UTTERANCE in table else "FileName"
        table = table.sort_values(name, kind="stable")
        dimensions = tuple(name for name in DIMENSIONS if name in table and f"{name}_pred" in table)
        return Table(
            name,
            {name: table[name].to_numpy(dtype=str) for name in WORDS if name in table},
            dimensions,
            _numbers(table, dimensions, UNKNOWN),
            _numbers(table, [f"{name}_pred" for name in dimensions], UNKNOWN | DIVERGED),
            tuple(name for name in table if is_other(name)),
            lambda names: _numbers(table, names, frozenset()),
        )
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise LabelError(f"{path}: predictions cannot be read ({' '.join(str(error).split())})") from error


def read_predictions(path: Path, evaluated: Sequence[str] | None = None) -> Predictions:
    """Read ``{split}_{fold}_predictions.csv``, without the utterances that lack a label of a dimension.

    Args:
        path: the file
        evaluated: the classes that are evaluated; ``None``: all

    Raises:
        LabelError: the file is missing or damaged, or has no predictions
    """
    table = read_columns(path)
    known = np.isfinite(table.true_values).all(axis=1)  # a corpus may lack labels for some
    words = {name: column[known] for name, column in table.words.items()}
    if not known.any() or not (table.dimensions or "prediction" in words):
        raise LabelError(f"{path}: holds no predictions")
    truth = words.get("truth")
    if truth is not None and evaluated is not None:
        truth = np.where(np.isin(truth, list(evaluated)), truth, "")
    return Predictions(
        words[table.name],
        words.get("SpkrID", np.full(known.sum(), "")),
        truth,
        words.get("prediction"),
        table.dimensions,
        table.true_values[known],
        table.estimates[known],
    )


def _check_rows(path: Path) -> None:
    """Refuse rows that are cut off or too long, and names of columns that occur twice: pandas reads them silently."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise ValueError("a column occurs twice")
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(f"line {rows.line_num} has {len(row)} cells, the header {len(header)}")


def _numbers(table: Any, names: Sequence[str], words: frozenset[str]) -> NDArray[np.float64]:
    """Return columns ``[N, D]`` as numbers; not finite where a cell is one of ``words``, and nowhere else."""
    import pandas as pd

    values = np.empty((len(table), len(names)))
    for index, name in enumerate(names):
        values[:, index] = pd.to_numeric(table[name], errors="coerce")
        unknown = table[name].astype(str).str.strip().str.lower().isin(words).to_numpy()
        wrong = ~np.isfinite(values[:, index]) & ~unknown
        if wrong.any():
            got = shown(str(table[name].iloc[int(wrong.argmax())]), 60)
            raise ValueError(f"{name} must be a number, got {got}")
    return values
