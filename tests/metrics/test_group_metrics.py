"""Test metrics by speaker and gender, n-best and paUAR against cases worked out by hand and against scikit-learn."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, recall_score

from s3prl_emotion.errors import EmotionError, LabelError
from s3prl_emotion.metrics.categorical import categorical_metrics, n_best
from s3prl_emotion.metrics.groups import (
    correlations_with_shares,
    group_metrics,
    n_best_predictions,
    pa_uar,
    score_groups,
    speaker_points,
)

Array = NDArray[np.float64]
CLASSES = ("ang", "hap", "neu", "sad")
SCORES = ("WA", "UAR", "macro_f1")


def certain(predicted: list[int], classes: int = 4) -> Array:
    """Return probabilities of 1 at the predictions; the other classes rank in their own order."""
    return np.eye(classes)[predicted]


def random_split(
    seed: int, utterances: int = 60, classes: int = 4, speakers: int = 7
) -> tuple[NDArray[np.int64], Array, list[str | None], list[str | None]]:
    """Draw truth (some -1), probabilities (some tied), speakers and genders (some unknown)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(-1, classes, size=utterances)
    truth[0] = 0
    rows = generator.dirichlet(np.ones(classes), size=utterances)
    rows[::5] = 1 / classes
    numbers = generator.integers(-1, speakers, size=utterances)
    names = [None if number < 0 else f"s{number}" for number in numbers]
    genders = [None if number % 5 == 4 else ("Male" if number % 2 else "Female") for number in numbers]
    return truth, rows, names, genders


def plain_scores(truth: list[int], rows: Array, n: int) -> dict[str, float]:
    """Compute WA, UAR and macro-F1 of n-best with scikit-learn: a true class among the n best is the prediction."""
    predicted = []
    for label, row in zip(truth, rows.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda k: (-row[k], k))
        predicted.append(label if label in order[:n] else order[0])
    options: dict[str, Any] = {"labels": sorted(set(truth)), "average": "macro", "zero_division": 0}
    return {
        "accuracy": accuracy_score(truth, predicted),
        "UAR": recall_score(truth, predicted, **options),
        "macro_f1": f1_score(truth, predicted, **options),
    }


# --- n-best ---------------------------------------------------------------------------------------------------------


def test_n_best_by_hand() -> None:
    rows = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.1, 0.2], [0.2, 0.1, 0.4, 0.3]])
    truth = np.array([0, 0, 0, 3])  # ranks 1, 4, 2, 2; first hypotheses 0, 3, 1, 2
    assert n_best_predictions(truth, rows, 1).tolist() == [0, 3, 1, 2]
    assert n_best_predictions(truth, rows, 2).tolist() == [0, 3, 0, 3]
    assert n_best_predictions(truth, rows, 3).tolist() == [0, 3, 0, 3]
    assert n_best_predictions(truth, rows, 4).tolist() == [0, 0, 0, 3]
    scores = group_metrics(truth, rows, CLASSES)["n_best"]
    assert list(scores) == ["1", "2", "3"]
    # n = 2: F1 of ang 2 * 2 / (3 + 2), of sad 2 * 1 / (1 + 2)
    assert scores["1"] == pytest.approx({"accuracy": 1 / 4, "UAR": 1 / 6, "macro_f1": (2 / (3 + 1) + 0) / 2})
    assert scores["2"] == pytest.approx({"accuracy": 3 / 4, "UAR": 5 / 6, "macro_f1": (4 / 5 + 2 / 3) / 2})
    assert scores["3"] == scores["2"]


def test_ties_go_to_the_first_class() -> None:
    rows, truth = np.full((4, 4), 0.25), np.arange(4)
    assert n_best_predictions(truth, rows, 1).tolist() == [0, 0, 0, 0]
    assert n_best_predictions(truth, rows, 2).tolist() == [0, 1, 0, 0]
    assert n_best_predictions(truth, rows, 3).tolist() == [0, 1, 2, 0]


def test_utterances_that_are_not_scored_are_never_hits() -> None:
    rows = np.array([[0.4, 0.3, 0.2, 0.1]] * 2)
    assert n_best_predictions(np.array([-1, 3]), rows, 4).tolist() == [0, 3]


@pytest.mark.parametrize(("classes", "steps"), [(1, ["1"]), (2, ["1"]), (3, ["1", "2"]), (9, ["1", "2", "3"])])
def test_n_best_stops_short_of_all_classes(classes: int, steps: list[str]) -> None:
    metrics = group_metrics([0], np.eye(classes)[:1], [f"class{k}" for k in range(classes)], ["s"])
    assert list(metrics["n_best"]) == list(metrics["per_speaker"]["s"]["n_best"]) == steps


@pytest.mark.full
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), utterances=st.integers(1, 40), classes=st.integers(2, 6))
def test_groups_are_scikit_learns_one_by_one(seed: int, utterances: int, classes: int) -> None:
    truth, rows, speakers, genders = random_split(seed, utterances, classes)
    metrics = group_metrics(truth, rows, [f"class{k}" for k in range(classes)], speakers, genders)
    groups: list[tuple[dict[str, Any], NDArray[np.bool_]]] = [(metrics, truth >= 0)]
    for key, names in (("per_speaker", speakers), ("per_gender", genders)):
        assert list(metrics.get(key, {})) == sorted({name for name in names if name})
        groups += [
            (entry, (truth >= 0) & np.array([other == name for other in names]))
            for name, entry in metrics.get(key, {}).items()
        ]
    for entry, inside in groups:
        for n, found in entry["n_best"].items():
            scores = {key: value for key, value in found.items() if key != "paUAR"}
            if not inside.any():
                assert scores == {"accuracy": None, "UAR": None, "macro_f1": None}
                continue
            assert scores == pytest.approx(plain_scores(truth[inside].tolist(), rows[inside], int(n)), abs=1e-12)
        if entry is not metrics:
            assert entry["utterances"] == inside.sum() == sum(entry["class_counts"].values())
            assert [entry[key] for key in SCORES] == list(entry["n_best"]["1"].values())[:3]


@pytest.mark.parametrize("seed", range(3))
def test_same_numbers_as_the_metrics_of_every_head(seed: int) -> None:
    truth, rows, speakers, genders = random_split(seed)
    scored = truth >= 0
    truth, rows = truth[scored], rows[scored]
    speakers, genders = (
        [name for name, is_in in zip(names, scored, strict=True) if is_in] for names in (speakers, genders)
    )
    mine = group_metrics(truth, rows, CLASSES, speakers, genders)
    theirs = categorical_metrics(truth.tolist(), rows, CLASSES, speakers, genders)
    for key in ("per_speaker", "per_gender"):
        assert {
            name: {k: entry[k] for k in ("utterances", "WA", "UAR")} for name, entry in mine[key].items()
        } == theirs[key]
    assert mine["paUAR"] == theirs["paUAR"]
    assert mine["n_best"]["1"]["macro_f1"] == pytest.approx(theirs["macro_f1"])
    for n in (1, 2, 3):
        plain = n_best(truth.tolist(), rows, n)
        assert {key: mine["n_best"][str(n)][key] for key in plain} == pytest.approx(plain)


# --- paUAR ----------------------------------------------------------------------------------------------------------


def test_pa_uar_by_hand() -> None:
    assert pa_uar([0.9, 0.76, 0.75, 0.51, 0.5, 0.2]) == {"50": 4 / 6, "75": 2 / 6}
    assert pa_uar([0.3, 0.1 + 0.2], [30]) == {"30": 0.0}  # 0.30000000000000004
    assert pa_uar([]) == {"50": None, "75": None}


def paper_like_split() -> tuple[list[int], Array, list[str], list[str]]:
    """Return women a (2 of 2 right) and b (1 of 2, one second), men c (3 of 4, one fourth) and d (0 of 1, third)."""
    best = [0.4, 0.3, 0.2, 0.1]
    rows = [best, [0.3, 0.4, 0.2, 0.1], best, best, best, best, best, best, best]
    truth = [0, 1, 0, 1, 0, 0, 0, 3, 2]
    return truth, np.array(rows), list("aabbccccd"), ["Female"] * 4 + ["Male"] * 5


def test_speakers_and_genders_by_hand() -> None:
    metrics = group_metrics(*paper_like_split()[:2], CLASSES, *paper_like_split()[2:])
    uars = {n: [metrics["per_speaker"][s]["n_best"][n]["UAR"] for s in "abcd"] for n in "123"}
    assert uars == {"1": [1, 0.5, 0.5, 0], "2": [1, 1, 0.5, 0], "3": [1, 1, 0.5, 1]}
    assert metrics["per_speaker"]["c"]["class_counts"] == {"ang": 3, "hap": 0, "neu": 0, "sad": 1}
    assert metrics["per_speaker"]["c"]["WA"] == 0.75
    assert metrics["speakers"] == {
        "all": 4, "counted": 4, "left_out": 0, "one_class": 1, "min_utterances": 1, "several_genders": 0
    }  # fmt: skip
    assert metrics["paUAR"] == {"50": 1 / 4, "75": 1 / 4}
    rows = {
        name: [(part["n_best"][n]["paUAR"]["75"], part["n_best"][n]["paUAR"]["50"]) for n in "123"]
        for name, part in [("all", metrics), *metrics["per_gender"].items()]
    }
    assert rows == {
        "all": [(0.25, 0.25), (0.5, 0.5), (0.75, 0.75)],
        "Female": [(0.5, 0.5), (1.0, 1.0), (1.0, 1.0)],
        "Male": [(0.0, 0.0), (0.0, 0.0), (0.5, 0.5)],
    }
    assert [part["speakers"]["counted"] for part in metrics["per_gender"].values()] == [2, 2]
    # pooled over the women: ang 2 of 2, hap 1 of 2; then both
    assert [metrics["per_gender"]["Female"]["n_best"][n]["UAR"] for n in "12"] == [0.75, 1.0]


def test_min_utterances_leaves_speakers_out_of_pa_uar_alone() -> None:
    truth, rows, speakers, genders = paper_like_split()
    metrics = group_metrics(truth, rows, CLASSES, speakers, genders, min_utterances=2)
    assert list(metrics["per_speaker"]) == list("abcd")
    assert metrics["speakers"] == {
        "all": 4, "counted": 3, "left_out": 1, "one_class": 0, "min_utterances": 2, "several_genders": 0
    }  # fmt: skip
    assert metrics["paUAR"] == {"50": 1 / 3, "75": 1 / 3}
    assert metrics["n_best"]["3"]["paUAR"] == {"50": 2 / 3, "75": 2 / 3}
    male = metrics["per_gender"]["Male"]
    assert male["speakers"] == {"all": 2, "counted": 1, "left_out": 1, "one_class": 0, "min_utterances": 2}
    assert male["paUAR"] == {"50": 0.0, "75": 0.0}
    assert male["utterances"] == 5


def test_no_speaker_has_enough_utterances() -> None:
    truth, rows, speakers, genders = paper_like_split()
    metrics = group_metrics(truth, rows, CLASSES, speakers, genders, min_utterances=5)
    assert metrics["paUAR"] == metrics["n_best"]["2"]["paUAR"] == {"50": None, "75": None}
    assert metrics["per_gender"]["Female"]["paUAR"] == {"50": None, "75": None}
    assert metrics["UAR_against_share"] == dict.fromkeys(CLASSES)
    assert metrics["speakers"]["counted"] == 0
    assert all(scores["paUAR"]["50"] is None for scores in metrics["n_best"].values())
    json.dumps(metrics, allow_nan=False)


def test_speaker_without_scored_utterance() -> None:
    """A speaker whose utterances have no consensus has no score, and does not count in paUAR."""
    metrics = group_metrics([0, -1, -1], certain([0, 1, 1]), CLASSES, ["a", "b", None], ["Male", "Female", "Other"])
    none = {"accuracy": None, "UAR": None, "macro_f1": None}
    assert metrics["per_speaker"]["b"] == {
        "utterances": 0,
        **dict.fromkeys(SCORES),
        "n_best": dict.fromkeys("123", none),
        "class_counts": dict.fromkeys(CLASSES, 0),
    }
    assert metrics["speakers"]["counted"] == metrics["speakers"]["left_out"] == 1
    assert metrics["paUAR"] == {"50": 1.0, "75": 1.0}
    assert metrics["per_gender"]["Female"]["paUAR"] == {"50": None, "75": None}
    assert metrics["per_gender"]["Other"]["speakers"]["all"] == 0
    json.dumps(metrics, allow_nan=False)


def test_speaker_of_two_genders_is_one_in_each() -> None:
    """SpkrID may be the session: 1 of 1 is right among its men, 0 of 1 among its women."""
    metrics = group_metrics([0, 0, 1], certain([0, 1, 1]), CLASSES, ["x", "x", "y"], ["Male", "Female", "Female"])
    assert metrics["speakers"]["several_genders"] == 1
    assert metrics["speakers"]["all"] == 2
    assert metrics["paUAR"] == {"50": 0.5, "75": 0.5}
    assert metrics["per_gender"]["Male"]["paUAR"] == {"50": 1.0, "75": 1.0}
    assert metrics["per_gender"]["Female"]["paUAR"] == {"50": 0.5, "75": 0.5}
    assert metrics["per_gender"]["Female"]["speakers"]["all"] == 2


@pytest.mark.parametrize(("guess", "score"), [(2, 1.0), (0, 0.0)])
def test_one_utterance(guess: int, score: float) -> None:
    metrics = group_metrics([2], certain([guess]), CLASSES, ["s"], ["Male"])
    entry = metrics["per_speaker"]["s"]
    assert [entry[key] for key in SCORES] == [score] * 3
    assert entry["n_best"]["3"]["UAR"] == 1.0  # of equals the first classes come first: third where 0 is best
    assert metrics["speakers"]["one_class"] == 1
    assert metrics["paUAR"] == metrics["per_gender"]["Male"]["paUAR"] == {"50": score, "75": score}
    assert metrics["UAR_against_share"] == dict.fromkeys(CLASSES)


def test_speaker_with_one_class_has_its_recall() -> None:
    metrics = group_metrics([1] * 4, certain([1, 1, 1, 3]), CLASSES, ["s"] * 4)
    assert metrics["per_speaker"]["s"]["UAR"] == 0.75
    assert metrics["per_speaker"]["s"]["macro_f1"] == pytest.approx(6 / 7)
    assert metrics["paUAR"] == {"50": 1.0, "75": 0.0}


@pytest.mark.parametrize("shift", [0, 1])
def test_extremes(shift: int) -> None:
    truth = [0, 1, 2, 3] * 3
    metrics = group_metrics(truth, certain([(k + shift) % 4 for k in truth]), CLASSES, list("abc") * 4, list("FMF") * 4)
    best = metrics["n_best"]["1"]
    expected = float(1 - shift)
    assert [best["accuracy"], best["UAR"], best["macro_f1"]] == [expected] * 3
    assert best["paUAR"] == metrics["per_gender"]["F"]["paUAR"] == {"50": expected, "75": expected}


# --- speakers against classes ---------------------------------------------------------------------------------------


def test_correlation_of_uar_with_the_share_of_a_class() -> None:
    """UAR is 1, 2/3, 0 for shares of ang of 0, 1/2, 1, so the correlation is negative."""
    truth, guess = [1, 1, 0, 0, 1, 2, 0, 0], [1, 1, 0, 0, 1, 0, 3, 3]
    metrics = group_metrics(truth, certain(guess), CLASSES, list("aabbbbcc"), min_utterances=2)
    uars, shares = speaker_points(metrics["per_speaker"], CLASSES)
    assert uars == pytest.approx([1, 2 / 3, 0])
    assert shares.tolist() == [[0, 1, 0, 0], [0.5, 0.25, 0.25, 0], [1, 0, 0, 0]]
    # neu: shares 0, 1/4, 0, so ranks 1.5, 3, 1.5 against 3, 2, 1
    assert metrics["UAR_against_share"] == pytest.approx({"ang": -1.0, "hap": 1.0, "neu": 0.0, "sad": None})
    assert len(speaker_points(metrics["per_speaker"], CLASSES, 3)[0]) == 1
    assert speaker_points(metrics["per_speaker"], CLASSES, 9)[1].shape == (0, 4)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys(seed: int) -> None:
    truth, rows, speakers, _ = random_split(seed, 200, speakers=20)
    metrics = group_metrics(truth, rows, CLASSES, speakers, min_utterances=4)
    enough = [entry for entry in metrics["per_speaker"].values() if entry["utterances"] >= 4]
    for name in CLASSES:
        shares = [entry["class_counts"][name] / entry["utterances"] for entry in enough]
        expected = spearmanr([round(entry["UAR"], 9) for entry in enough], np.round(shares, 9)).statistic
        assert metrics["UAR_against_share"][name] == pytest.approx(expected, abs=1e-12)
    assert correlations_with_shares(metrics["per_speaker"], CLASSES, 4) == metrics["UAR_against_share"]


# --- input ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_order_of_utterances_changes_nothing(seed: int) -> None:
    truth, rows, speakers, genders = random_split(seed, 40)
    order = np.random.default_rng(seed).permutation(40)
    moved = ([names[place] for place in order] for names in (speakers, genders))
    first = group_metrics(truth, rows, CLASSES, speakers, genders, 2)
    assert group_metrics(truth[order], rows[order], CLASSES, *moved, 2) == first


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_is_plain_json(dtype: type[np.floating[Any]]) -> None:
    truth, rows, speakers, genders = random_split(1)
    metrics = group_metrics(truth, rows.astype(dtype), CLASSES, speakers, genders, 3)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize("unknown", [None, [None, None], ["", ""]])
def test_unknown_groups_are_left_out(unknown: list[str | None] | None) -> None:
    metrics = group_metrics([0, 1], certain([0, 1]), CLASSES, unknown, unknown)
    assert list(metrics) == ["n_best"]


@pytest.mark.parametrize("nobody", ["Unknown", "unknown ", "podcast/UNK", "nan", "None", ""])
def test_unknown_speakers_are_nobody(nobody: str) -> None:
    truth, rows, speakers, genders = random_split(4, 200)
    named = group_metrics(truth, rows, CLASSES, [nobody if name is None else name for name in speakers], genders)
    assert named == group_metrics(truth, rows, CLASSES, speakers, genders)
    assert sorted(named["per_speaker"]) == [f"s{number}" for number in range(7)]
    scored = np.array([name is None for name in speakers]) & (truth >= 0)
    assert named["speakers"]["unknown_utterances"] == int(scored.sum()) > 0
    scored_of = [item for item in zip(speakers, truth.tolist(), rows, strict=True) if item[1] >= 0]
    by_gender = [entry["speakers"].get("unknown_utterances", 0) for entry in named["per_gender"].values()]
    assert sum(by_gender) == int((scored & np.array([name is not None for name in genders])).sum())
    uars = [
        plain_scores([label for name, label, _ in scored_of if name == one],
                     np.stack([row for name, _, row in scored_of if name == one]), 1)["UAR"]
        for one in named["per_speaker"]
    ]  # fmt: skip
    assert named["paUAR"]["50"] == np.mean([uar > 0.5 for uar in uars])


def test_genders_without_speakers() -> None:
    metrics = group_metrics([0, 1], certain([0, 1]), CLASSES, None, ["Male", "Female"])
    assert list(metrics) == ["n_best", "per_gender"]
    assert "paUAR" not in metrics["per_gender"]["Male"]


def test_speakers_without_genders() -> None:
    metrics = group_metrics([0, 1], certain([0, 1]), CLASSES, ["a", "b"])
    assert "per_gender" not in metrics
    assert "several_genders" not in metrics["speakers"]


def test_group_that_nobody_is_in_has_no_scores() -> None:
    scores = score_groups(np.array([0]), np.array([0]), np.array([1]), 2, 3)
    assert scores.utterances.tolist() == [0, 1]
    assert all(np.isnan(values[0]) for values in scores.values.values())
    assert all(values[1] == 1.0 for values in scores.values.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": [0]}, r"true classes: shape \[1\] for 2 utterances"),
        ({"truth": [0, 4]}, "true class of utterance 1 is 4; expected 0 to 3, or negative"),
        ({"truth": [0.0, 1.0]}, "true classes: float64 values"),
        ({"truth": [-1, -2]}, "no utterance has one of the classes ang, hap, neu, sad"),
        ({"truth": [], "probabilities": np.zeros((0, 4))}, "N >= 1"),
        ({"probabilities": np.eye(3)[:2]}, r"probabilities: shape \[2, 3\], expected \[N, 4\]"),
        ({"probabilities": np.full((2, 4), np.nan)}, "class 0 of utterance 0 is nan"),
        ({"probabilities": np.full((2, 4), 0.3)}, "utterance 0 sums to 1.2, not to 1"),
        ({"classes": ("a", "b", "a", "c")}, "'a' is named twice"),
        ({"speakers": ["a"]}, "speakers: 1 for 2 utterances"),
        ({"genders": ["a"] * 3}, "genders: 3 for 2 utterances"),
        ({"min_utterances": 0}, "min_utterances: 0; give 1 or more"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given = {"truth": [0, 1], "probabilities": certain([0, 1]), "classes": CLASSES} | change
    with pytest.raises(EmotionError, match=message) as error:
        group_metrics(**given)
    assert isinstance(error.value, LabelError)
    assert "\n" not in str(error.value)
