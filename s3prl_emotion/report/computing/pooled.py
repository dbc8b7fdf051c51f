"""Pool the predictions of a system's runs on a split over folds, as sums for each speaker and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.metrics.class_scores import class_counts
from s3prl_emotion.metrics.dimension_scores import MOMENTS, dimension_sums
from s3prl_emotion.metrics.metric import Array
from s3prl_emotion.metrics.registry import resampled
from s3prl_emotion.metrics.statistics import Clusters
from s3prl_emotion.report.reading.predictions import Predictions
from s3prl_emotion.report.reading.study import RunResult

CLASS_COLUMNS = ("truth", "prediction")


class Pool:
    """Predictions of several runs on one split, with folds merged and seeds kept apart.

    Args:
        runs: runs of one system, each with its predictions
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
        """Return the true values and the estimates of a dimension over all seeds."""
        everything = [part for parts in self.parts for part in parts]
        return (
            np.concatenate([part.true_values[:, column] for part in everything]),
            np.concatenate([part.estimates[:, column] for part in everything]),
        )

    def sums(self, classes: Sequence[str]) -> Array:
        """Return the sums of each of K speakers: the moments of D dimensions for S seeds, then the counts of C classes.

        Args:
            classes: all classes that occur; the same for systems that are compared

        Returns:
            sums ``[K, S * D * 6 + S * 3 * C]``
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
                moments.append(dimension_sums(true, guess, inside, count))
            if classes:
                truth, guess = (np.concatenate([getattr(part, name) for part in parts]) for name in CLASS_COLUMNS)
                known = truth != ""
                indices = [np.searchsorted(np.array(classes), words[known]) for words in (truth, guess)]
                counts.append(class_counts(indices[0], indices[1], inside[known], count, len(classes)))
        return np.concatenate([*moments, *counts], axis=1)


@dataclass(frozen=True)
class Measures:
    """Metrics computed from the totals of a pool, for the bootstrap and the permutation test."""

    seeds: int
    dimensions: tuple[str, ...]
    classes: int

    @property
    def names(self) -> list[str]:
        """Names of the M metrics."""
        names = []
        for metric in resampled("dimensions") if self.dimensions else ():
            names += [*(f"{metric}.{name}" for name in self.dimensions), f"mean_{metric}"]
        return names + (list(resampled("classes")) if self.classes else [])

    def __call__(self, totals: Array) -> Array:
        """Return metrics ``[..., M]`` from totals ``[..., P]``: the mean over seeds of each seed's metric."""
        width = self.seeds * len(self.dimensions) * MOMENTS
        before = totals.shape[:-1]
        metrics = []
        if self.dimensions:
            moments = totals[..., :width].reshape(*before, self.seeds, len(self.dimensions), MOMENTS)
            for metric in resampled("dimensions").values():
                values = metric(moments).mean(axis=-2)
                metrics += [values, values.mean(axis=-1, keepdims=True)]
        if self.classes:
            counts = totals[..., width:].reshape(*before, self.seeds, 3 * self.classes)
            metrics += [metric(counts).mean(axis=-1)[..., None] for metric in resampled("classes").values()]
        return np.concatenate(metrics, axis=-1)


def _classes(parts: Sequence[Predictions]) -> list[str]:
    """Return the class names that occur; none if some of the predictions have no classes, or no true class is known."""
    truth, guesses = ([getattr(part, name) for part in parts] for name in CLASS_COLUMNS)
    if any(words is None for words in (*truth, *guesses)):
        return []
    known = set(np.concatenate(truth).tolist()) - {""}
    return sorted(known | set(np.concatenate(guesses).tolist())) if known else []
