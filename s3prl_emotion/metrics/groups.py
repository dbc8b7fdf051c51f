"""Metrics of classes by speaker and by gender, and paUAR, the share of speakers that a head serves well.

Mitra et al. 2025, section 4. Every score is computed from counts of the true and predicted classes of a group, so that
one pass gives those of 2,000 speakers. UAR and macro-F1 are means over the classes that occur in the group's truth. So
the UAR of a speaker with one class is the recall of that class, and with one utterance it is 0 or 1. paUAR counts such
speakers like any other, unless ``min_utterances`` leaves them out; their number is reported beside it.

n-best: the true class counts as predicted if it is among the ``n`` most probable ones, otherwise the most probable
class does. The scores of n-best are those of these predictions, so that no utterance is right for two classes, and
n = 1 is the usual metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.corpora.corpus import known_speaker
from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics import class_scores
from s3prl_emotion.metrics.checks import (
    NO_CLASS,
    Floats,
    Indices,
    check_classes,
    check_groups,
    checked_rows,
    checked_truth,
)
from s3prl_emotion.metrics.class_scores import class_counts
from s3prl_emotion.metrics.distribution import rank_correlation
from s3prl_emotion.metrics.metric import Metric

N_BEST = (1, 2, 3)
CLASS_METRICS = {metric.name: metric.from_sums for metric in class_scores.METRICS if metric.from_sums is not None}
N_BEST_KEYS = {name: "accuracy" if name == "WA" else name for name in CLASS_METRICS}
"""Names of the metrics under ``n_best`` of a metrics file, by their own."""
PA_UAR_THRESHOLDS = (50, 75)  # percent


@dataclass(frozen=True)
class GroupScores:
    """Scores of G groups.

    Attributes:
        counts: utterances of each true class, ``[G, K]``
        utterances: ``[G]``
        values: of each metric of classes, by name, ``[G]``; NaN for a group without utterances
    """

    counts: Indices
    utterances: Indices
    values: dict[str, Floats]


def group_metrics(
    truth: Sequence[int] | Indices,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    min_utterances: int = 1,
) -> dict[str, Any]:
    """Compute the metrics by speaker and by gender, and paUAR; Mitra et al. 2025, Tables 3 and 6, Fig. 4.

    Args:
        truth: class index of each utterance, ``[N]``; negative for utterances that are not scored
        probabilities: probability of each class, ``[N, K]``, rows sum to 1
        classes: names, ``[K]``
        speakers: speaker of each utterance, ``[N]``, ``None`` or ``Unknown`` where nobody knows
        genders: gender of each utterance, ``[N]``, ``None`` where unknown
        min_utterances: speakers with fewer scored utterances are left out of paUAR and of the correlations

    Returns:
        ready for JSON. Always: ``n_best`` by n (1, 2 and 3, as far as they are below K): ``accuracy``, ``UAR``,
        ``macro_f1``.

        With speakers: ``per_speaker`` by name, for every speaker of the split: ``utterances`` (scored), ``WA``,
        ``UAR``, ``macro_f1``, ``n_best`` as above, and ``class_counts`` by class; the scores of a speaker without
        scored utterances are ``None``. ``speakers``: the numbers ``all``, ``counted`` in paUAR, ``left_out``,
        ``one_class`` (of the counted), ``min_utterances``, and, where there are any, ``unknown_utterances``: the scored
        utterances of unknown speakers, which count nowhere here. ``paUAR``: the share in [0, 1] of the counted speakers
        whose UAR is above 50 and 75 %, ``None`` if none counts; also in each ``n_best``. ``UAR_against_share``:
        Spearman's correlation over the counted speakers of UAR with the share of each class in their utterances,
        ``None`` where one of the two does not vary.

        With genders: ``per_gender`` by name, the same as ``per_speaker``; with speakers also ``speakers``, ``paUAR``,
        and ``paUAR`` in ``n_best``, over the speakers of that gender. A speaker with utterances under several genders
        is one speaker in each, with the utterances there; ``several_genders`` is the number of such speakers.

    Raises:
        LabelError: shapes or indices that do not fit, a class named twice, rows that are no distributions,
            ``min_utterances`` below 1, or no scored utterance
    """
    check_classes(classes)
    rows = checked_rows(probabilities, "probabilities", len(classes))
    true = checked_truth(truth, rows.shape, none=True)
    check_groups(len(rows), speakers=speakers, genders=genders)
    if min_utterances < 1:
        raise LabelError(f"min_utterances: {min_utterances}; give 1 or more")
    if not (true >= 0).any():
        raise LabelError(f"no utterance has one of the classes {', '.join(map(str, classes))}; choose other classes")
    split = _Split.of(true, rows, classes, min_utterances)
    result: dict[str, Any] = {"n_best": split.entries(["all"], np.zeros(len(true), dtype=np.int64))["all"]["n_best"]}
    known = None if speakers is None else [known_speaker(name) for name in speakers]
    speaker, gender = (group_indices([None] * len(true) if names is None else names) for names in (known, genders))
    if speaker[0]:
        result["per_speaker"] = split.entries(*speaker)
        _add_pa_uar(result, split, speaker, np.ones(len(true), dtype=bool))
        result["UAR_against_share"] = correlations_with_shares(result["per_speaker"], classes, min_utterances)
    if gender[0]:
        result["per_gender"] = split.entries(*gender)
    if speaker[0] and gender[0]:
        for index, entry in enumerate(result["per_gender"].values()):
            _add_pa_uar(entry, split, speaker, gender[1] == index)
        pairs = {pair for pair in zip(speaker[1].tolist(), gender[1].tolist(), strict=True) if min(pair) >= 0}
        result["speakers"]["several_genders"] = sum(n > 1 for n in Counter(index for index, _ in pairs).values())
    return result


def n_best_predictions(truth: Indices, probabilities: NDArray[np.floating[Any]], n: int) -> Indices:
    """Return the true class if it is among the ``n`` most probable, otherwise the most probable class.

    Args:
        truth: class indices, ``[N]``; negative ones are never among the most probable
        probabilities: ``[N, K]``; ties go to the first class
        n: at least 1

    Returns:
        class indices, ``[N]``
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    return np.where((ranked == truth[:, None]).any(axis=1), truth, ranked[:, 0])


def score_groups(truth: Indices, predicted: Indices, group: Indices, groups: int, classes: int) -> GroupScores:
    """Compute the metrics of classes of each group.

    Args:
        truth: class indices, ``[N]``
        predicted: class indices, ``[N]``
        group: group of each utterance, ``[N]``; utterances with a negative group or truth are left out
        groups: G
        classes: K
    """
    inside = (group >= 0) & (truth >= 0)
    if inside.any():
        sums = class_counts(truth[inside], predicted[inside], group[inside], groups, classes)
    else:
        sums = np.zeros((groups, 3 * classes))
    true = sums[:, classes : 2 * classes].astype(np.int64)
    values = {name: metric(sums) for name, metric in CLASS_METRICS.items()}
    return GroupScores(true, true.sum(axis=1), values)


def group_indices(names: Sequence[str | None]) -> tuple[list[str], Indices]:
    """Return the sorted names ``[G]``, and each utterance's index into them ``[N]``, negative where it is unknown."""
    known = sorted({name for name in names if name})
    index = {name: number for number, name in enumerate(known)}
    return known, np.array([index[name] if name else NO_CLASS for name in names], dtype=np.int64)


def pa_uar(uars: Iterable[float], thresholds: Sequence[int] = PA_UAR_THRESHOLDS) -> dict[str, float | None]:
    """Return paUAR-X, the share of speakers whose UAR is above X %; Mitra et al. 2025, section 4.

    Args:
        uars: UAR of each speaker, in [0, 1]; one that exceeds a threshold by less than 1e-6 % is not above it
        thresholds: X, in percent

    Returns:
        share in [0, 1] (the paper's percentage / 100) by threshold; ``None`` without speakers

    Example:
        >>> pa_uar([0.4, 0.6, 0.75, 0.9])
        {'50': 0.75, '75': 0.25}
    """
    rounded = [round(100 * uar, 6) for uar in uars]
    return {str(limit): float(np.mean([uar > limit for uar in rounded])) if rounded else None for limit in thresholds}


def correlations_with_shares(
    per_speaker: Mapping[str, Mapping[str, Any]], classes: Sequence[str], min_utterances: int = 1
) -> dict[str, float | None]:
    """Correlate UAR with the share of each class over speakers (Spearman); Mitra et al. 2025, Fig. 4."""
    uars, shares = speaker_points(per_speaker, classes, min_utterances)
    return {name: rank_correlation(uars, shares[:, column]) for column, name in enumerate(classes)}


def speaker_points(
    per_speaker: Mapping[str, Mapping[str, Any]], classes: Sequence[str], min_utterances: int = 1
) -> tuple[Floats, Floats]:
    """Return UAR ``[S]`` and the share of each class ``[S, K]`` of the speakers with at least ``min_utterances``."""
    chosen = [entry for entry in per_speaker.values() if entry["utterances"] >= max(1, min_utterances)]
    counts = np.array([[entry["class_counts"][name] for name in classes] for entry in chosen], dtype=float)
    counts = counts.reshape(len(chosen), len(classes))
    return np.array([entry["UAR"] for entry in chosen], dtype=float), counts / counts.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Split:
    """Truth ``[N]`` and, by n, the n-best predictions ``[N]``."""

    truth: Indices
    predicted: dict[int, Indices]
    classes: Sequence[str]
    min_utterances: int

    @classmethod
    def of(cls, truth: Indices, rows: Floats, classes: Sequence[str], min_utterances: int) -> _Split:
        steps = [n for n in N_BEST if n == 1 or n < len(classes)]
        return cls(truth, {n: n_best_predictions(truth, rows, n) for n in steps}, classes, min_utterances)

    def scores(self, groups: int, group: Indices) -> dict[int, GroupScores]:
        """Return the scores of the groups, by n."""
        return {
            n: score_groups(self.truth, predicted, group, groups, len(self.classes))
            for n, predicted in self.predicted.items()
        }

    def entries(self, names: Sequence[str], group: Indices) -> dict[str, dict[str, Any]]:
        """Return the entry of each group in the metrics file."""
        scores, result = self.scores(len(names), group), {}
        for index, name in enumerate(names):
            by_n = {
                str(n): {N_BEST_KEYS[metric]: _plain(values[index]) for metric, values in part.values.items()}
                for n, part in scores.items()
            }
            result[name] = {
                "utterances": int(scores[1].utterances[index]),
                **{metric: by_n["1"][key] for metric, key in N_BEST_KEYS.items()},
                "n_best": by_n,
                "class_counts": dict(zip(self.classes, scores[1].counts[index].tolist(), strict=True)),
            }
        return result


def _add_pa_uar(entry: dict[str, Any], split: _Split, speaker: tuple[list[str], Indices], chosen: NDArray[Any]) -> None:
    """Add ``speakers`` and ``paUAR`` over the speakers of the ``chosen`` utterances ``[N]`` to an entry."""
    names, everyone = speaker
    speakers = np.where(chosen, everyone, NO_CLASS)
    scores = split.scores(len(names), speakers)
    total = len(np.unique(speakers[speakers >= 0]))
    counted = scores[1].utterances >= split.min_utterances
    entry["speakers"] = {
        "all": total,
        "counted": int(counted.sum()),
        "left_out": total - int(counted.sum()),
        "one_class": int(((scores[1].counts[counted] > 0).sum(axis=1) == 1).sum()),
        "min_utterances": split.min_utterances,
    }
    unknown = int((chosen & (everyone < 0) & (split.truth >= 0)).sum())
    if unknown:
        entry["speakers"]["unknown_utterances"] = unknown
    for n, part in scores.items():
        entry["n_best"][str(n)]["paUAR"] = pa_uar(part.values["UAR"][counted].tolist())
    entry["paUAR"] = dict(entry["n_best"]["1"]["paUAR"])


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


METRICS = tuple(Metric(f"paUAR-{limit}", "speakers", f"paUAR-{limit}", percent=True) for limit in PA_UAR_THRESHOLDS)
