"""Test the metrics of classes and the class weights against sums written out by hand and against scikit-learn."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from s3prl_emotion.errors import EmotionError, LabelError
from s3prl_emotion.loading.class_balance import class_weights, sampling_weights
from s3prl_emotion.metrics.calibration import expected_calibration_error, reliability_table
from s3prl_emotion.metrics.categorical import categorical_metrics, n_best
from s3prl_emotion.metrics.class_scores import unweighted_average_recall

CLASSES = ("ang", "hap", "neu", "sad")


def certain(predicted: list[int], classes: int = 4) -> NDArray[np.float64]:
    """Return probabilities of 1 at the predictions."""
    return np.eye(classes)[predicted]


def random_split(seed: int, utterances: int = 60, classes: int = 4) -> tuple[list[int], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(classes, size=utterances).tolist()
    return truth, generator.dirichlet(np.ones(classes), size=utterances)


# --- whole splits ---------------------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    truth = [0, 0, 0, 1, 1, 2, 3, 3]
    guess = [0, 0, 1, 1, 3, 2, 3, 0]
    metrics = categorical_metrics(truth, certain(guess), CLASSES)
    assert metrics["utterances"] == 8
    assert metrics["WA"] == 5 / 8
    assert metrics["recall"] == {"ang": 2 / 3, "hap": 1 / 2, "neu": 1.0, "sad": 1 / 2}
    assert metrics["UAR"] == pytest.approx((2 / 3 + 1 / 2 + 1 + 1 / 2) / 4, rel=1e-12)
    assert metrics["macro_f1"] == pytest.approx(
        (2 / 3 + 1 / 2 + 1 + 1 / 2) / 4, rel=1e-12
    )  # F = 2 TP / (2 TP + FP + FN)
    assert metrics["confusion"] == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1]]
    assert metrics["ECE"] == 3 / 8
    assert "per_speaker" not in metrics
    assert "per_gender" not in metrics
    assert "paUAR" not in metrics


@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_scikit_learn(seed: int, classes: int) -> None:
    """A few utterances of many classes, so that classes are missing from truth, predictions or both."""
    truth, probabilities = random_split(seed, utterances=6 if seed else 60, classes=classes)
    names = [f"class{k}" for k in range(classes)]
    guess, present = probabilities.argmax(axis=1), sorted(set(truth))
    metrics = categorical_metrics(truth, probabilities, names)

    options: dict[str, Any] = {"labels": present, "average": "macro", "zero_division": 0}
    assert metrics["WA"] == pytest.approx(accuracy_score(truth, guess), abs=1e-12)
    assert metrics["UAR"] == pytest.approx(recall_score(truth, guess, **options), abs=1e-12)
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, guess, **options), abs=1e-12)
    assert metrics["confusion"] == confusion_matrix(truth, guess, labels=range(classes)).tolist()
    recalls = recall_score(truth, guess, labels=range(classes), average=None, zero_division=0)
    for index, name in enumerate(names):
        expected = pytest.approx(recalls[index], abs=1e-12) if index in present else None
        assert metrics["recall"][name] == expected


def test_predictions_of_a_class_absent_from_the_truth_are_errors() -> None:
    truth, guess = [0, 0, 1, 1], [0, 2, 1, 3]
    metrics = categorical_metrics(truth, certain(guess), CLASSES)
    assert metrics["UAR"] == metrics["WA"] == 0.5
    assert metrics["recall"] == {"ang": 0.5, "hap": 0.5, "neu": None, "sad": None}
    assert metrics["macro_f1"] == pytest.approx(2 / 3, rel=1e-12)
    assert metrics["confusion"] == [[1, 0, 1, 0], [0, 1, 0, 1], [0] * 4, [0] * 4]
    assert unweighted_average_recall(truth, guess) == 0.5


def test_absent_class_is_no_recall_of_0() -> None:
    metrics = categorical_metrics([0, 0, 3], certain([0, 0, 3]), CLASSES)
    assert metrics["UAR"] == metrics["macro_f1"] == 1.0
    assert metrics["recall"] == {"ang": 1.0, "hap": None, "neu": None, "sad": 1.0}


def test_class_that_is_never_predicted_is_a_recall_of_0() -> None:
    metrics = categorical_metrics([0, 1, 1, 1], certain([0, 0, 0, 0]), CLASSES)
    assert metrics["UAR"] == 0.5
    assert metrics["WA"] == 0.25
    assert metrics["recall"]["hap"] == 0.0
    assert metrics["macro_f1"] == pytest.approx(0.5 * 2 * 1 / (2 * 1 + 3), rel=1e-12)


@pytest.mark.parametrize(("guess", "score"), [(2, 1.0), (0, 0.0)])
def test_one_utterance(guess: int, score: float) -> None:
    metrics = categorical_metrics([2], certain([guess]), CLASSES, ["s1"], ["Female"])
    assert metrics["utterances"] == 1
    assert metrics["WA"] == metrics["UAR"] == metrics["macro_f1"] == score
    assert metrics["recall"] == {"ang": None, "hap": None, "neu": score, "sad": None}
    assert metrics["n_best"]["1"] == {"accuracy": score, "UAR": score}
    assert metrics["ECE"] == 1 - score
    assert metrics["per_speaker"] == {"s1": {"utterances": 1, "WA": score, "UAR": score}}
    assert metrics["paUAR"] == {"50": score, "75": score}


def test_ties_go_to_the_first_class_everywhere() -> None:
    probabilities = np.full((4, 4), 0.25)
    metrics = categorical_metrics([0, 1, 2, 3], probabilities, CLASSES)
    assert metrics["confusion"] == [[1, 0, 0, 0]] * 4
    assert [metrics["n_best"][n]["accuracy"] for n in "123"] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_is_plain_json(dtype: type[np.floating[Any]]) -> None:
    truth, probabilities = random_split(0)
    metrics = categorical_metrics(truth, probabilities.astype(dtype), CLASSES, ["a", "b"] * 30, ["Male", None] * 30)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


# --- n-best ---------------------------------------------------------------------------------------------------------


def test_n_best_by_hand() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.1, 0.2], [0.2, 0.1, 0.4, 0.3]])
    truth = [0, 0, 0, 3]  # ranks 1, 4, 2, 2
    assert n_best(truth, probabilities, 1) == {"accuracy": 1 / 4, "UAR": pytest.approx((1 / 3 + 0) / 2)}
    assert n_best(truth, probabilities, 2) == {"accuracy": 3 / 4, "UAR": pytest.approx((2 / 3 + 1) / 2)}
    assert n_best(truth, probabilities, 3) == {"accuracy": 3 / 4, "UAR": pytest.approx((2 / 3 + 1) / 2)}
    assert n_best(truth, probabilities, 4) == {"accuracy": 1.0, "UAR": 1.0}


@pytest.mark.parametrize(
    ("classes", "expected"), [(2, ["1"]), (3, ["1", "2"]), (4, ["1", "2", "3"]), (8, ["1", "2", "3"])]
)
def test_n_best_stops_short_of_all_classes(classes: int, expected: list[str]) -> None:
    truth, probabilities = random_split(1, classes=classes)
    assert list(categorical_metrics(truth, probabilities, range(classes))["n_best"]) == expected


@pytest.mark.parametrize("seed", range(3))
def test_1_best_is_plain_accuracy_and_uar(seed: int) -> None:
    truth, probabilities = random_split(seed, utterances=7)
    metrics = categorical_metrics(truth, probabilities, CLASSES)
    assert metrics["n_best"]["1"] == {"accuracy": pytest.approx(metrics["WA"]), "UAR": pytest.approx(metrics["UAR"])}
    assert metrics["n_best"]["1"]["UAR"] <= metrics["n_best"]["2"]["UAR"] <= metrics["n_best"]["3"]["UAR"]


# --- calibration ----------------------------------------------------------------------------------------------------


def calibrated_split(seed: int, utterances: int = 200) -> tuple[list[int], NDArray[np.float64]]:
    """Draw the truth from the probabilities: accuracy is above confidence in some bins and below it in others."""
    _, probabilities = random_split(seed, utterances)
    generator = np.random.default_rng(seed)
    return [int(generator.choice(4, p=row)) for row in probabilities], probabilities


def plain_ece(truth: list[int], probabilities: NDArray[np.float64], bins: int) -> float:
    """Compute Guo et al. 2017, eq. 3: Σ |B_m| / n |acc(B_m) - conf(B_m)| over bins ((m - 1) / M, m / M]."""
    members: dict[int, list[tuple[bool, float]]] = {}
    for label, row in zip(truth, probabilities.tolist(), strict=True):
        confidence = max(row)
        number = next(m for m in range(bins) if confidence <= (m + 1) / bins or m == bins - 1)
        members.setdefault(number, []).append((row.index(confidence) == label, confidence))
    total = 0.0
    for items in members.values():
        accuracy = sum(hit for hit, _ in items) / len(items)
        confidence = sum(value for _, value in items) / len(items)
        total += len(items) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_ece_is_the_plain_loop(seed: int, bins: int) -> None:
    truth, probabilities = calibrated_split(seed)
    assert expected_calibration_error(truth, probabilities, bins) == pytest.approx(
        plain_ece(truth, probabilities, bins)
    )


def test_ece_has_15_bins_in_the_metrics() -> None:
    truth, probabilities = calibrated_split(5)
    ece = categorical_metrics(truth, probabilities, CLASSES)["ECE"]
    assert ece == pytest.approx(plain_ece(truth, probabilities, 15), rel=1e-12)
    assert all(ece != pytest.approx(plain_ece(truth, probabilities, bins), rel=1e-3) for bins in (10, 14, 16, 20))


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.45, 0.55]])
    # bins of a half: all four in (0.5, 1]; of a quarter: {0.6, 0.55}, {0.9, 0.9}
    assert expected_calibration_error([0, 1, 0, 0], probabilities, 2) == pytest.approx(abs(2 - 2.95) / 4)
    assert expected_calibration_error([0, 1, 0, 0], probabilities, 4) == pytest.approx(
        (abs(1 - 1.15) + abs(1 - 1.8)) / 4
    )


def test_ece_puts_edges_into_the_lower_bin() -> None:
    probabilities = np.array([[0.5, 0.5], [0.4, 0.6]])  # the first is wrong, the second right
    # bins of a quarter: 0.5 is in (0.25, 0.5], 0.6 in (0.5, 0.75]; together in one bin, errors would cancel
    assert expected_calibration_error([1, 1], probabilities, 4) == pytest.approx((0.5 + 0.4) / 2)


def test_reliability_table_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.45, 0.55]])
    table = reliability_table([0, 1, 0, 0], probabilities, 4)
    assert [(row["from"], row["to"], row["utterances"]) for row in table] == [
        (0.0, 0.25, 0),
        (0.25, 0.5, 0),
        (0.5, 0.75, 2),
        (0.75, 1.0, 2),
    ]
    assert [row["confidence"] for row in table] == [None, None, pytest.approx(1.15 / 2), pytest.approx(0.9)]
    assert [row["accuracy"] for row in table] == [None, None, 0.5, 0.5]
    assert json.loads(json.dumps(table, allow_nan=False)) == table


@pytest.mark.parametrize("bins", [1, 7, 15])
@pytest.mark.parametrize("seed", range(3))
def test_reliability_table_holds_every_utterance_once(seed: int, bins: int) -> None:
    truth, probabilities = calibrated_split(seed)
    table = reliability_table(truth, probabilities, bins)
    assert len(table) == bins
    assert sum(row["utterances"] for row in table) == 200
    filled = [row for row in table if row["utterances"]]
    assert all(row["from"] < row["confidence"] <= row["to"] for row in filled)
    hits = sum(row["utterances"] * row["accuracy"] for row in filled)
    assert hits == pytest.approx(np.equal(probabilities.argmax(axis=1), truth).sum())
    gaps = sum(row["utterances"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    assert gaps / 200 == pytest.approx(plain_ece(truth, probabilities, bins), rel=1e-12)


def test_reliability_of_certainty_is_in_the_last_bin() -> None:
    table = reliability_table([0, 1], certain([0, 1]))
    assert len(table) == 15
    assert table[-1] == {"from": 14 / 15, "to": 1.0, "utterances": 2, "confidence": 1.0, "accuracy": 1.0}


# --- groups ---------------------------------------------------------------------------------------------------------


def test_speakers_and_genders_by_hand() -> None:
    truth = [0, 0, 1, 1, 0, 1, 2, 3]
    guess = [0, 1, 1, 1, 2, 1, 2, 0]
    speakers = ["b", "b", "b", "b", "a", "a", "a", None]
    genders = ["Male", "Male", "Male", "Male", "Female", None, "Female", "Female"]
    metrics = categorical_metrics(truth, certain(guess), CLASSES, speakers, genders)
    assert metrics["per_speaker"] == {
        "a": {"utterances": 3, "WA": pytest.approx(2 / 3), "UAR": pytest.approx((0 + 1 + 1) / 3)},  # 0 taken for 2
        "b": {"utterances": 4, "WA": 0.75, "UAR": 0.75},
    }
    assert list(metrics["per_speaker"]) == ["a", "b"]
    assert metrics["per_gender"] == {
        "Female": {"utterances": 3, "WA": pytest.approx(1 / 3), "UAR": pytest.approx(1 / 3)},
        "Male": {"utterances": 4, "WA": 0.75, "UAR": 0.75},
    }
    assert metrics["paUAR"] == {"50": 1.0, "75": 0.0}  # above, not at, the threshold


def test_speakers_errors_with_classes_they_lack_count() -> None:
    """Few speakers have all classes; predicting one that the speaker lacks is an error like any other."""
    metrics = categorical_metrics([0, 0, 1, 2], certain([0, 3, 1, 2]), CLASSES, ["a", "a", "b", "b"])
    assert metrics["per_speaker"]["a"] == {"utterances": 2, "WA": 0.5, "UAR": 0.5}
    assert metrics["paUAR"] == {"50": 0.5, "75": 0.5}


def test_pa_uar_is_the_share_of_speakers_above() -> None:
    hits = {"s1": 10, "s2": 8, "s3": 6, "s4": 5, "s5": 3}
    truth, guess, speakers = [], [], []
    for speaker, hit in hits.items():
        truth += [0] * 10
        guess += [0] * hit + [1] * (10 - hit)
        speakers += [speaker] * 10
    assert categorical_metrics(truth, certain(guess), CLASSES, speakers)["paUAR"] == {"50": 3 / 5, "75": 2 / 5}


def test_uar_at_the_threshold_is_not_above_it_by_rounding() -> None:
    """(1 + 5/6 + 5/6 + 1/3) / 4 is 3/4, but slightly more in floating point."""
    truth = [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    guess = [0] * 6 + [1] * 5 + [0] + [2] * 5 + [0] + [3] * 2 + [0] * 4
    metrics = categorical_metrics(truth, certain(guess), CLASSES, ["s1"] * 24)
    assert metrics["UAR"] == pytest.approx(0.75, abs=1e-12)
    assert metrics["paUAR"] == {"50": 1.0, "75": 0.0}


@pytest.mark.parametrize("unknown", [None, [None, None], ["", ""]])
def test_unknown_groups_are_left_out(unknown: list[str | None] | None) -> None:
    metrics = categorical_metrics([0, 1], certain([0, 1]), CLASSES, unknown, unknown)
    assert not {"per_speaker", "per_gender", "paUAR"} & set(metrics)


# --- input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "probabilities", "message"),
    [
        ([0, 1], [[0.5, np.nan, 0.25, 0.25], [0.25] * 4], "class 1 of utterance 0 is nan"),
        ([0, 1], [[0.25] * 4, [0.5, 0.75, -0.25, 0.0]], "class 2 of utterance 1 is -0.25"),
        ([0, 1], [[0.25] * 4, [0.25, 0.25, 0.25, 0.2]], "the row of utterance 1 sums to 0.95, not to 1"),
        ([0, 1], [[1 / 3] * 3] * 2, r"shape \[2, 3\], expected \[N, 4\]"),
        ([], np.zeros((0, 4)), "N >= 1"),
        ([0], [[0.25] * 4] * 2, r"shape \[1\] for 2 utterances"),
        ([0, 4], [[0.25] * 4] * 2, "true class of utterance 1 is 4; expected 0 to 3"),
        ([0, -1], [[0.25] * 4] * 2, "true class of utterance 1 is -1; expected 0 to 3"),
        ([0, 1.0], [[0.25] * 4] * 2, "float64 values; give class indices"),
    ],
)
def test_bad_input(truth: list[int], probabilities: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message) as error:
        categorical_metrics(truth, np.asarray(probabilities), CLASSES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("measure", [expected_calibration_error, reliability_table])
def test_calibration_refuses_what_is_no_distribution(measure: Any) -> None:
    for rows in ([[0.5, 0.6]], [[np.nan, 1.0]]):
        with pytest.raises(EmotionError, match="utterance 0"):
            measure([0], np.array(rows))


@pytest.mark.parametrize("names", [["a"], ["a"] * 3])
def test_speakers_must_belong_to_the_utterances(names: list[str]) -> None:
    with pytest.raises(LabelError, match=r"speakers: . for 2 utterances"):
        categorical_metrics([0, 1], certain([0, 1]), CLASSES, names)
    with pytest.raises(LabelError, match=r"genders: . for 2 utterances"):
        categorical_metrics([0, 1], certain([0, 1]), CLASSES, None, names)


# --- class balance --------------------------------------------------------------------------------------------------


def test_balanced_weights_are_inverse_counts_of_mean_1() -> None:
    weights = class_weights([0] * 6 + [1] * 3 + [2], 3, "balanced")
    mean = (1 / 6 + 1 / 3 + 1) / 3
    expected = [1 / 6 / mean, 1 / 3 / mean, 1 / mean]
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("beta", [0.999, 0.9, 0.0])
def test_effective_weights_are_inverse_effective_numbers_of_mean_1(beta: float) -> None:
    counts = [600, 30, 2]
    weights = class_weights([label for label, count in enumerate(counts) for _ in range(count)], 3, "effective", beta)
    raw = [(1 - beta) / (1 - beta**count) for count in counts]  # Cui et al. 2019, eq. 2
    assert weights.tolist() == pytest.approx([value / (sum(raw) / 3) for value in raw], rel=1e-6)


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_equal_counts_weigh_1(kind: str) -> None:
    assert class_weights([0, 1, 2, 3] * 5, 4, kind).tolist() == pytest.approx([1.0] * 4, rel=1e-6)


@pytest.mark.parametrize("kind", ["balanced", "effective"])
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_class_without_utterances_weighs_0(kind: str, absent: int) -> None:
    labels = [label for label in (0, 0, 0, 1, 1, 2) if label != absent]
    weights = class_weights(labels, 3, kind).tolist()
    assert weights[absent] == 0.0
    others = [weight for label, weight in enumerate(weights) if label != absent]
    assert min(others) > 0
    assert sum(others) / 2 == pytest.approx(1.0, rel=1e-6)
    assert others[1] > others[0]  # the rarer one


def test_sampling_weights_by_hand() -> None:
    weights = sampling_weights([0, 0, 0, 1])
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2], rel=1e-12)


def test_sampling_weights_give_every_class_that_occurs_the_same_share() -> None:
    labels = [5, 0, 0, 2, 2, 2, 2, 0, 5, 2]
    weights = sampling_weights(labels)
    shares = {k: sum(w for w, label in zip(weights.tolist(), labels, strict=True) if label == k) for k in (0, 2, 5)}
    assert all(math.isclose(share, 1 / 3, rel_tol=1e-12) for share in shares.values())
