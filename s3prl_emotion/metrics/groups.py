"""Metrics of classes by speaker and by gender, and how many speakers a head serves well; Mitra et al. 2025, section 4.

Every score comes from counts of (true, predicted) classes in a group, so that one pass gives those of 2,000 speakers.
UAR and macro-F1 are means over the classes that occur in the group's truth. A speaker with one class therefore has that
class's recall for UAR, and one with one utterance 0 or 1: paUAR counts such speakers like any other, unless
``min_utterances`` leaves them out; how many have one class is told beside it.

n-best: where the true class is among the ``n`` most probable ones, it counts as the prediction, else the most probable
class does. WA, UAR and macro-F1 of n-best are those of these predictions: one utterance is never right for two classes,
and n = 1 is the usual metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.checks import (
    NO_CLASS,
    Floats,
    Places,
    check_classes,
    check_groups,
    checked_rows,
    checked_truth,
)
from s3prl_emotion.metrics.class_scores import METRICS as CLASS_METRICS
from s3prl_emotion.metrics.class_scores import class_counts
from s3prl_emotion.metrics.distribution import rank_correlation
from s3prl_emotion.metrics.metric import Metric

N_BEST = (1, 2, 3)
PA_UAR_THRESHOLDS = (50, 75)  # percent
ALL = "all"  # row of the gender table


N_BEST_KEYS = {metric.name: "accuracy" if metric.name == "WA" else metric.name for metric in CLASS_METRICS}  # in JSON


@dataclass(frozen=True)
class GroupScores:
    """Scores of G groups.

    Attributes:
        counts: utterances of each true class, ``[G, K]``
        utterances: ``[G]``
        values: of each metric of classes, by name, ``[G]``; NaN for a group without utterances
    """

    counts: Places
    utterances: Places
    values: dict[str, Floats]


def group_metrics(
    truth: Sequence[int] | Places,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    genders: Sequence[str | None] | None = None,
    min_utterances: int = 1,
) -> dict[str, Any]:
    """Metrics by speaker and by gender, and paUAR; Mitra et al. 2025, Tables 3 and 6, Fig. 4.

    Args:
        truth: class index of each utterance, ``[N]``; negative where it is not scored
        probabilities: of each class, ``[N, K]``, rows sum to 1
        classes: names, ``[K]``
        speakers: of each utterance, where known
        genders: of each utterance, where known
        min_utterances: speakers with fewer scored utterances are left out of paUAR and of the correlations

    Returns:
        ready for JSON. Always: ``n_best`` by n (those of 1, 2, 3 below K, and 1): ``accuracy``, ``UAR``, ``macro_f1``.

        With speakers: ``per_speaker`` by name, every speaker of the split: ``utterances`` (scored), ``WA``, ``UAR``,
        ``macro_f1``, ``n_best`` as above, ``class_counts`` by class; scores are ``None`` without scored utterances.
        ``speakers``: ``all``, ``counted`` in paUAR, ``left_out``, ``one_class`` (of the counted), ``min_utterances``.
        ``paUAR``: share in [0, 1] of the counted speakers whose UAR is above 50 and 75 %, ``None`` where none counts;
        also of n-best, in ``n_best``. ``UAR_against_share``: Spearman's correlation over the counted speakers of UAR
        with the share of each class in their utterances, ``None`` where one does not vary.

        With genders: ``per_gender`` by name, the same as ``per_speaker``; with speakers too ``speakers``, ``paUAR`` and
        ``paUAR`` in ``n_best``, over the speakers of that gender. A speaker with utterances under several genders is
        one speaker in each, with the utterances there; ``several_genders`` counts them.

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
        raise LabelError(f"no utterance has one of the classes {', '.join(map(str, classes))}; name others")
    split = _Split.of(true, rows, classes, min_utterances)
    result: dict[str, Any] = {"n_best": split.entries([ALL], np.zeros(len(true), dtype=np.int64))[ALL]["n_best"]}
    speaker, gender = (group_places([None] * len(true) if names is None else names) for names in (speakers, genders))
    if speaker[0]:
        result["per_speaker"] = split.entries(*speaker)
        _add_pa_uar(result, split, speaker, np.ones(len(true), dtype=bool))
        result["UAR_against_share"] = correlations_with_shares(result["per_speaker"], classes, min_utterances)
    if gender[0]:
        result["per_gender"] = split.entries(*gender)
    if speaker[0] and gender[0]:
        for place, entry in enumerate(result["per_gender"].values()):
            _add_pa_uar(entry, split, speaker, gender[1] == place)
        pairs = {pair for pair in zip(speaker[1].tolist(), gender[1].tolist(), strict=True) if min(pair) >= 0}
        result["speakers"]["several_genders"] = sum(n > 1 for n in Counter(place for place, _ in pairs).values())
    return result


def n_best_predictions(truth: Places, probabilities: NDArray[np.floating[Any]], n: int) -> Places:
    """The true class where it is among the ``n`` most probable, else the most probable; ties go to the first class.

    Args:
        truth: class indices, ``[N]``; negative ones are never among them
        probabilities: ``[N, K]``
        n: from 1

    Returns:
        class indices, ``[N]``
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    return np.where((ranked == truth[:, None]).any(axis=1), truth, ranked[:, 0])


def score_groups(truth: Places, predicted: Places, place: Places, groups: int, classes: int) -> GroupScores:
    """Compute the metrics of classes of each group.

    Args:
        truth: class indices, ``[N]``
        predicted: class indices, ``[N]``
        place: group of each utterance, ``[N]``; utterances with a negative group or truth belong to none
        groups: G
        classes: K
    """
    inside = (place >= 0) & (truth >= 0)
    if inside.any():
        sums = class_counts(truth[inside], predicted[inside], place[inside], groups, classes)
    else:
        sums = np.zeros((groups, 3 * classes))
    true = sums[:, classes : 2 * classes].astype(np.int64)
    values = {metric.name: metric.from_sums(sums) for metric in CLASS_METRICS if metric.from_sums}
    return GroupScores(true, true.sum(axis=1), values)


def group_places(names: Sequence[str | None]) -> tuple[list[str], Places]:
    """Names in order, ``[G]``, and each utterance's place among them, ``[N]``, negative where its name is unknown."""
    known = sorted({name for name in names if name})
    index = {name: number for number, name in enumerate(known)}
    return known, np.array([index[name] if name else NO_CLASS for name in names], dtype=np.int64)


def pa_uar(uars: Iterable[float], thresholds: Sequence[int] = PA_UAR_THRESHOLDS) -> dict[str, float | None]:
    """paUAR-X, the share of speakers whose UAR is above X %; Mitra et al. 2025, section 4.

    A UAR that is above by less than 1e-6 % is at the threshold, not above it.

    Args:
        uars: of the speakers, in [0, 1]
        thresholds: X, in percent

    Returns:
        share in [0, 1] (the paper's percentage / 100) by threshold; ``None`` without speakers
    """
    rounded = [round(100 * uar, 6) for uar in uars]
    return {str(limit): float(np.mean([uar > limit for uar in rounded])) if rounded else None for limit in thresholds}


def correlations_with_shares(
    per_speaker: Mapping[str, Mapping[str, Any]], classes: Sequence[str], min_utterances: int = 1
) -> dict[str, float | None]:
    """Spearman's correlation, over speakers, of UAR with the share of each class; Mitra et al. 2025, Fig. 4."""
    uars, shares = speaker_points(per_speaker, classes, min_utterances)
    return {name: rank_correlation(uars, shares[:, column]) for column, name in enumerate(classes)}


def speaker_points(
    per_speaker: Mapping[str, Mapping[str, Any]], classes: Sequence[str], min_utterances: int = 1
) -> tuple[Floats, Floats]:
    """Speakers with enough utterances: UAR ``[S]``, and the share of each class in their utterances ``[S, K]``."""
    chosen = [entry for entry in per_speaker.values() if entry["utterances"] >= max(1, min_utterances)]
    counts = np.array([[entry["class_counts"][name] for name in classes] for entry in chosen], dtype=float)
    counts = counts.reshape(len(chosen), len(classes))
    return np.array([entry["UAR"] for entry in chosen], dtype=float), counts / counts.sum(axis=1, keepdims=True)


def gender_table(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of Mitra et al. 2025, Table 6, paUAR by gender; those of ``all`` are the rows of its Table 3.

    Args:
        metrics: of :func:`group_metrics`, with speakers

    Returns:
        a row for ``all`` and for each gender, and for each n: ``gender``, ``n_best``, ``speakers`` (counted),
        ``left_out``, ``UAR`` over their pooled utterances, and ``paUAR-75``, ``paUAR-50``, shares in [0, 1]

    Raises:
        LabelError: metrics without speakers
    """
    if "speakers" not in metrics:
        raise LabelError("the gender table is about speakers, which this split does not name; give SpkrID")
    parts = [(ALL, metrics), *metrics.get("per_gender", {}).items()]
    return [
        {
            "gender": name,
            "n_best": int(n),
            "speakers": part["speakers"]["counted"],
            "left_out": part["speakers"]["left_out"],
            "UAR": scores["UAR"],
            **{f"paUAR-{limit}": scores["paUAR"][str(limit)] for limit in sorted(PA_UAR_THRESHOLDS, reverse=True)},
        }
        for name, part in parts
        for n, scores in part["n_best"].items()
    ]


@dataclass(frozen=True)
class _Split:
    """Truth and, by n, the n-best predictions ``[N]``."""

    truth: Places
    predicted: dict[int, Places]
    classes: Sequence[str]
    min_utterances: int

    @classmethod
    def of(cls, truth: Places, rows: Floats, classes: Sequence[str], min_utterances: int) -> _Split:
        steps = [n for n in N_BEST if n == 1 or n < len(classes)]
        return cls(truth, {n: n_best_predictions(truth, rows, n) for n in steps}, classes, min_utterances)

    def scores(self, groups: int, place: Places) -> dict[int, GroupScores]:
        """By n."""
        return {
            n: score_groups(self.truth, predicted, place, groups, len(self.classes))
            for n, predicted in self.predicted.items()
        }

    def entries(self, names: Sequence[str], place: Places) -> dict[str, dict[str, Any]]:
        """What JSON holds of each group."""
        scores, result = self.scores(len(names), place), {}
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


def _add_pa_uar(entry: dict[str, Any], split: _Split, speaker: tuple[list[str], Places], chosen: NDArray[Any]) -> None:
    """Add ``speakers`` and ``paUAR`` over the speakers of the ``chosen`` utterances ``[N]`` to an entry."""
    names, everyone = speaker
    place = np.where(chosen, everyone, NO_CLASS)
    scores = split.scores(len(names), place)
    total = len(np.unique(place[place >= 0]))
    counted = scores[1].utterances >= split.min_utterances
    entry["speakers"] = {
        "all": total,
        "counted": int(counted.sum()),
        "left_out": total - int(counted.sum()),
        "one_class": int(((scores[1].counts[counted] > 0).sum(axis=1) == 1).sum()),
        "min_utterances": split.min_utterances,
    }
    for n, part in scores.items():
        entry["n_best"][str(n)]["paUAR"] = pa_uar(part.values["UAR"][counted].tolist())
    entry["paUAR"] = dict(entry["n_best"]["1"]["paUAR"])


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


METRICS = tuple(Metric(f"paUAR-{limit}", "speakers", f"paUAR-{limit}", percent=True) for limit in PA_UAR_THRESHOLDS)
