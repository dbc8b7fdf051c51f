"""Read the utterance embeddings of one run of each system and lay them out in a plane; Neumann and Vu 2019."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import EmotionError
from s3prl_emotion.figures.embedding_plots import Labels, read_labels
from s3prl_emotion.figures.embeddings import SUFFIX, Embeddings, load
from s3prl_emotion.figures.tsne import check_rows, tsne, usual_perplexity
from s3prl_emotion.report.reading.study import RunResult, Study, expert_section

logger = logging.getLogger(__name__)
MOST_PLANES = 6  # in a report; each takes about 1.2 s
MOST_POINTS = 300  # utterances in a plane
SEED = 0  # of the draw of utterances where there are more
COLOURED_BY = ("class", "activation", "valence", "gender", "speaker")
MOST_NAMED = 5  # files that a warning names


@dataclass(frozen=True)
class Plane:
    """Utterance embeddings of one run on a split.

    Attributes:
        run: run that saved them
        split: split that they are of
        total: utterances in the file, of which N are shown
        rows: embeddings ``[N, E]``
        known: labels and other properties of the utterances, ``[N]``, by name: those of :data:`COLOURED_BY`
    """

    run: RunResult
    split: str
    total: int
    rows: NDArray[np.float64]
    known: Labels

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """t-SNE layout ``[N, 2]``, computed at first use."""
        return tsne(self.rows)

    @property
    def perplexity(self) -> float:
        """Perplexity of the t-SNE layout."""
        return usual_perplexity(len(self.rows))


@dataclass(frozen=True)
class Planes:
    """Planes of a report by upstream and split, then by system, and warnings about embeddings that are not shown."""

    planes: dict[tuple[str, str], dict[str, Plane]]
    warnings: tuple[str, ...] = ()


def planes_of(study: Study) -> Planes:
    """Read, for each upstream and system, the embeddings of the first run (by fold, then seed) that saved them.

    They are of the split ``test``, or of the first split where there is no ``test``. At most :data:`MOST_PLANES` are
    read.

    Args:
        study: the study, as loaded
    """
    shown: dict[tuple[str, str], dict[str, Plane]] = {}
    damaged, left_out, given = [], 0, 0
    for upstream in study.upstreams:
        for system in study.systems:
            chosen = _representative(study, upstream, system)
            if chosen is None:
                continue
            given += 1
            if sum(map(len, shown.values())) == MOST_PLANES:
                left_out += 1
                continue
            run, split = chosen
            try:
                shown.setdefault((upstream, split), {})[system] = read_plane(run, split)
            except EmotionError as error:
                where = ", ".join(filter(None, [upstream, system, split, run.fold]))
                damaged.append(f"{where}: {' '.join(str(error).split())}")
                logger.warning("utterance embeddings are not shown: %s", damaged[-1])
    warnings = [f"some utterance embeddings are not shown: {_some(damaged)}"] if damaged else []
    if left_out:
        warnings.append(
            f"utterance embeddings are laid out for the first {MOST_PLANES} of {given} systems and upstreams that have "
            "them; s3prl-emotion tsne plots those of any run"
        )
    return Planes(shown, tuple(warnings))


def read_plane(run: RunResult, split: str) -> Plane:
    """Read a run's embeddings; of more than :data:`MOST_POINTS` utterances, draw that many with a fixed seed.

    Raises:
        EmotionError: the file is missing or damaged, its embeddings cannot be laid out, or the predictions beside it,
            which hold the properties of the utterances, cannot be read
    """
    path = run.splits[split].beside(SUFFIX)
    embeddings = load(path)
    rows = np.asarray(embeddings.rows, dtype=np.float64)
    check_rows(rows)
    known: dict[str, NDArray[Any]] = _from_label_table(run, split, embeddings) | read_labels(embeddings, path)
    chosen = np.arange(len(rows))
    if len(rows) > MOST_POINTS:
        chosen = np.sort(np.random.default_rng(SEED).choice(len(rows), MOST_POINTS, replace=False))
        check_rows(rows[chosen])
    shown = {name: known[name][chosen] for name in COLOURED_BY if name in known and _varies(known[name][chosen])}
    return Plane(run, split, len(rows), rows[chosen], shown)


def _representative(study: Study, upstream: str, system: str) -> tuple[RunResult, str] | None:
    """Return the first run with a file of embeddings; if none has one, the first run if its recipe asks for them."""
    split = "test" if "test" in study.splits else next(iter(study.splits), "")
    runs = sorted(study.of(upstream, system, split), key=_order)
    for run in runs:
        if run.splits[split].beside(SUFFIX).is_file():
            return run, split
    asked = bool(runs) and _expert(runs[0], split).get("embeddings")
    return (runs[0], split) if asked else None


def _order(run: RunResult) -> tuple[list[Any], str]:
    """Return a key that sorts folds by their numbers (fold2 before fold10), then by seed."""
    parts = re.split(r"(\d+)", run.fold)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], str(run.seed).zfill(20)


def _expert(run: RunResult, split: str) -> dict[str, Any]:
    return expert_section(run.splits[split].whole().get("config"))


def _from_label_table(run: RunResult, split: str, embeddings: Embeddings) -> Labels:
    """Read the utterances' properties from the recipe's label table, which may have more of them than the predictions.

    For a head of classes, for example, it may have activation and valence. Return nothing where the table is gone or
    of other utterances.
    """
    data = _expert(run, split).get("datarc")
    table = Path(str(data.get("labels"))).expanduser() if isinstance(data, dict) else Path()
    if not table.is_file():
        return {}
    try:
        return read_labels(embeddings, run.splits[split].beside(SUFFIX), table)
    except EmotionError as error:
        logger.info("%s is not used for the utterance embeddings: %s", table, error)
        return {}


def _varies(values: NDArray[Any]) -> bool:
    """Return whether there is something to colour by: a word, or at least two different numbers."""
    if values.dtype.kind == "f":
        return len(np.unique(values[np.isfinite(values)])) > 1
    return bool((values != "").any())


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - MOST_NAMED} more, which the log names" if len(texts) > MOST_NAMED else ""
    return "; ".join(texts[:MOST_NAMED]) + more
