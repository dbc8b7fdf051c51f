"""All of a split's metrics for a head that learns the graders' distribution; Mitra et al. 2025.

Such a head may have learnt more classes than are evaluated (nine and six in the paper), and it learns from utterances
without consensus too, which have no true class. So UAR and all that needs a true class is computed over the evaluated
classes and the utterances that have one of them; agreement with the graders over all classes and all utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.checks import NO_CLASS, Floats, Places, check_classes, checked_rows, checked_truth
from s3prl_emotion.metrics.distribution import agreement, threshold_f1
from s3prl_emotion.metrics.groups import group_metrics

GROUPS = ("per_speaker", "per_gender")


@dataclass(frozen=True)
class Restricted:
    """What is left of a split over the evaluated classes.

    Attributes:
        classes: the evaluated ones, ``[E]``, which index what follows
        kept: indices of the utterances that have one of them, ``[M]``, ascending
        truth: class indices, ``[M]``
        probabilities: ``[M, E]``, rows sum to 1
        no_consensus: how many utterances have no class at all
        other_class: how many have a class that is not evaluated
        no_mass: how many of the kept have probability 0 in all evaluated classes, and were given 1/E in each
    """

    classes: tuple[str, ...]
    kept: Places
    truth: Places
    probabilities: Floats
    no_consensus: int
    other_class: int
    no_mass: int


def restrict_classes(
    truth: Sequence[int] | Places,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    evaluated: Sequence[str],
) -> Restricted:
    """Restrict a split to the classes that are evaluated: what the model would say if it knew no others.

    Args:
        truth: index into ``classes`` of each utterance, ``[N]``; negative where there is no consensus
        probabilities: ``[N, K]``, rows sum to 1
        classes: that the head has learnt, ``[K]``
        evaluated: names of two or more of them, in the order wanted, which also decides ties

    Returns:
        utterances of the evaluated classes, their probabilities there divided by their sums

    Raises:
        LabelError: a class that is not known, named twice or fewer than two, no utterance left, or bad input
    """
    check_classes(classes)
    check_classes(evaluated)
    rows = checked_rows(probabilities, "probabilities", len(classes))
    true = checked_truth(truth, rows.shape, none=True)
    unknown = [name for name in evaluated if name not in classes]
    if unknown:
        raise LabelError(f"evaluated classes: {unknown[0]!r} is none the head has learnt{nearest(unknown[0], classes)}")
    if len(evaluated) < 2:
        raise LabelError(f"evaluated classes: {', '.join(evaluated) or 'none'}; name two or more")
    columns = [list(classes).index(name) for name in evaluated]
    place = np.full(len(classes) + 1, NO_CLASS)  # its last is for utterances without a class
    place[columns] = range(len(columns))
    kept = np.flatnonzero(place[true] >= 0)
    if not len(kept):
        raise LabelError(f"no utterance of the split has one of the classes {', '.join(evaluated)}; evaluate others")
    inside = rows[kept][:, columns]
    mass = inside.sum(axis=1, keepdims=True)
    even = np.full_like(inside, 1 / len(columns))
    none = int((true < 0).sum())
    return Restricted(
        classes=tuple(evaluated),
        kept=kept,
        truth=place[true[kept]],
        probabilities=np.divide(inside, mass, out=even, where=mass > 0),
        no_consensus=none,
        other_class=len(true) - none - len(kept),
        no_mass=int((mass == 0).sum()),
    )


def hypothesis_pairs(
    truth: Sequence[int] | Places, probabilities: NDArray[np.floating[Any]], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each true class, how often which class comes first and which second; Mitra et al. 2025, Fig. 5.

    Args:
        truth: class indices, ``[N]``
        probabilities: ``[N, K]``, K >= 2; ties go to the first class
        classes: names, ``[K]``

    Returns:
        by true class: ``utterances``, and ``shares`` of them, ``[K, K]``, rows the first hypothesis, columns the
        second, so that the row of the true class holds what the first gets right and its column what the second does;
        the diagonal is 0, all sum to 1; ``None`` where the class does not occur

    Raises:
        LabelError: shapes or class indices that do not fit, fewer than two classes, or rows that are no distributions
    """
    check_classes(classes)
    rows = checked_rows(probabilities, "probabilities", len(classes))
    true, number = checked_truth(truth, rows.shape), len(classes)
    if number < 2:
        raise LabelError("a second hypothesis needs two classes or more")
    first, second = np.argsort(-rows, axis=1, kind="stable")[:, :2].T
    cells = np.bincount((true * number + first) * number + second, minlength=number**3).reshape([number] * 3)
    totals = cells.sum(axis=(1, 2)).tolist()
    return {
        name: {"utterances": total, "shares": (counts / total).tolist() if total else None}
        for name, total, counts in zip(classes, totals, cells, strict=True)
    }


def split_metrics(
    truth: Sequence[int] | Places,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    evaluated: Sequence[str] | None = None,
    graders: NDArray[np.floating[Any]] | None = None,
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    min_utterances: int = 1,
    dimensional: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All metrics of a split, once over the whole of it.

    Args:
        truth: index into ``classes`` of each utterance, ``[N]``, N >= 1; negative where there is no consensus
        probabilities: ``[N, K]``, rows sum to 1
        classes: that the head has learnt, ``[K]``
        evaluated: those that UAR and the like are about, ``[E]``; all by default
        graders: shares of the graders, ``[N, K]``, order of ``classes``; a row of NaN where they are not known
        speakers: of each utterance, where known
        genders: of each utterance, where known
        min_utterances: speakers with fewer evaluated utterances are left out of paUAR
        dimensional: :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics` of the same split, to be joined

    Returns:
        plain numbers, lists and dicts, ready for JSON, in this order:

        - ``classes`` and ``evaluated_classes``, names. Lists over classes follow ``evaluated_classes``.
        - ``counts``: ``utterances`` N, ``evaluated`` M, ``no_consensus``, ``other_class``, ``no_mass`` as in
          :class:`Restricted`
        - over the M utterances and E classes: ``utterances``, ``WA``, ``UAR``, ``macro_f1``, ``recall``, ``confusion``,
          ``ECE``, ``reliability`` as in :func:`~s3prl_emotion.metrics.categorical.categorical_metrics`;
          ``hypotheses`` as in :func:`hypothesis_pairs`
        - ``n_best``, and where known ``per_speaker``, ``speakers``, ``paUAR``, ``UAR_against_share``, ``per_gender`` as
          in :func:`~s3prl_emotion.metrics.groups.group_metrics`
        - over all utterances with ``graders`` and K classes: ``agreement`` and ``threshold_F1`` as in
          :mod:`~s3prl_emotion.metrics.distribution`
        - with ``dimensional``: its keys, but ``dimension_utterances`` for its ``utterances``, in the whole and in each
          entry of ``per_speaker`` and ``per_gender``

    Raises:
        LabelError: input that does not fit, see the functions named above
    """
    rows = checked_rows(probabilities, "probabilities", len(classes))
    part = restrict_classes(truth, rows, classes, classes if evaluated is None else evaluated)
    result: dict[str, Any] = {
        "classes": list(classes),
        "evaluated_classes": list(part.classes),
        "counts": {
            "utterances": len(rows),
            "evaluated": len(part.kept),
            "no_consensus": part.no_consensus,
            "other_class": part.other_class,
            "no_mass": part.no_mass,
        },
    }
    result |= categorical_metrics(part.truth.tolist(), part.probabilities, part.classes)
    result["hypotheses"] = hypothesis_pairs(part.truth, part.probabilities, part.classes)
    result |= group_metrics(*_whole(part, len(rows)), part.classes, speakers, genders, min_utterances)
    if graders is not None:
        known = _with_shares(graders, rows)
        result["agreement"] = agreement(*known)
        result["threshold_F1"] = threshold_f1(*known, classes)
    return result if dimensional is None else join_dimensions(result, dimensional)


def join_dimensions(metrics: Mapping[str, Any], dimensional: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of classes and of dimensions as one, group by group.

    Args:
        metrics: of :func:`split_metrics`
        dimensional: of :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics`, same utterances

    Returns:
        both; ``utterances`` is that of the classes, ``dimension_utterances`` that of the dimensions

    Raises:
        LabelError: the dimensions' groups are not among those of the classes
    """
    result = dict(metrics) | _renamed({key: value for key, value in dimensional.items() if key not in GROUPS})
    for key in GROUPS:
        mine, theirs = metrics.get(key, {}), dimensional.get(key, {})
        others = [name for name in theirs if name not in mine]
        if others:
            raise LabelError(f"dimensional metrics: {key} has {others[0]!r}, the classes' has not; give the same split")
        if mine:
            result[key] = {name: dict(entry) | _renamed(theirs.get(name, {})) for name, entry in mine.items()}
    return result


def metrics_without_classes(
    dimensional: Mapping[str, Any], evaluated: Sequence[str], utterances: int
) -> dict[str, Any]:
    """Metrics of a split of which only dimensions are known, under the same keys as in :func:`split_metrics`.

    Args:
        dimensional: of :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics`
        evaluated: names of the classes that UAR would be about
        utterances: of the split

    Returns:
        ``evaluated_classes``, ``counts``, and the keys of ``dimensional``
    """
    counts = {"utterances": utterances, "evaluated": 0, "no_consensus": utterances, "other_class": 0, "no_mass": 0}
    groups: dict[str, Any] = {key: {name: {} for name in dimensional.get(key, {})} for key in GROUPS}
    return join_dimensions({"evaluated_classes": list(evaluated), "counts": counts} | groups, dimensional)


def _with_shares(
    graders: NDArray[np.floating[Any]], rows: Floats
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Both of the utterances whose shares are known; what does not fit is left for the metrics to refuse."""
    known = ~np.isnan(graders).all(axis=-1)
    if graders.shape != rows.shape or known.all() or not known.any():
        return graders, rows
    return graders[known], rows[known]


def _whole(part: Restricted, utterances: int) -> tuple[Places, Floats]:
    """Truth ``[N]`` and probabilities ``[N, E]`` with the left-out utterances back in, as ones that are not scored."""
    truth = np.full(utterances, NO_CLASS)
    rows = np.full((utterances, len(part.classes)), 1 / len(part.classes))
    truth[part.kept], rows[part.kept] = part.truth, part.probabilities
    return truth, rows


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"dimension_utterances" if key == "utterances" else key: value for key, value in values.items()}
