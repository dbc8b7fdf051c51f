"""Test intervals over speakers, paired tests and Holm's correction against their definitions, written out here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from speaker_statistics import CATEGORICAL, DIMENSIONAL, METRICS, compare_systems, speaker_interval

from s3prl_emotion.errors import LabelError, UsageError
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.class_scores import class_counts
from s3prl_emotion.metrics.dimension_scores import dimension_sums
from s3prl_emotion.metrics.dimensional import dimensional_metrics
from s3prl_emotion.metrics.statistics import Clusters, cluster_bootstrap, holm, paired_permutation_test

DRAWN = settings(derandomize=True, deadline=None, max_examples=40)
CLASSES = ("ang", "hap", "neu", "sad")


def dimensional(seed: int, speakers: int = 12, per: int = 6) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw truth, predictions and speakers; each speaker's predictions have their own bias."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(speakers), rng.integers(1, per + 1, speakers))
    truth = 4 + rng.normal(0, 0.6, speakers)[of] + rng.normal(0, 0.8, len(of))
    prediction = 4 + 0.6 * (truth - 4) + rng.normal(0, 0.4, speakers)[of] + rng.normal(0, 0.5, len(of))
    return truth, prediction, [f"s{speaker}" for speaker in of]


def categorical(seed: int, speakers: int = 12, per: int = 6) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(speakers), rng.integers(1, per + 1, speakers))
    truth = rng.choice(4, len(of), p=(0.4, 0.3, 0.2, 0.1))
    hit = rng.random(len(of)) < 0.4 + 0.4 * rng.random(speakers)[of]
    guess = np.where(hit, truth, rng.choice(4, len(of)))
    return [CLASSES[i] for i in truth], [CLASSES[i] for i in guess], [f"s{speaker}" for speaker in of]


def made_for(metric: str, seed: int, **sizes: int) -> tuple[Any, Any, list[str]]:
    return dimensional(seed, **sizes) if metric in DIMENSIONAL else categorical(seed, **sizes)


# --- metrics from sums ------------------------------------------------------------------------------------------------


def test_dimensional_metrics_by_hand():
    """Truth 1, 2, 3 and prediction 2, 2, 5: means 2 and 3, variances 2/3 and 2, covariance 1."""
    sums = dimension_sums(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]), np.array([0, 0, 1]), 2)
    total = sums.sum(axis=0)
    assert sums[:, 0].tolist() == [2, 1]
    assert DIMENSIONAL["CCC"](total) == pytest.approx(2 * 1 / (2 / 3 + 2 + 1), abs=1e-12)
    assert DIMENSIONAL["Pearson"](total) == pytest.approx(1 / math.sqrt(2 / 3 * 2), abs=1e-12)
    assert DIMENSIONAL["MSE"](total) == pytest.approx((1 + 0 + 4) / 3, abs=1e-12)


def test_categorical_metrics_by_hand():
    """Class 0: 3 true, 2 hit, 2 predicted; class 1: 1 true, 1 hit, 2 predicted; class 2 never true, once predicted."""
    truth, guess = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    sums = class_counts(truth, guess, np.array([1, 0, 0, 1, 1]), 2, 3)
    assert sums.tolist() == [[1, 0, 0, 2, 0, 0, 1, 1, 0], [1, 1, 0, 1, 2, 0, 1, 1, 1]]
    total = sums.sum(axis=0)
    assert CATEGORICAL["WA"](total) == pytest.approx(3 / 5, abs=1e-12)
    assert CATEGORICAL["UAR"](total) == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-12)
    assert CATEGORICAL["macro_f1"](total) == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (2 + 2)) / 2, abs=1e-12)


@DRAWN
@given(st.integers(0, 10_000), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_sums_give_what_the_metrics_files_hold(seed: int, shift: float, scale: float):
    truth, guess, speakers = dimensional(seed)
    truth, guess = shift + scale * truth, shift + scale * guess
    clusters = Clusters(speakers)
    total = dimension_sums(truth, guess, clusters.indices, len(clusters)).sum(axis=0)
    metrics = dimensional_metrics(truth[:, None], guess[:, None], ["x"])
    for name, metric in DIMENSIONAL.items():
        assert metric(total) == pytest.approx(metrics[name]["x"], rel=1e-7, abs=1e-9)
    words, guesses, speakers = categorical(seed)
    indices = [np.array([CLASSES.index(word) for word in part]) for part in (words, guesses)]
    clusters = Clusters(speakers)
    total = class_counts(*indices, clusters.indices, len(clusters), 4).sum(axis=0)
    expected = categorical_metrics(indices[0].tolist(), np.eye(4)[indices[1]], CLASSES)
    for name, metric in CATEGORICAL.items():
        assert metric(total) == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "guess", "ccc", "pearson", "mse"),
    [
        ([2.0, 2.0], [2.0, 2.0], math.nan, math.nan, 0.0),
        ([2.1, 2.1, 2.1], [3.3, 3.3, 3.3], 0.0, math.nan, 1.44),
        ([1.0, 2.0, 3.0], [2.7, 2.7, 2.7], 0.0, math.nan, (1.7**2 + 0.7**2 + 0.3**2) / 3),
        ([1.0], [2.0], 0.0, math.nan, 1.0),
        ([1.0, 2.0], [math.nan, 2.0], math.nan, math.nan, math.nan),
    ],
)
def test_degenerate_dimensions(truth: list[float], guess: list[float], ccc: float, pearson: float, mse: float):
    zeros = np.zeros(len(truth), dtype=int)
    total = dimension_sums(np.array(truth), np.array(guess), zeros, 1).sum(axis=0)
    for name, expected in (("CCC", ccc), ("Pearson", pearson), ("MSE", mse)):
        assert DIMENSIONAL[name](total) == pytest.approx(expected, abs=1e-9, nan_ok=True)


# --- bootstrap --------------------------------------------------------------------------------------------------------


def expanded_interval(
    value_of: Callable[[list[int]], float], speakers: int, resamples: int, seed: int
) -> tuple[float, float]:
    """Compute the interval by its definition in a loop; ``value_of`` returns the metric of chosen speakers."""
    drawn = np.random.default_rng(seed).integers(0, speakers, size=(resamples, speakers))
    values = np.array([value_of(row.tolist()) for row in drawn])
    left_out = np.array([value_of([k for k in range(speakers) if k != out]) for out in range(speakers)])
    jackknife = math.sqrt((speakers - 1) / speakers * ((left_out - left_out.mean()) ** 2).sum())
    factor = max(math.sqrt(speakers / (speakers - 1)), jackknife / values.std())
    share = stats.norm.cdf(-factor * stats.t.ppf(0.975, speakers - 1))
    return float(np.quantile(values, share)), float(np.quantile(values, 1 - share))


@pytest.mark.parametrize("metric", METRICS)
def test_interval_equals_its_definition_over_utterances(metric: str):
    truth, guess, speakers = made_for(metric, 3, speakers=9, per=8)
    names = sorted(set(speakers))
    rows = {name: [row for row, speaker in enumerate(speakers) if speaker == name] for name in names}
    order = list(dict.fromkeys(speakers))

    def value_of(chosen: list[int]) -> float:
        picked = [row for index in chosen for row in rows[order[index]]]
        true, guessed = [truth[row] for row in picked], [guess[row] for row in picked]
        if metric in DIMENSIONAL:
            return dimensional_metrics(np.array(true)[:, None], np.array(guessed)[:, None], ["x"])[metric]["x"]
        numbers = [CLASSES.index(word) for word in true], [CLASSES.index(word) for word in guessed]
        return categorical_metrics(numbers[0], np.eye(4)[numbers[1]], CLASSES)[metric]

    found = speaker_interval(metric, truth, guess, speakers, resamples=400, seed=5)
    low, high = expanded_interval(value_of, len(names), 400, 5)
    assert found.value == pytest.approx(value_of(list(range(len(names)))), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.low < found.value < found.high
    assert found.speakers == 9


def test_interval_of_a_mean_is_close_to_students():
    """For a mean with one utterance per speaker, the interval is close to the classical t interval."""
    errors = np.random.default_rng(0).normal(size=40)
    found = speaker_interval("MSE", np.zeros(40), np.sqrt(1 + 0.1 * errors), list(range(40)))
    values = 1 + 0.1 * errors
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found.low == pytest.approx(low, abs=0.03 * (high - low))
    assert found.high == pytest.approx(high, abs=0.03 * (high - low))


@pytest.mark.full
@pytest.mark.parametrize("metric", ["CCC", "UAR"])
def test_independent_utterances_against_confidence_intervals(metric: str):
    """With one utterance per speaker and many speakers, the interval is close to the plain percentile interval."""
    oracle = pytest.importorskip("confidence_intervals")
    truth, guess, _ = made_for(metric, 1, speakers=400, per=3)
    numbers = [
        np.asarray(part if metric == "CCC" else [CLASSES.index(word) for word in part]) for part in (truth, guess)
    ]

    def value(labels: np.ndarray, samples: np.ndarray) -> float:
        if metric == "CCC":
            return dimensional_metrics(labels[:, None], samples[:, None], ["x"])["CCC"]["x"]
        return categorical_metrics(labels.tolist(), np.eye(4)[samples], CLASSES)["UAR"]

    center, (low, high) = oracle.evaluate_with_conf_int(numbers[1], value, numbers[0], num_bootstraps=1500, alpha=5)
    found = speaker_interval(metric, truth, guess)
    assert found.value == pytest.approx(center, abs=1e-9)
    width = high - low
    assert abs(found.low - low) < 0.1 * width
    assert abs(found.high - high) < 0.1 * width


def test_utterances_of_a_speaker_are_not_taken_for_independent():
    """Ten copies of every utterance add no information: intervals over speakers stay, those over utterances shrink."""
    truth, guess, speakers = dimensional(2, speakers=30)
    once = speaker_interval("CCC", truth, guess, speakers)
    often = speaker_interval("CCC", np.tile(truth, 10), np.tile(guess, 10), speakers * 10)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)
    naive = speaker_interval("CCC", np.tile(truth, 10), np.tile(guess, 10))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def coverage(metric: str, speakers: int, corpora: int, resamples: int) -> float:
    """Return the share of simulated corpora whose 95 % interval holds the value of 100,000 speakers."""

    def sums(rng: np.random.Generator, count: int) -> np.ndarray:
        sizes = np.maximum(1, np.round(rng.lognormal(np.log(15), 0.8, count))).astype(int)
        of = np.repeat(np.arange(count), sizes)
        if metric in DIMENSIONAL:
            truth = rng.normal(0, 0.6, count)[of] + rng.normal(0, 0.8, len(of))
            slope, bias = 0.6 * (1 + 0.3 * rng.normal(size=count)), rng.normal(0, 0.4, count)
            guess = slope[of] * truth + bias[of] + rng.normal(0, 0.5, len(of))
            table = dimension_sums(np.append(0.0, truth), np.append(0.0, guess), np.append(0, of), count)
            table[0, 0] -= 1  # the utterance that fixed the origin
            return table
        shares = rng.dirichlet((4, 3, 2, 1), count)
        truth = (rng.random(len(of))[:, None] > np.cumsum(shares, axis=1)[of]).sum(axis=1).clip(0, 3)
        skill = rng.normal(0.8, 0.8, count)[of] + np.array([0.5, 0, -0.3, -0.6])[truth]
        hit = rng.random(len(of)) < 1 / (1 + np.exp(-skill))
        return class_counts(truth, np.where(hit, truth, (truth + rng.integers(1, 4, len(of))) % 4), of, count, 4)

    value = METRICS[metric]
    true = float(value(sums(np.random.default_rng(0), 100_000).sum(axis=0)))
    rng, held = np.random.default_rng(1), 0
    for seed in range(corpora):
        found = cluster_bootstrap(sums(rng, speakers), lambda s: value(s)[..., None], resamples=resamples, seed=seed)
        held += bool(found.low[0] <= true <= found.high[0])
    return held / corpora


@pytest.mark.full
@pytest.mark.parametrize("metric", ["CCC", "UAR"])
def test_coverage_of_100_speakers(metric: str):
    assert 0.93 <= coverage(metric, 100, corpora=600, resamples=1000) <= 0.97


@pytest.mark.full
@pytest.mark.parametrize(("metric", "speakers"), [*((metric, 100) for metric in METRICS), ("MSE", 300), ("UAR", 300)])
def test_coverage_of_many_speakers(metric: str, speakers: int):
    """Squared errors are skewed, so that MSE with 100 speakers falls slightly short of 95 %."""
    least = 0.92 if (metric, speakers) == ("MSE", 100) else 0.93
    assert least <= coverage(metric, speakers, corpora=2000, resamples=1000) <= 0.97


@pytest.mark.full
@pytest.mark.parametrize("metric", METRICS)
def test_coverage_of_ten_speakers(metric: str):
    """The intervals are rough, as the warning says; plain percentile intervals hold 84 to 91 % here."""
    assert coverage(metric, 10, corpora=2000, resamples=1000) >= (0.88 if metric == "MSE" else 0.92)


def test_same_seed_same_interval_and_the_global_generator_is_left_alone():
    truth, guess, speakers = dimensional(4, speakers=30)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    first = speaker_interval("CCC", truth, guess, speakers, seed=1)
    compare_systems("CCC", truth, guess, guess[::-1], speakers, seed=1)
    assert first == speaker_interval("CCC", truth, guess, speakers, seed=1)
    assert first != speaker_interval("CCC", truth, guess, speakers, seed=2)
    assert np.array_equal(before, np.random.get_state()[1])


def test_draws_in_chunks_equal_draws_at_once(monkeypatch: pytest.MonkeyPatch):
    from s3prl_emotion.metrics.statistics import bootstrap, permutation

    truth, guess, speakers = dimensional(4, speakers=30)
    whole = compare_systems("CCC", truth, guess, guess[::-1], speakers, resamples=999, permutations=999)
    for module in (bootstrap, permutation):
        monkeypatch.setattr(module, "CHUNK", 30 * 100)
    parts = compare_systems("CCC", truth, guess, guess[::-1], speakers, resamples=999, permutations=999)
    found = [(item.difference, item.low, item.high, item.p_value) for item in (parts, whole)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_order_of_utterances_and_names_of_speakers_do_not_matter():
    truth, guess, speakers = dimensional(6, speakers=8)
    found = compare_systems("CCC", truth, guess, np.sqrt(guess), speakers)
    order = np.argsort(np.arange(len(truth)) % 3, kind="stable")
    renamed = [f"x{name}" for name in np.array(speakers)[order]]
    other = compare_systems("CCC", truth[order], guess[order], np.sqrt(guess)[order], renamed)
    assert found.difference == pytest.approx(other.difference, abs=1e-12)
    assert found.p_value == other.p_value  # all swaps are counted


@pytest.mark.parametrize("speakers", [1, 2, 4])
def test_too_few_speakers_have_no_interval(speakers: int):
    truth, guess, names = dimensional(0, speakers=speakers)
    found = speaker_interval("MSE", truth, guess, names)
    assert found.value > 0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.warnings == (f"{speakers} speakers: too few for an interval, which needs 5",)


def test_warnings():
    truth, guess, speakers = dimensional(0, speakers=19)
    assert speaker_interval("CCC", truth, guess, speakers).warnings == (
        "19 speakers: with fewer than 20, intervals are rough",
    )
    truth, guess, speakers = dimensional(0, speakers=20)
    assert speaker_interval("CCC", truth, guess, speakers).warnings == ()
    some = [None, "", math.nan, *speakers[3:]]
    (warning,) = speaker_interval("CCC", truth, guess, some).warnings
    assert warning.startswith("3 utterances have no known speaker: each counts as a speaker of its own")
    (warning,) = speaker_interval("CCC", truth, guess).warnings
    assert warning.startswith("no utterance has a known speaker")


def test_unknown_speakers_are_clusters_of_their_own():
    truth, guess, _ = dimensional(0, speakers=30)
    known = speaker_interval("CCC", truth, guess, [f"u{row}" for row in range(len(truth))])
    unknown = speaker_interval("CCC", truth, guess)
    assert (unknown.low, unknown.high, unknown.speakers) == (known.low, known.high, len(truth))
    for name in ("Unknown", "unk", "none "):
        named = speaker_interval("CCC", truth, guess, [name] * len(truth))
        assert (named.low, named.high, named.speakers) == (known.low, known.high, len(truth))
        (warning,) = Clusters(["a", name, name, "b"]).warnings
        assert warning.startswith("2 utterances have no known speaker")
    several_seeds = Clusters(["", "a", "", "a"], [("f", 1), ("f", 2), ("f", 1), ("f", 2)])
    assert several_seeds.indices.tolist() == [0, 1, 0, 1]


def test_a_perfect_system_and_one_that_is_not_a_number():
    truth, _, speakers = dimensional(0, speakers=10)
    found = speaker_interval("CCC", truth, truth, speakers)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    found = speaker_interval("CCC", truth, truth * np.nan, speakers)
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    words, _, speakers = categorical(0, speakers=10)
    found = speaker_interval("UAR", words, words, speakers)
    assert (found.value, found.low, found.high) == (1, 1, 1)


# --- permutation test -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_exact_test_equals_counting_all_swaps(metric: str):
    truth, first, speakers = made_for(metric, 8, speakers=7)
    second = made_for(metric, 9, speakers=7)[1]
    second = [*second, *first][: len(first)]
    order = list(dict.fromkeys(speakers))

    def value(guess: list[Any]) -> float:
        if metric in DIMENSIONAL:
            return dimensional_metrics(np.array(truth)[:, None], np.array(guess)[:, None], ["x"])[metric]["x"]
        numbers = [CLASSES.index(word) for word in truth], [CLASSES.index(word) for word in guess]
        return categorical_metrics(numbers[0], np.eye(4)[numbers[1]], CLASSES)[metric]

    def gap(swapped: set[str]) -> float:
        pairs = [(b, a) if s in swapped else (a, b) for a, b, s in zip(first, second, speakers, strict=True)]
        return value([a for a, _ in pairs]) - value([b for _, b in pairs])

    subsets = [set(itertools.compress(order, bits)) for bits in itertools.product((0, 1), repeat=7)]
    observed = gap(set())
    expected = np.mean([abs(gap(subset)) >= abs(observed) - 1e-12 for subset in subsets])
    found = compare_systems(metric, truth, first, second, speakers)
    assert found.exact
    assert found.difference == pytest.approx(observed, abs=1e-9)
    assert found.p_value == pytest.approx(expected, abs=1e-12)


def test_drawn_swaps_agree_with_scipy():
    """For MSE with one utterance per speaker, this is the classical paired sign-flip test."""
    rng = np.random.default_rng(3)
    one, other = rng.random(25) + 0.15, rng.random(25)
    oracle = stats.permutation_test(
        (one, other), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    found = compare_systems("MSE", np.zeros(25), np.sqrt(one), np.sqrt(other), list(range(25)), permutations=20_000)
    assert not found.exact
    assert found.difference == pytest.approx(oracle.statistic, abs=1e-12)
    assert 0.01 < oracle.pvalue < 0.9
    assert found.p_value == pytest.approx(oracle.pvalue, abs=0.012)


def test_p_values_of_equal_systems_are_uniform():
    """If two systems differ by chance, 5 % of the p-values are below 0.05, whatever the speakers' biases."""
    rng, p_values = np.random.default_rng(0), []
    for _ in range(300):
        bias = rng.normal(0, 0.5, (30, 2)).repeat(5, axis=0)
        truth = rng.normal(size=150)
        one, other = (truth + bias[:, column] + rng.normal(0, 0.5, 150) for column in (0, 1))
        speakers = np.arange(30).repeat(5)
        clusters = Clusters(speakers.tolist())
        sums = [dimension_sums(truth, guess, clusters.indices, 30) for guess in (one, other)]
        test = paired_permutation_test(*sums, lambda s: DIMENSIONAL["CCC"](s)[..., None], permutations=999)
        p_values.append(test.p_values[0])
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.09
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_a_difference_that_one_speaker_makes_is_not_significant_and_one_that_all_make_is():
    truth, good, speakers = dimensional(1, speakers=12)
    one_bad = np.where(np.array(speakers) == "s3", 2 * good - 3, good)
    assert compare_systems("MSE", truth, one_bad, good, speakers).p_value == 1.0
    all_bad = good + np.sign(good - truth)
    found = compare_systems("MSE", truth, all_bad, good, speakers)
    assert found.p_value == pytest.approx(2 / 2**12)
    assert found.low > 0


def test_identical_systems():
    truth, guess, speakers = dimensional(1, speakers=40)
    found = compare_systems("CCC", truth, guess, guess, speakers)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_smallest_p_value_of_drawn_swaps():
    truth, guess, speakers = dimensional(1, speakers=60)
    found = compare_systems("MSE", truth, guess + 3, guess, speakers, permutations=499)
    assert found.p_value == 1 / 500


def test_interval_of_a_difference_is_paired():
    """Systems with similar errors have a narrow interval of the difference, even if each alone has a wide one."""
    truth, guess, speakers = dimensional(1, speakers=30)
    found = compare_systems("CCC", truth, 0.98 * guess, guess, speakers)
    alone = speaker_interval("CCC", truth, guess, speakers)
    assert found.low < found.difference < found.high
    assert found.high - found.low < 0.3 * (alone.high - alone.low)


# --- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []
    found = holm([0.02, math.nan, 0.03])
    assert found[[0, 2]].tolist() == pytest.approx([0.04, 0.04])
    assert math.isnan(found[1])


@DRAWN
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_definition(p_values: list[float]):
    """Holm 1979: the i-th smallest is compared with alpha / (n - i + 1), until one is not below."""
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.2, 0.8):
        rejected, order = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
        for rank, index in enumerate(order):
            if p_values[index] * (len(p_values) - rank) > alpha:
                break
            rejected.add(index)
        assert {index for index in range(len(p_values)) if adjusted[index] <= alpha} == rejected


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: speaker_interval("CCC", [], []), LabelError, "equally long and hold at least one utterance"),
        (lambda: speaker_interval("WA", [], []), LabelError, "equally long and hold at least one utterance"),
        (lambda: speaker_interval("CCC", [1.0, 2.0], [1.0]), LabelError, "equally long"),
        (lambda: speaker_interval("WA", ["a"], ["a", "b"], ["s"]), LabelError, "equally long"),
        (lambda: speaker_interval("CCC", [1.0], [1.0], ["a", "b"]), LabelError, "equally long"),
        (lambda: speaker_interval("CCC", [1.0], [1.0], level=1.0), UsageError, r"level 1.0 must lie in \(0, 1\)"),
        (lambda: speaker_interval("CCC", [1.0], [1.0], resamples=0), UsageError, "resamples 0 be 1 or more"),
        (lambda: compare_systems("CCC", [1.0], [1.0], [1.0], permutations=0), UsageError, "permutation test"),
        (lambda: compare_systems("UAR", ["a"], ["a"], ["a", "b"]), LabelError, "equally long"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        call()
