"""Compute all metrics of a split for heads that learn the graders' distribution; Mitra et al. 2025.

Such a head may learn more classes than are evaluated (nine and six in the paper), and it learns from utterances without
consensus, which have no true class. UAR and everything else that needs a true class is therefore computed over the
evaluated classes and the utterances that have one of them, agreement with the graders over all classes and utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError, nearest
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.checks import NO_CLASS, Floats, Indices, check_classes, checked_rows, checked_truth
from s3prl_emotion.metrics.distribution import agreement, threshold_f1
from s3prl_emotion.metrics.groups import group_metrics

GROUPS = ("per_speaker", "per_gender")


@dataclass(frozen=True)
class Restricted:
    """A split restricted to the evaluated classes.

    Attributes:
        classes: names of the evaluated classes, ``[E]``
        kept: indices of the utterances of these classes in the split, ``[M]``, ascending
        truth: indices into ``classes``, ``[M]``
        probabilities: ``[M, E]``, rows sum to 1
        no_consensus: number of utterances without a class
        other_class: number of utterances of a class that is not evaluated
        no_mass: number of kept utterances whose probability is 0 in all evaluated classes; they get 1/E in each
    """

    classes: tuple[str, ...]
    kept: Indices
    truth: Indices
    probabilities: Floats
    no_consensus: int
    other_class: int
    no_mass: int


def restrict_classes(
    truth: Sequence[int] | Indices,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    evaluated: Sequence[str],
) -> Restricted:
    """Restrict a split to the classes that are evaluated, as if the model knew no others.

    Args:
        truth: index into ``classes`` of each utterance, ``[N]``; negative where there is no consensus
        probabilities: ``[N, K]``, rows sum to 1
        classes: names of the classes that the head has learnt, ``[K]``
        evaluated: names of two or more of them; ties go to the one that comes first here

    Returns:
        the utterances of the evaluated classes, with the probabilities of these classes divided by their sum

    Raises:
        LabelError: a class is unknown or named twice, fewer than two are evaluated, no utterance is left, or the input
            is not valid
    """
    check_classes(classes)
    check_classes(evaluated)
    rows = checked_rows(probabilities, "probabilities", len(classes))
    true = checked_truth(truth, rows.shape, none=True)
    unknown = [name for name in evaluated if name not in classes]
    if unknown:
        raise LabelError(
            f"evaluated classes: {unknown[0]!r} is not one that the head has learnt{nearest(unknown[0], classes)}"
        )
    if len(evaluated) < 2:
        raise LabelError(f"evaluated classes: {', '.join(evaluated) or 'none'}; name two or more")
    columns = [list(classes).index(name) for name in evaluated]
    index_of = np.full(len(classes) + 1, NO_CLASS)  # the last entry is for utterances without a class
    index_of[columns] = range(len(columns))
    kept = np.flatnonzero(index_of[true] >= 0)
    if not len(kept):
        raise LabelError(f"no utterance of the split has one of the classes {', '.join(evaluated)}; evaluate others")
    inside = rows[kept][:, columns]
    mass = inside.sum(axis=1, keepdims=True)
    even = np.full_like(inside, 1 / len(columns))
    none = int((true < 0).sum())
    return Restricted(
        classes=tuple(evaluated),
        kept=kept,
        truth=index_of[true[kept]],
        probabilities=np.divide(inside, mass, out=even, where=mass > 0),
        no_consensus=none,
        other_class=len(true) - none - len(kept),
        no_mass=int((mass == 0).sum()),
    )


def hypothesis_pairs(
    truth: Sequence[int] | Indices, probabilities: NDArray[np.floating[Any]], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Count, for each true class, the pairs of first and second hypothesis; Mitra et al. 2025, Fig. 5.

    Args:
        truth: class indices, ``[N]``
        probabilities: ``[N, K]``, K >= 2; ties go to the first class
        classes: names, ``[K]``

    Returns:
        by true class: ``utterances``, and ``shares`` of them, ``[K, K]``, which sum to 1, rows the first hypothesis,
        columns the second; ``None`` where the class does not occur. The first hypothesis is right in the row of the
        true class, the second in its column.

    Raises:
        LabelError: shapes or class indices that do not fit, fewer than two classes, or rows that are no distributions
    """
    check_classes(classes)
    rows = checked_rows(probabilities, "probabilities", len(classes))
    true, number = checked_truth(truth, rows.shape), len(classes)
    if number < 2:
        raise LabelError(f"classes: {number} of them; a second hypothesis needs two or more")
    first, second = np.argsort(-rows, axis=1, kind="stable")[:, :2].T
    cells = np.bincount((true * number + first) * number + second, minlength=number**3).reshape([number] * 3)
    totals = cells.sum(axis=(1, 2)).tolist()
    return {
        name: {"utterances": total, "shares": (counts / total).tolist() if total else None}
        for name, total, counts in zip(classes, totals, cells, strict=True)
    }


def split_metrics(
    truth: Sequence[int] | Indices,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    evaluated: Sequence[str] | None = None,
    graders: NDArray[np.floating[Any]] | None = None,
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    min_utterances: int = 1,
    dimensional: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute all metrics of a split, once over the whole of it.

    Args:
        truth: index into ``classes`` of each utterance, ``[N]``, N >= 1; negative where there is no consensus
        probabilities: ``[N, K]``, rows sum to 1
        classes: names of the classes that the head has learnt, ``[K]``
        evaluated: names of the classes that are evaluated, ``[E]``; all by default
        graders: shares of the graders, ``[N, K]``, in the order of ``classes``; rows of NaN where they are unknown
        speakers: speaker of each utterance, ``[N]``, ``None`` where unknown
        genders: gender of each utterance, ``[N]``, ``None`` where unknown
        min_utterances: speakers with fewer evaluated utterances are left out of paUAR
        dimensional: metrics of the split's dimensions, from
            :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics`, to be joined

    Returns:
        plain numbers, lists and dicts, ready for JSON, in this order:

        - ``classes`` and ``evaluated_classes``, names. Lists over classes are in the order of ``evaluated_classes``.
        - ``counts``: ``utterances`` N, ``evaluated`` M, ``no_consensus``, ``other_class``, ``no_mass`` as in
          :class:`Restricted`
        - over the M utterances and E classes: ``utterances``, ``WA``, ``UAR``, ``macro_f1``, ``recall``, ``confusion``,
          ``ECE``, ``reliability`` as in :func:`~s3prl_emotion.metrics.categorical.categorical_metrics`;
          ``hypotheses`` as in :func:`hypothesis_pairs`
        - ``n_best``, and with speakers and genders ``per_speaker``, ``speakers``, ``paUAR``, ``UAR_against_share``,
          ``per_gender`` as in :func:`~s3prl_emotion.metrics.groups.group_metrics`
        - over all utterances with ``graders`` and K classes: ``agreement`` and ``threshold_F1`` as in
          :mod:`~s3prl_emotion.metrics.distribution`
        - with ``dimensional``: its keys, except that its ``utterances`` becomes ``dimension_utterances``, also in each
          entry of ``per_speaker`` and ``per_gender``

    Raises:
        LabelError: the input is not valid, see the functions named above
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
    """Join the metrics of classes with those of dimensions, group by group.

    Args:
        metrics: from :func:`split_metrics`
        dimensional: from :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics`, of the same utterances

    Returns:
        both; ``utterances`` counts those with a class, ``dimension_utterances`` those with dimensions

    Raises:
        LabelError: the dimensions have a speaker or gender that the classes lack
    """
    result = dict(metrics) | _renamed({key: value for key, value in dimensional.items() if key not in GROUPS})
    for key in GROUPS:
        of_classes, of_dimensions = metrics.get(key, {}), dimensional.get(key, {})
        others = [name for name in of_dimensions if name not in of_classes]
        if others:
            raise LabelError(f"dimensional metrics: {key} has {others[0]!r}, the classes have not; give the same split")
        if of_classes:
            result[key] = {
                name: dict(entry) | _renamed(of_dimensions.get(name, {})) for name, entry in of_classes.items()
            }
    return result


def metrics_without_classes(
    dimensional: Mapping[str, Any], evaluated: Sequence[str], utterances: int
) -> dict[str, Any]:
    """Return the metrics of a split whose classes are unknown, under the keys of :func:`split_metrics`.

    Args:
        dimensional: from :func:`~s3prl_emotion.metrics.dimensional.dimensional_metrics`
        evaluated: names of the classes that would be evaluated
        utterances: number of utterances of the split

    Returns:
        ``evaluated_classes``, ``counts``, and the keys of ``dimensional``
    """
    counts = {"utterances": utterances, "evaluated": 0, "no_consensus": utterances, "other_class": 0, "no_mass": 0}
    groups: dict[str, Any] = {key: {name: {} for name in dimensional.get(key, {})} for key in GROUPS}
    return join_dimensions({"evaluated_classes": list(evaluated), "counts": counts} | groups, dimensional)


def _with_shares(
    graders: NDArray[np.floating[Any]], rows: Floats
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the shares and probabilities of the utterances with known shares; the metrics check the shapes."""
    known = ~np.isnan(graders).all(axis=-1)
    if graders.shape != rows.shape or known.all() or not known.any():
        return graders, rows
    return graders[known], rows[known]


def _whole(part: Restricted, utterances: int) -> tuple[Indices, Floats]:
    """Return truth ``[N]`` and probabilities ``[N, E]`` of all utterances; those left out are not scored."""
    truth = np.full(utterances, NO_CLASS)
    rows = np.full((utterances, len(part.classes)), 1 / len(part.classes))
    truth[part.kept], rows[part.kept] = part.truth, part.probabilities
    return truth, rows


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"dimension_utterances" if key == "utterances" else key: value for key, value in values.items()}
