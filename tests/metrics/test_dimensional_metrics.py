"""Test the metrics of activation, valence and dominance against sums written out by hand and against audmetric."""

from __future__ import annotations

import json
from typing import Any

import audmetric
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from s3prl_emotion.errors import LabelError
from s3prl_emotion.metrics.dimensional import dimensional_metrics, error_per_bin

NAMES = ("EmoAct", "EmoVal", "EmoDom")


def split(utterances: int = 40, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(1, 7, size=(utterances, 3))
    return truth, 0.7 * truth + generator.normal(1, 0.8, size=truth.shape)


def ccc(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """Compute CCC as in Mitra et al. 2024, eq. 5, with moments ÷ n."""
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    return float(2 * covariance / (truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2))


def test_metrics_by_hand() -> None:
    truth = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 5.0]])
    prediction = np.array([[2.0, 2.0], [3.0, 4.0], [4.0, 3.0]])
    metrics = dimensional_metrics(truth, prediction, ["act", "val"])
    # act: variances 8/3 and 2/3, covariance 4/3, means both 3. val: 2 and 2/3, covariance 0, means both 3.
    assert metrics["utterances"] == 3
    assert metrics["CCC"] == pytest.approx({"act": (8 / 3) / (10 / 3), "val": 0.0}, abs=1e-15)
    assert metrics["Pearson"] == pytest.approx({"act": 1.0, "val": 0.0}, abs=1e-15)
    assert metrics["MSE"] == pytest.approx({"act": 2 / 3, "val": 8 / 3})
    assert metrics["mean_CCC"] == pytest.approx(0.4)
    assert metrics["mean_Pearson"] == pytest.approx(0.5)
    assert metrics["mean_MSE"] == pytest.approx(5 / 3)
    assert metrics["MSE_per_bin"]["act"] == [
        {"centre": 1.0, "utterances": 1, "MSE": 1.0},
        {"centre": 3.0, "utterances": 1, "MSE": 0.0},
        {"centre": 5.0, "utterances": 1, "MSE": 1.0},
    ]
    assert metrics["MSE_per_bin"]["val"] == [
        {"centre": 2.0, "utterances": 2, "MSE": 2.0},
        {"centre": 5.0, "utterances": 1, "MSE": 4.0},
    ]
    assert "per_speaker" not in metrics
    assert "per_gender" not in metrics


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), utterances=st.integers(2, 60))
def test_metrics_agree_with_audmetric(seed: int, utterances: int) -> None:
    truth, prediction = split(utterances, seed)
    metrics = dimensional_metrics(truth, prediction, NAMES)
    for column, name in enumerate(NAMES):
        true, guess = truth[:, column], prediction[:, column]
        assert metrics["CCC"][name] == pytest.approx(audmetric.concordance_cc(true, guess), abs=1e-12)
        assert metrics["CCC"][name] == pytest.approx(ccc(true, guess), abs=1e-12)
        assert metrics["Pearson"][name] == pytest.approx(audmetric.pearson_cc(true, guess), abs=1e-12)
        assert metrics["MSE"][name] == pytest.approx(audmetric.mean_squared_error(true, guess), rel=1e-12)
    for key in ("CCC", "Pearson", "MSE"):
        assert metrics[f"mean_{key}"] == pytest.approx(np.mean(list(metrics[key].values())), rel=1e-12)


def test_bins_are_likert_scores() -> None:
    truth = np.array([1.0, 2.49, 2.5, 3.0, 3.49, 3.5, 6.9])
    prediction = truth + np.array([1, 2, 3, 4, 5, 6, 7.0])
    bins = error_per_bin(truth, prediction)
    assert [entry["centre"] for entry in bins] == [1, 2, 3, 4, 7]
    assert [entry["utterances"] for entry in bins] == [1, 1, 3, 1, 1]
    assert [entry["MSE"] for entry in bins] == pytest.approx([1, 4, (9 + 16 + 25) / 3, 36, 49])


@pytest.mark.parametrize("width", [1.0, 0.5, 2.0])
def test_bins_add_up_to_the_whole(width: float) -> None:
    truth, prediction = split(200)
    metrics = dimensional_metrics(truth, prediction, NAMES, bin_width=width)
    for name in NAMES:
        bins = metrics["MSE_per_bin"][name]
        assert sum(entry["utterances"] for entry in bins) == 200
        total = sum(entry["utterances"] * entry["MSE"] for entry in bins)
        assert total / 200 == pytest.approx(metrics["MSE"][name], rel=1e-12)
        assert np.diff([entry["centre"] for entry in bins]).min() >= width


def test_groups() -> None:
    truth, prediction = split(12)
    speakers: list[str | None] = ["b", "b", "b", "a", "a", "a", "a", None, "", "once", "b", "b"]
    genders: list[str | None] = ["Male"] * 3 + ["Female"] * 4 + [None] * 5
    metrics = dimensional_metrics(truth, prediction, NAMES, speakers, genders)
    assert list(metrics["per_speaker"]) == ["a", "b", "once"]
    assert list(metrics["per_gender"]) == ["Female", "Male"]
    inside = [0, 1, 2, 10, 11]
    b = metrics["per_speaker"]["b"]
    assert b["utterances"] == 5
    assert b["CCC"] == pytest.approx(
        {name: ccc(truth[inside, k], prediction[inside, k]) for k, name in enumerate(NAMES)}
    )
    assert b["mean_CCC"] == pytest.approx(np.mean(list(b["CCC"].values())))
    female = metrics["per_gender"]["Female"]["CCC"]
    assert female == pytest.approx({name: ccc(truth[3:7, k], prediction[3:7, k]) for k, name in enumerate(NAMES)})
    once = {"utterances": 1, "CCC": dict.fromkeys(NAMES), "mean_CCC": None}
    assert metrics["per_speaker"]["once"] == once
    assert "per_speaker" not in dimensional_metrics(truth, prediction, NAMES, [None] * 12, None)


@pytest.mark.parametrize("value", [0.1, 3.0])
def test_constants(value: float) -> None:
    """The mean of values of 0.1 has a rounding error, which must not count as agreement."""
    varying, constant = np.array([1.0, 2.0, 4.0]), np.full(3, value)
    truth = np.stack([constant, constant, varying], axis=1)
    prediction = np.stack([constant, constant + 1, constant], axis=1)
    metrics = dimensional_metrics(truth, prediction, NAMES)
    assert metrics["CCC"] == {"EmoAct": None, "EmoVal": 0.0, "EmoDom": 0.0}
    assert metrics["mean_CCC"] == 0.0
    assert metrics["Pearson"] == dict.fromkeys(NAMES)
    assert metrics["mean_Pearson"] is None
    assert metrics["MSE"]["EmoVal"] == pytest.approx(1.0)


def test_values_are_plain_json() -> None:
    truth, prediction = split(1)
    truth, prediction = truth.astype(np.float32), prediction.astype(np.float32)
    prediction[0, 0] = np.nan
    metrics = dimensional_metrics(truth, prediction, NAMES, ["s"], ["Male"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["MSE"]["EmoAct"] is None
    assert metrics["MSE_per_bin"]["EmoAct"][0]["MSE"] is None
    assert metrics["CCC"] == dict.fromkeys(NAMES)
    expected = np.mean([(float(truth[0, k]) - float(prediction[0, k])) ** 2 for k in (1, 2)])
    assert metrics["mean_MSE"] == pytest.approx(expected)


def test_prediction_that_is_not_finite_spoils_no_other_dimension() -> None:
    truth, prediction = split()
    whole = dimensional_metrics(truth, prediction, NAMES)
    prediction[3, 1] = np.inf
    with np.errstate(all="ignore"):
        metrics = dimensional_metrics(truth, prediction, NAMES)
    for key in ("CCC", "Pearson", "MSE"):
        assert metrics[key]["EmoVal"] is None
        assert metrics[key]["EmoAct"] == whole[key]["EmoAct"]
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.zeros((3, 2))}, "EmoAct, EmoVal, EmoDom"),
        ({"truth": np.zeros((3, 2)), "prediction": np.zeros((3, 2))}, r"\[U, 3\]"),
        ({"truth": np.zeros((0, 3)), "prediction": np.zeros((0, 3))}, "U >= 1"),
        ({"speakers": ["a"]}, "1 speakers or genders for 3 utterances"),
        ({"truth": np.array([[1, 2, 3], [1, np.nan, 3], [1, 2, 3.0]])}, "true EmoVal of utterance 1 is nan"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given = {"truth": np.ones((3, 3)), "prediction": np.ones((3, 3)), "names": NAMES} | change
    with pytest.raises(LabelError, match=message) as error:
        dimensional_metrics(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nobody", ["Unknown", " unknown", "", None])
def test_unknown_speakers_have_no_row(nobody):
    truth, guess = np.array([[1.0], [2.0], [4.0], [7.0]]), np.array([[1.5], [2.5], [3.0], [6.0]])
    speakers = ["a", nobody, "a", nobody]
    metrics = dimensional_metrics(truth, guess, ["EmoVal"], speakers, ["Male", "Male", "Female", "Female"])
    assert list(metrics["per_speaker"]) == ["a"]
    assert metrics["per_speaker"]["a"]["utterances"] == 2
    assert metrics["utterances"] == sum(entry["utterances"] for entry in metrics["per_gender"].values()) == 4
