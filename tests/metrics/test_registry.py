"""Test the registry of metrics: entries are complete, files and reports follow them, values equal audmetric's."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
from types import ModuleType

import audmetric
import numpy as np
import pytest

from s3prl_emotion import metrics as package
from s3prl_emotion.benchmark import published
from s3prl_emotion.metrics import registry
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.class_scores import class_counts, whole_split
from s3prl_emotion.metrics.dimensional import dimensional_metrics
from s3prl_emotion.metrics.metric import Metric
from s3prl_emotion.report.computing.scores import flat_metrics

MODULES = [
    importlib.import_module(item.name) for item in pkgutil.walk_packages(package.__path__, "s3prl_emotion.metrics.")
]
CLASSES = ("ang", "hap", "neu", "sad")


@pytest.mark.parametrize("name", registry.METRICS)
def test_every_entry_is_complete(name: str) -> None:
    metric = registry.METRICS[name]
    assert metric.name == name
    assert metric.label
    assert metric.low < metric.high
    assert registry.find(name) is metric
    assert registry.find(f"{name}.EmoVal") is metric or "." in name
    if metric.kind in ("classes", "dimensions", "probabilities"):
        assert metric.of_split is not None
    if metric.priority is not None:
        assert metric.better == "higher"  # whatever picks a checkpoint or ranks systems takes the largest


def test_names_for_readers() -> None:
    titles = {"UAR": "UA (UAR), %", "macro_f1": "macro-F1, %", "CCC.EmoVal": "CCC valence", "mean_CCC": "mean CCC",
              "JS": "JS (bits)", "entropy.model": "model's entropy (bits)", "joint": "mean of UAR and mean CCC",
              "true.EmoAct": "true activation", "unheard of": "unheard of"}  # fmt: skip
    assert {name: registry.label(name) for name in titles} == titles
    assert registry.label("UAR", short=True) == "UAR, %"
    assert registry.label("UAR", unit=False) == "UA (UAR)"
    assert [registry.scale(name) for name in ("UAR.Female", "CCC", "unheard of")] == [100, 1, 1]
    assert [registry.digits(name) for name in ("UAR.Female", "CCC", "unheard of")] == [1, 3, 3]


def test_metrics_that_pick_checkpoints_and_rank_systems() -> None:
    assert registry.best_metrics(classes=True) == ("WA", "UAR", "macro_f1")
    assert registry.best_metrics(dimensions=True) == ("mean_CCC",)
    assert registry.best_metrics(classes=True, dimensions=True) == ("joint", "WA", "UAR", "macro_f1", "mean_CCC")
    assert registry.ranking() == ("UAR", "mean_CCC", "WA", "macro_f1")


def test_scores() -> None:
    assert registry.score({"UAR": 0.5, "mean_CCC": 0.1}, "joint") == pytest.approx(0.3)
    assert registry.score({"UAR": 0.5}, "joint") is None
    assert registry.score({"WA": float("nan")}, "WA") is None
    assert registry.score({}, "WA") is None
    assert registry.score({"agreement": {"JS": 0.25}}, "JS") == 0.25


def test_published_numbers_may_be_of_every_score() -> None:
    assert {"UAR", "CCC.EmoAct", "mean_MSE", "relative_size", "label_R2.EmoDom"} <= set(published.METRICS)
    assert len(published.METRICS) == len(set(published.METRICS)) == 3 * 3 + 3 * 3 + 3 + 3 + 1


def test_one_entry_is_all_that_a_metric_of_classes_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighted F1, with a form for resampling, is in files, reports and ``best_metric``."""

    def weighted_f1(counts: np.ndarray) -> np.ndarray:
        hits, true, guessed = np.split(counts, 3, axis=-1)
        shares = true / true.sum(axis=-1, keepdims=True)
        return (shares * 2 * hits / np.maximum(true + guessed, 1)).sum(axis=-1)

    entry = Metric("weighted_f1", "classes", "weighted F1", percent=True, priority=5,
                   of_split=whole_split(weighted_f1), from_sums=weighted_f1)  # fmt: skip
    monkeypatch.setitem(registry.METRICS, entry.name, entry)
    truth, guess = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    metrics = categorical_metrics(truth, np.eye(4)[guess], CLASSES)
    assert metrics["weighted_f1"] == pytest.approx(3 / 4 * 4 / 5 + 1 / 4 * 2 / 3)
    assert flat_metrics(metrics)["weighted_f1"] == metrics["weighted_f1"]
    counts = class_counts(truth, guess, np.zeros(4, dtype=int), 1, 4)[0]
    assert registry.resampled("classes")["weighted_f1"](counts) == pytest.approx(metrics["weighted_f1"])
    assert registry.best_metrics(classes=True)[-1] == "weighted_f1"
    assert registry.label("weighted_f1") == "weighted F1, %"


def test_one_entry_is_all_that_a_metric_of_dimensions_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean absolute error, without a form for resampling, is in files and reports."""
    entry = Metric("MAE", "dimensions", "MAE", better="lower", high=math.inf, main=False,
                   of_split=lambda truth, prediction: float(np.abs(truth - prediction).mean()))  # fmt: skip
    for metric in (entry, entry.mean):
        monkeypatch.setitem(registry.METRICS, metric.name, metric)
    truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    metrics = dimensional_metrics(truth, truth + np.array([1.0, 3.0]), ["EmoAct", "EmoVal"])
    assert metrics["MAE"] == {"EmoAct": 1.0, "EmoVal": 3.0}
    assert metrics["mean_MAE"] == 2.0
    assert flat_metrics(metrics)["MAE.EmoVal"] == 3.0
    assert "MAE" not in registry.resampled("dimensions")
    assert registry.label("MAE.EmoVal") == "MAE valence"
    assert registry.best_metrics(dimensions=True) == ("mean_CCC",)


@pytest.mark.parametrize("seed", range(20))
def test_values_equal_audmetric_to_the_last_digit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count, classes = int(generator.integers(2, 80)), int(generator.integers(2, 12))
    truth, guess = generator.integers(classes, size=(2, count)).tolist()
    found = categorical_metrics(truth, np.eye(classes)[guess], range(classes))
    everything, present = list(range(classes)), sorted(set(truth))
    recall = audmetric.recall_per_class(truth, guess, labels=everything)
    fscore = audmetric.fscore_per_class(truth, guess, labels=everything)
    assert found["WA"] == audmetric.accuracy(truth, guess)
    assert found["UAR"] == np.mean([recall[index] for index in present])
    assert found["macro_f1"] == np.mean([fscore[index] for index in present])
    assert found["recall"] == {index: recall[index] if index in present else None for index in everything}
    assert found["confusion"] == audmetric.confusion_matrix(truth, guess, labels=everything)
    values, estimates = generator.normal(4, 1, (2, count)) * 10.0 ** generator.integers(-3, 4)
    rated = dimensional_metrics(values[:, None], estimates[:, None], ["x"])
    assert rated["CCC"]["x"] == audmetric.concordance_cc(values, estimates)
    assert rated["Pearson"]["x"] == audmetric.pearson_cc(values, estimates)
    assert rated["MSE"]["x"] == audmetric.mean_squared_error(values, estimates)


def test_ranges_are_those_of_published_numbers() -> None:
    metrics = [registry.METRICS[name] for name in ("UAR", "mean_CCC", "mean_MSE")]
    assert {metric.name: (metric.low, metric.high) for metric in metrics} == {
        "UAR": (0, 1),
        "mean_CCC": (-1, 1),
        "mean_MSE": (0, math.inf),
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.removeprefix("s3prl_emotion.metrics."))
def test_examples_in_docstrings(module: ModuleType) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_metrics_have_examples() -> None:
    """The main metrics have examples, so the test above is not empty."""
    found = {test.name.rpartition(".")[2] for module in MODULES for test in doctest.DocTestFinder().find(module)
             if test.examples}  # fmt: skip
    assert {"accuracy", "unweighted_recall", "macro_f1", "concordance", "pearson", "squared_error"} <= found
