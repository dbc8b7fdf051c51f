"""How the page groups what runs know beside their scores: tables and figures that belong together, with a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_emotion.report.tables import Table

HYPOTHESES = (
    "n-best: where the true class is among the n most probable ones, it counts as the prediction. paUAR-X is the share "
    "of speakers whose UAR is above X %."
)
GROUPS = (
    "Worst, median and best are those of each run; ± is the standard deviation over runs (n − 1). Speakers with fewer "
    "than the least utterances are left out of their scores and of paUAR. UAR against the share of a class: Spearman's "
    "correlation over the speakers of a run."
)
AGREEMENT = (
    "JS and KL: Jensen-Shannon divergence and Kullback-Leibler divergence (graders from model), means over utterances. "
    "Entropies: whether the model is unsure of what graders disagree about. Macro-F1 above 1/K: a class is true, or "
    "predicted, where its share exceeds one K-th. ECE: expected calibration error over 15 bins."
)
COST = (
    "Parameters of the upstream: of the layers up to the one that is taken, and of all. Seconds are those of the "
    "training process with its evaluations; a run that fills the feature store pays for the runs that read from it."
)
PARTS = (  # title, titles of tables, kinds of figures, note
    ("Classes and hypotheses", ("n-best hypotheses",), ("confusion", "hypotheses"), HYPOTHESES),
    ("Speakers and genders",
     ("speakers", "UAR against the share of a class", "genders", "speakers above a UAR, by gender"),
     ("speaker_scatter", "speakers", "genders"), GROUPS),
    ("Agreement with graders and calibration", ("agreement with graders", "calibration"), ("reliability",), AGREEMENT),
    ("Utterance embeddings", (), ("embeddings",), ""),
    ("Layers and cost", ("layers and cost",), ("layer_weights", "layer_saliency"), COST),
    ("Learning curves", (), ("curves",), ""),
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """Tables and figures under one title; figures come with their drawn panels."""

    title: str
    tables: list[Table]
    figures: list[tuple[Any, Any]]
    note: str


def sections(tables: Sequence[Table], figures: Sequence[tuple[Any, Any]]) -> list[Section]:
    """Those sections that hold something, the note only beside tables."""
    found = []
    for title, titles, kinds, note in PARTS:
        inside = [table for table in tables if table.title in titles]
        drawn = [(figure, panels) for figure, panels in figures if figure.kind in kinds]
        if inside or drawn:
            found.append(Section(title, inside, drawn, note if inside else ""))
    return found
