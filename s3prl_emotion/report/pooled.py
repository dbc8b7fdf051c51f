"""Predictions of a system's runs on one split, pooled over folds, as sums by speaker for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import DIMENSIONS
from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.statistics import CATEGORICAL, DIMENSIONAL, Clusters, confusion_sums, dimensional_sums
from s3prl_emotion.metrics.statistics.sums import MOMENTS, Array
from s3prl_emotion.report.study import RunResult

WORDS = ("FileName", "SpkrID", "Gender", "truth", "prediction")
WANTED = frozenset([*WORDS, *DIMENSIONS, *(f"{name}_pred" for name in DIMENSIONS)])  # chances of classes are many


@dataclass(frozen=True)
class Predictions:
    """One run's predictions on a split, sorted by file name."""

    names: NDArray[np.str_]
    speakers: NDArray[np.str_]
    truth: NDArray[np.str_] | None
    prediction: NDArray[np.str_] | None
    dimensions: tuple[str, ...]
    true_values: NDArray[np.float64]
    estimates: NDArray[np.float64]

    def same_utterances(self, other: Predictions) -> bool:
        """Whether both are of the same utterances with the same labels."""
        return (
            np.array_equal(self.names, other.names)
            and self.dimensions == other.dimensions
            and np.array_equal(self.true_values, other.true_values)
            and (self.truth is None) == (other.truth is None)
            and (self.truth is None or other.truth is None or np.array_equal(self.truth, other.truth))
        )


def read_predictions(path: Path) -> Predictions:
    """Read ``{split}_{fold}_predictions.csv``.

    Raises:
        LabelError: missing, damaged, or without predictions
    """
    import pandas as pd

    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, encoding="utf-8", usecols=WANTED.__contains__
        )
        table = table.sort_values("FileName", kind="stable")
        dimensions = tuple(name for name in DIMENSIONS if name in table and f"{name}_pred" in table)
        values = [
            table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
            for columns in ([*dimensions], [f"{name}_pred" for name in dimensions])
        ]
        known = np.isfinite(values[0]).all(axis=1)  # a corpus may lack labels for some
        words = {name: table[name].to_numpy(dtype=str)[known] for name in WORDS if name in table}
    except (OSError, ValueError, KeyError) as error:
        raise LabelError(f"{path}: predictions cannot be read ({' '.join(str(error).split())})") from error
    if not known.any() or not (dimensions or "prediction" in words):
        raise LabelError(f"{path}: holds no predictions")
    speakers = words.get("SpkrID", np.full(known.sum(), ""))
    truth, prediction = words.get("truth"), words.get("prediction")
    return Predictions(words["FileName"], speakers, truth, prediction, dimensions, values[0][known], values[1][known])


class Pool:
    """Predictions of several runs on one split: folds together, seeds apart.

    Args:
        runs: of one system, each with its predictions
    """

    def __init__(self, runs: Sequence[tuple[RunResult, Predictions]]) -> None:
        ordered = sorted(runs, key=lambda item: (str(item[0].seed), item[0].fold))
        self.seeds = list(dict.fromkeys(run.seed for run, _ in ordered))
        self.parts = [[part for run, part in ordered if run.seed == seed] for seed in self.seeds]
        everything = [part for parts in self.parts for part in parts]
        self.dimensions = everything[0].dimensions
        self.classes = _classes(everything)
        self.clusters = Clusters(
            [name for part in everything for name in part.speakers.tolist()],
            [(run.fold, name) for run, part in ordered for name in part.names.tolist()],
        )
        self.utterances = round(sum(len(part.names) for part in everything) / len(self.seeds))

    def values(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True values and estimates of a dimension, of all seeds."""
        everything = [part for parts in self.parts for part in parts]
        return (
            np.concatenate([part.true_values[:, column] for part in everything]),
            np.concatenate([part.estimates[:, column] for part in everything]),
        )

    def sums(self, classes: Sequence[str]) -> Array:
        """Sums of each speaker: for each seed the dimensions' moments, then for each seed the counts of classes.

        Args:
            classes: all that occur, in systems that are to be compared alike

        Returns:
            ``[K, S * D * 6 + S * 3 C]``
        """
        count, first = len(self.clusters), 0
        moments, counts = [], []
        for parts in self.parts:
            rows = sum(len(part.names) for part in parts)
            inside = self.clusters.indices[first : first + rows]
            first += rows
            for column in range(len(self.dimensions)):
                true, guess = (
                    np.concatenate([getattr(part, name)[:, column] for part in parts])
                    for name in ("true_values", "estimates")
                )
                moments.append(dimensional_sums(true, guess, inside, count))
            if classes:
                indices = [_indices([getattr(part, name) for part in parts], classes) for name in WORDS[3:]]
                counts.append(confusion_sums(indices[0], indices[1], inside, count, len(classes)))
        return np.concatenate([*moments, *counts], axis=1)


@dataclass(frozen=True)
class Measures:
    """The metrics of a pool's totals, as the bootstrap and the permutation test want them."""

    seeds: int
    dimensions: tuple[str, ...]
    classes: int

    @property
    def names(self) -> list[str]:
        """Of the metrics, ``[M]``."""
        names = []
        for metric in DIMENSIONAL if self.dimensions else ():
            names += [*(f"{metric}.{name}" for name in self.dimensions), f"mean_{metric}"]
        return names + (list(CATEGORICAL) if self.classes else [])

    def __call__(self, totals: Array) -> Array:
        """Totals ``[..., P]`` to metrics ``[..., M]``: the mean over seeds of each seed's metric."""
        width = self.seeds * len(self.dimensions) * MOMENTS
        before = totals.shape[:-1]
        found = []
        if self.dimensions:
            moments = totals[..., :width].reshape(*before, self.seeds, len(self.dimensions), MOMENTS)
            for metric in DIMENSIONAL.values():
                values = metric(moments).mean(axis=-2)
                found += [values, values.mean(axis=-1, keepdims=True)]
        if self.classes:
            counts = totals[..., width:].reshape(*before, self.seeds, 3 * self.classes)
            found += [metric(counts).mean(axis=-1)[..., None] for metric in CATEGORICAL.values()]
        return np.concatenate(found, axis=-1)


def _classes(parts: Sequence[Predictions]) -> list[str]:
    """Class names that occur, or none where a part has no classes."""
    words = [getattr(part, name) for part in parts for name in WORDS[3:]]
    return [] if any(word is None for word in words) else sorted(set(np.concatenate(words).tolist()))


def _indices(words: Sequence[NDArray[np.str_]], classes: Sequence[str]) -> NDArray[np.intp]:
    return np.searchsorted(np.array(classes), np.concatenate(words))
