"""Test the agreement with the graders against values worked out by hand, loops in float64, SciPy and scikit-learn."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score

from s3prl_emotion.errors import EmotionError, LabelError
from s3prl_emotion.metrics.distribution import (
    KL_FLOOR,
    agreement,
    entropy,
    entropy_correlation,
    js_divergence,
    kl_divergence,
    rank_correlation,
    threshold_f1,
)

Array = NDArray[np.float64]
CLASSES = ("ang", "hap", "neu", "sad")


def draw(seed: int, utterances: int = 50, classes: int = 4) -> tuple[Array, Array]:
    """Draw shares of five graders, and probabilities of a model."""
    generator = np.random.default_rng(seed)
    leaning = generator.dirichlet(np.full(classes, 0.5), size=utterances)
    graders = np.array([generator.multinomial(5, row) for row in leaning]) / 5
    return graders, generator.dirichlet(np.ones(classes), size=utterances)


def bits(p: Array, q: Array) -> float:
    """Compute Σ p log2(p / q) without the terms where p = 0."""
    return sum(a * math.log2(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True) if a > 0)


distributions = hnp.arrays(
    np.float64,
    st.tuples(st.just(2), st.integers(1, 6), st.integers(2, 5)),
    elements=st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1e-300)),
).map(lambda rows: np.where(rows.sum(axis=2, keepdims=True) > 1e-3, rows, rows + 1.0))
distributions = distributions.map(lambda rows: rows / rows.sum(axis=2, keepdims=True))


# --- divergences ----------------------------------------------------------------------------------------------------


def test_two_classes_by_hand() -> None:
    graders = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]])
    model = np.array([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]])
    # 1: m = (3/4, 1/4): (log2 4/3 + (1/2 log2 2/3 + 1/2 log2 2)) / 2 = 1.5 - 0.75 log2 3
    # 3: m = (1/2, 1/2): 1 - H(1/4), H(1/4) = 2 - 0.75 log2 3
    assert js_divergence(graders, model) == pytest.approx(
        [1.5 - 0.75 * math.log2(3), 0, 0.75 * math.log2(3) - 1], abs=1e-15
    )
    assert js_divergence(graders, model) == pytest.approx([0.3112781, 0, 0.1887219], abs=1e-7)
    # 1: log2 2; 3: 3/4 log2 3 - 1/4 log2 3
    assert kl_divergence(graders, model) == pytest.approx([1.0, 0.0, 0.5 * math.log2(3)], abs=1e-15)
    assert entropy(graders) == pytest.approx([0.0, 1.0, 2 - 0.75 * math.log2(3)], abs=1e-15)
    result = agreement(graders, model)
    assert result["utterances"] == 3
    assert result["JS"] == pytest.approx(0.5 / 3)
    assert result["KL"] == pytest.approx((1 + 0.7924812503605781) / 3)
    assert result["KL_floored"] == 0
    assert result["entropy"] == pytest.approx({"graders": 1.8112781244591328 / 3, "model": 2.8112781244591325 / 3})


def test_opposites() -> None:
    graders, model = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert js_divergence(graders, model).tolist() == [1.0]
    assert kl_divergence(graders, model) == pytest.approx([math.log2(1 / KL_FLOOR)], rel=1e-12)  # else infinite
    assert kl_divergence(graders, model) == pytest.approx([19.931568569324174])
    assert agreement(graders, model)["KL_floored"] == 1


def test_smallest_numbers() -> None:
    """Half of the smallest positive number is 0, and a share divided by 0 is infinite."""
    graders, model = np.array([[5e-324, 1.0]]), np.array([[0.0, 1.0]])
    assert js_divergence(graders, model) == pytest.approx([0.0], abs=1e-300)
    assert js_divergence(model, graders) == pytest.approx([0.0], abs=1e-300)


def test_floor_is_for_classes_that_graders_chose() -> None:
    graders = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    model = np.array([[1.0, 0.0, 0.0], [1e-9, 1 - 1e-9, 0.0]])
    expected = [0.5 * math.log2(0.5) + 0.5 * math.log2(0.5 / 1e-6), 0]
    assert kl_divergence(graders, model) == pytest.approx(expected, abs=1e-8)
    assert agreement(graders, model)["KL_floored"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_divergences_are_the_plain_loops_and_scipy(seed: int) -> None:
    graders, model = draw(seed)
    js = [(bits(p, (p + q) / 2) + bits(q, (p + q) / 2)) / 2 for p, q in zip(graders, model, strict=True)]
    assert js_divergence(graders, model) == pytest.approx(js, abs=1e-14)
    assert js_divergence(graders, model) == pytest.approx(jensenshannon(graders, model, base=2, axis=1) ** 2, abs=1e-14)
    kl = [bits(p, np.maximum(q, 1e-6)) for p, q in zip(graders, model, strict=True)]
    assert kl_divergence(graders, model) == pytest.approx(kl, abs=1e-13)
    result = agreement(graders, model)
    assert result["JS"] == pytest.approx(np.mean(js))
    assert result["KL"] == pytest.approx(np.mean(kl))
    surprise = [bits(p, np.ones(4)) for p in graders]
    assert entropy(graders) == pytest.approx(-np.array(surprise), abs=1e-14)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pair=distributions)
def test_divergences_stay_within_bounds(pair: Array) -> None:
    graders, model = pair
    js, kl = js_divergence(graders, model), kl_divergence(graders, model)
    assert ((js >= 0) & (js <= 1)).all()
    assert ((kl >= 0) & (kl <= math.log2(1 / KL_FLOOR) + 1e-9)).all()
    assert js == pytest.approx(js_divergence(model, graders), abs=1e-15)
    assert js_divergence(graders, graders).tolist() == [0.0] * len(graders)
    assert kl_divergence(graders, graders).tolist() == [0.0] * len(graders)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_order_of_utterances_and_classes_changes_nothing(seed: int) -> None:
    graders, model = draw(seed, 12)
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(12), generator.permutation(4)
    before = agreement(graders, model), threshold_f1(graders, model, CLASSES)
    names = [CLASSES[column] for column in columns]
    after = (
        agreement(graders[rows][:, columns], model[rows][:, columns]),
        threshold_f1(graders[rows][:, columns], model[rows][:, columns], names),
    )
    for first, second in zip(before, after, strict=True):
        assert flat(first) == pytest.approx(flat(second), abs=1e-12)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Flatten nested dicts, without lists."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= {f"{key}.{inner}": item for inner, item in value.items()}
        elif not isinstance(value, list):
            result[key] = value
    return result


# --- entropies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_entropy_correlation_is_scipys(seed: int) -> None:
    graders, model = draw(seed)
    pair = [np.array([-bits(row, np.ones(4)) for row in rows]).round(9) for rows in (graders, model)]
    result = entropy_correlation(graders, model)
    assert result["Pearson"] == pytest.approx(pearsonr(*pair).statistic, abs=1e-12)
    assert result["Spearman"] == pytest.approx(spearmanr(*pair).statistic, abs=1e-12)


def test_entropy_correlation_by_hand() -> None:
    graders = np.array([[1, 0], [0.5, 0.5], [0.75, 0.25]])
    assert entropy_correlation(graders, graders) == pytest.approx({"Pearson": 1.0, "Spearman": 1.0})
    # entropies 0, 1, 0.811 against 1, 0, 0.811
    assert entropy_correlation(graders, graders[[1, 0, 2]])["Spearman"] == pytest.approx(-1.0)


def test_rows_that_only_change_places_are_ties() -> None:
    """Their entropies differ in the last bit only, and the correlation of such rounding errors would be noise."""
    generator = np.random.default_rng(0)
    row = generator.dirichlet(np.ones(9))
    same = np.array([generator.permutation(row) for _ in range(50)])
    assert len(set(entropy(same).tolist())) > 1
    other = generator.dirichlet(np.ones(9), size=50)
    assert entropy_correlation(same, other) == {"Pearson": None, "Spearman": None}
    assert entropy_correlation(other, same) == {"Pearson": None, "Spearman": None}


def test_undefined_correlations() -> None:
    graders, model = draw(0)
    none = {"Pearson": None, "Spearman": None}
    assert entropy_correlation(np.eye(4)[[0, 1, 2, 3]], model[:4]) == none  # consensus has no entropy
    assert entropy_correlation(graders[:1], model[:1]) == none
    assert rank_correlation(np.array([1.0]), np.array([2.0])) is None
    assert rank_correlation(np.array([1.0, 1.0]), np.array([2.0, 3.0])) is None
    assert rank_correlation(np.array([0.75, 0.75 + 1e-12, 1]), np.array([3.0, 1, 2])) == pytest.approx(0.0)


# --- EMO-SUPERB's macro-F1 -------------------------------------------------------------------------------------------


def test_threshold_f1_by_hand() -> None:
    graders = np.array([[0.6, 0.4, 0, 0], [0.3, 0.1, 0.3, 0.3], [0, 0, 1, 0], [0.4, 0, 0.6, 0]])
    model = np.array([[0.7, 0.1, 0.1, 0.1], [0.3, 0.2, 0.2, 0.3], [0.3, 0.3, 0.3, 0.1], [0.1, 0.1, 0.1, 0.7]])
    # above 1/4: graders {a h}, {a n s}, {n}, {a n}; model {a}, {a s}, {a h n}, {s}
    f1 = {"ang": 2 * 2 / (3 + 3), "hap": 0.0, "neu": 2 * 1 / (3 + 1), "sad": 2 * 1 / (1 + 2)}
    result = threshold_f1(graders, model, CLASSES)
    assert result["F1"] == pytest.approx(f1)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 0 + 1 / 2 + 2 / 3) / 4)
    assert result["threshold"] == 0.25
    assert result["absent"] == []
    assert result["without_class"] == {"graders": 0, "model": 0}


@pytest.mark.parametrize("classes", [2, 4, 9])
@pytest.mark.parametrize("seed", range(3))
def test_threshold_f1_is_scikit_learns(seed: int, classes: int) -> None:
    graders, model = draw(seed, 30, classes)
    names = [f"class{number}" for number in range(classes)]
    expected = f1_score(graders > 1 / classes, model > 1 / classes, average="macro", zero_division=0)
    assert threshold_f1(graders, model, names)["macro_f1"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 6, 7, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_just_a_kth_is_not_above_it(classes: int, dtype: type[np.floating[Any]]) -> None:
    """Rounding must not matter at 1/K: 1/6 in float32 is above 1/6 in float64."""
    even = np.full((2, classes), dtype(1) / dtype(classes))
    peaked = np.eye(classes)[[0, 1]]
    result = threshold_f1(peaked, even, [f"class{number}" for number in range(classes)])
    assert result["without_class"] == {"graders": 0, "model": 2}
    assert result["macro_f1"] == 0.0
    result = threshold_f1(even, peaked, [f"class{number}" for number in range(classes)])
    assert result["without_class"] == {"graders": 2, "model": 0}


def test_class_that_is_nowhere_counts_as_0() -> None:
    graders = np.array([[0.6, 0.4, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    result = threshold_f1(graders, graders, CLASSES)
    assert result["F1"] == {"ang": 1.0, "hap": 1.0, "neu": None, "sad": None}
    assert result["absent"] == ["neu", "sad"]
    assert result["macro_f1"] == 0.5
    assert threshold_f1(np.eye(4), np.eye(4), CLASSES)["macro_f1"] == 1.0
    assert threshold_f1(np.eye(4), np.eye(4)[[1, 2, 3, 0]], CLASSES)["macro_f1"] == 0.0


# --- whole ----------------------------------------------------------------------------------------------------------


def test_perfect_agreement() -> None:
    graders, _ = draw(0)
    result = agreement(graders, graders)
    assert result["JS"] == result["KL"] == 0.0
    assert result["KL_floored"] == 0
    assert result["entropy_correlation"] == pytest.approx({"Pearson": 1.0, "Spearman": 1.0})


def test_rounded_shares_are_divided_by_their_sum() -> None:
    """A label table has three digits: three shares of 0.333 sum to 0.999."""
    third = np.full((1, 3), 1 / 3)
    assert js_divergence(np.full((1, 3), 0.333), third) == pytest.approx([0.0], abs=1e-15)
    assert kl_divergence(np.array([[0.3333, 0.3333, 0.3333]]), third) == pytest.approx([0.0], abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("utterances", [1, 2, 40])
def test_values_are_plain_json(dtype: type[np.floating[Any]], utterances: int) -> None:
    graders, model = draw(3, utterances)
    graders, model = graders.astype(dtype), model.astype(dtype)
    for result in (agreement(graders, model), threshold_f1(graders, model, CLASSES)):
        assert json.loads(json.dumps(result, allow_nan=False)) == result


EVEN = np.full((2, 4), 0.25)


@pytest.mark.parametrize(
    ("graders", "model", "message"),
    [
        (EVEN, np.full((2, 3), 1 / 3), r"grader shares \[2, 4\] and probabilities \[2, 3\]"),
        (EVEN[:1], EVEN, r"grader shares \[1, 4\]"),
        (EVEN[:0], EVEN[:0], r"grader shares: shape \[0, 4\]"),
        (EVEN[0], EVEN[0], r"grader shares: shape \[4\]"),
        (EVEN, np.where(np.eye(2, 4), np.nan, EVEN), "probabilities: class 0 of utterance 0 is nan"),
        (np.where(np.eye(2, 4), np.inf, EVEN), EVEN, "grader shares: class 0 of utterance 0 is inf"),
        (EVEN, np.array([[0.25] * 4, [0.5, 0.75, -0.25, 0]]), "class 2 of utterance 1 is -0.25"),
        (EVEN, np.array([[0.25] * 4, [0.25, 0.25, 0.25, 0.248]]), "utterance 1 sums to 0.998, not to 1"),
        (np.zeros((2, 4)), EVEN, "grader shares: the row of utterance 0 sums to 0,"),
        ([[0.5, 0.5], [1.0]], EVEN, "grader shares: not a table of numbers"),
    ],
)
def test_bad_input(graders: Any, model: Any, message: str) -> None:
    for measure in (agreement, js_divergence, kl_divergence, entropy_correlation):
        with pytest.raises(LabelError, match=message) as error:
            measure(graders, model)
        assert "\n" not in str(error.value)
    with pytest.raises(EmotionError, match=message):
        threshold_f1(graders, model, CLASSES)


@pytest.mark.parametrize("classes", [["one"], ["a", "b", "c"]])
def test_threshold_f1_needs_a_name_for_each_of_two_classes(classes: list[str]) -> None:
    rows = np.ones((2, 1)) if len(classes) == 1 else EVEN
    with pytest.raises(LabelError, match=r"columns for .* classes; give one for each of two or more classes"):
        threshold_f1(rows, rows, classes)
