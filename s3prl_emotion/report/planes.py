"""Utterance embeddings that runs kept: those of one run of each system, laid out in a plane; Neumann & Vu 2019."""

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
from s3prl_emotion.figures.embedding_plots import Known, known_of
from s3prl_emotion.figures.embeddings import SUFFIX, Embeddings, check_rows, in_a_plane, load, usual_perplexity
from s3prl_emotion.report.study import RunResult, Study

logger = logging.getLogger(__name__)
MOST = 6  # planes of a report, some 1.2 s each
POINTS = 300  # utterances of a plane
SEED = 0  # of which utterances are drawn where there are more
SHOWN = ("class", "activation", "valence", "gender", "speaker")  # what may colour a plane
TOLD = 5  # files that a warning names


@dataclass(frozen=True)
class Plane:
    """Utterance embeddings of one run.

    Attributes:
        run: that kept them
        split: that they are of
        total: utterances of the file, before some were drawn
        rows: embeddings ``[N, E]``
        known: of each utterance, ``[N]``, by :data:`SHOWN`
    """

    run: RunResult
    split: str
    total: int
    rows: NDArray[np.float64]
    known: Known

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Places ``[N, 2]``, laid out when they are first asked for."""
        return in_a_plane(self.rows)

    @property
    def perplexity(self) -> float:
        """Of the layout."""
        return usual_perplexity(len(self.rows))


@dataclass(frozen=True)
class Planes:
    """Of a report: planes by upstream and split, each under its system; and what could not be shown."""

    planes: dict[tuple[str, str], dict[str, Plane]]
    warnings: tuple[str, ...] = ()


def planes_of(study: Study) -> Planes:
    """Embeddings of a report: for each upstream and system those of the first run (by fold, then seed) that kept them.

    They are of the split ``test``, of the first that is tested where there is no such, and no more than :data:`MOST`.

    Args:
        study: as loaded
    """
    found: dict[tuple[str, str], dict[str, Plane]] = {}
    damaged, left_out, given = [], 0, 0
    for upstream in study.upstreams:
        for system in study.systems:
            chosen = _representative(study, upstream, system)
            if chosen is None:
                continue
            given += 1
            if sum(map(len, found.values())) == MOST:
                left_out += 1
                continue
            run, split = chosen
            try:
                found.setdefault((upstream, split), {})[system] = read_plane(run, split)
            except EmotionError as error:
                where = ", ".join(filter(None, [upstream, system, split, run.fold]))
                damaged.append(f"{where}: {' '.join(str(error).split())}")
                logger.warning("no utterance embeddings are shown of %s", damaged[-1])
    warnings = [f"no utterance embeddings are shown of {_some(damaged)}"] if damaged else []
    if left_out:
        warnings.append(
            f"utterance embeddings are laid out for the first {MOST} of {given} systems and upstreams that have them; "
            "s3prl-emotion tsne shows those of any other run"
        )
    return Planes(found, tuple(warnings))


def read_plane(run: RunResult, split: str) -> Plane:
    """A run's embeddings; of more than :data:`POINTS` utterances so many are drawn, always the same.

    Raises:
        EmotionError: the file is missing or damaged, its embeddings cannot be laid out, or the predictions beside it,
            which tell of the utterances, cannot be read
    """
    path = run.splits[split].beside(SUFFIX)
    embeddings = load(path)
    rows = np.asarray(embeddings.rows, dtype=np.float64)
    check_rows(rows)
    known: dict[str, NDArray[Any]] = _of_table(run, split, embeddings) | known_of(embeddings, path)
    chosen = np.arange(len(rows))
    if len(rows) > POINTS:
        chosen = np.sort(np.random.default_rng(SEED).choice(len(rows), POINTS, replace=False))
        check_rows(rows[chosen])
    shown = {name: known[name][chosen] for name in SHOWN if name in known and _tells(known[name][chosen])}
    return Plane(run, split, len(rows), rows[chosen], shown)


def _representative(study: Study, upstream: str, system: str) -> tuple[RunResult, str] | None:
    """First run with a file of embeddings; where none has one, the first whose recipe asks for them."""
    split = "test" if "test" in study.splits else next(iter(study.splits), "")
    runs = sorted(study.of(upstream, system, split), key=_order)
    for run in runs:
        if run.splits[split].beside(SUFFIX).is_file():
            return run, split
    return (runs[0], split) if runs and _asks(runs[0], split) else None


def _order(run: RunResult) -> tuple[list[Any], str]:
    """Folds in the order in which people count them, then seeds."""
    parts = re.split(r"(\d+)", run.fold)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], str(run.seed).zfill(20)


def _asks(run: RunResult, split: str) -> bool:
    return bool(_section(run, split).get("embeddings"))


def _section(run: RunResult, split: str) -> dict[str, Any]:
    """``downstream_expert`` of the run's recipe, empty where its metrics file is not there."""
    config = run.splits[split].whole().get("config")
    section = config.get("downstream_expert") if isinstance(config, dict) else None
    return section if isinstance(section, dict) else {}


def _of_table(run: RunResult, split: str, embeddings: Embeddings) -> Known:
    """What the recipe's label table tells, which may know of more than the predictions: of a head of classes, grades.

    Nothing where the table is not there any more, or of other utterances: what is not known is not shown.
    """
    data = _section(run, split).get("datarc")
    table = Path(str(data.get("labels"))).expanduser() if isinstance(data, dict) else Path()
    if not table.is_file():
        return {}
    try:
        return known_of(embeddings, run.splits[split].beside(SUFFIX), table)
    except EmotionError as error:
        logger.info("%s tells nothing of the utterance embeddings: %s", table, error)
        return {}


def _tells(values: NDArray[Any]) -> bool:
    """Whether anything is known; numbers that are all alike make no scale."""
    if values.dtype.kind == "f":
        return len(np.unique(values[np.isfinite(values)])) > 1
    return bool((values != "").any())


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - TOLD} more, which the log names" if len(texts) > TOLD else ""
    return "; ".join(texts[:TOLD]) + more
