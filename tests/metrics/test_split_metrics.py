"""Test the metrics of multi-task heads: evaluated classes, hypothesis pairs, joined dimensions, and the figures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import fill_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image
from numpy.typing import NDArray

from s3prl_emotion.errors import EmotionError, LabelError, TrainingError
from s3prl_emotion.figures.split_plots import (
    plot_confusion,
    plot_hypotheses,
    plot_reliability,
    plot_speakers,
    plot_split,
)
from s3prl_emotion.metrics.calibration import reliability_table
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.dimensional import dimensional_metrics
from s3prl_emotion.metrics.distribution import agreement, threshold_f1
from s3prl_emotion.metrics.split import hypothesis_pairs, join_dimensions, restrict_classes, split_metrics

Array = NDArray[np.float64]
LEARNT = ("neutral", "happy", "angry", "sad", "fear")
EVALUATED = ("sad", "neutral", "angry")
NAMES = ("EmoAct", "EmoVal")


def random_split(seed: int, utterances: int = 60) -> dict[str, Any]:
    """Draw arguments of split_metrics."""
    generator = np.random.default_rng(seed)
    graders = np.array([generator.multinomial(5, row) for row in generator.dirichlet(np.ones(5), utterances)]) / 5
    truth = np.where(graders.max(axis=1) > 0.4, graders.argmax(axis=1), -1)
    truth[0] = 0
    numbers = generator.integers(8, size=utterances)
    return {
        "truth": truth,
        "probabilities": generator.dirichlet(np.ones(5), utterances),
        "classes": LEARNT,
        "evaluated": EVALUATED,
        "graders": graders,
        "speakers": [f"s{number}" for number in numbers],
        "genders": ["Male" if number % 2 else "Female" for number in numbers],
        "min_utterances": 2,
    }


def dimensions(seed: int, split: dict[str, Any]) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(1, 7, size=(len(split["truth"]), 2))
    return dimensional_metrics(
        truth, truth + generator.normal(size=truth.shape), NAMES, split["speakers"], split["genders"]
    )


# --- evaluated classes ----------------------------------------------------------------------------------------------


def test_restriction_by_hand() -> None:
    rows = np.array([
        [0.2, 0.5, 0.1, 0.1, 0.1],  # neutral
        [0.1, 0.1, 0.1, 0.6, 0.1],  # happy: left out
        [0.0, 0.6, 0.0, 0.0, 0.4],  # sad: nothing in the evaluated classes
        [0.2, 0.2, 0.2, 0.2, 0.2],  # no consensus
        [0.0, 0.0, 0.3, 0.1, 0.6],  # angry
    ])  # fmt: skip
    part = restrict_classes([0, 1, 3, -1, 2], rows, LEARNT, EVALUATED)
    assert part.classes == EVALUATED
    assert part.kept.tolist() == [0, 2, 4]
    assert part.truth.tolist() == [1, 0, 2]
    assert part.probabilities == pytest.approx(np.array([[1 / 4, 1 / 2, 1 / 4], [1 / 3] * 3, [1 / 4, 0, 3 / 4]]))
    assert (part.no_consensus, part.other_class, part.no_mass) == (1, 1, 1)


@pytest.mark.parametrize("nobody", [-1, -2, -3])
def test_any_negative_index_is_no_consensus(nobody: int) -> None:
    part = restrict_classes([0, nobody], np.eye(5)[[0, 1]], LEARNT, EVALUATED)
    assert (part.no_consensus, part.kept.tolist()) == (1, [0])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), chosen=st.permutations(LEARNT), count=st.integers(2, 5))
def test_restriction_is_the_conditional_distribution(seed: int, chosen: list[str], count: int) -> None:
    split = random_split(seed, 30)
    evaluated = chosen[:count]
    split["truth"][0] = LEARNT.index(evaluated[0])
    part = restrict_classes(split["truth"], split["probabilities"], LEARNT, evaluated)
    assert len(part.kept) + part.no_consensus + part.other_class == 30
    assert part.no_mass == 0
    for place, label, row in zip(part.kept, part.truth, part.probabilities, strict=True):
        assert evaluated[label] == LEARNT[split["truth"][place]]
        mass = sum(split["probabilities"][place][LEARNT.index(name)] for name in evaluated)
        expected = [split["probabilities"][place][LEARNT.index(name)] / mass for name in evaluated]
        assert row.tolist() == pytest.approx(expected, rel=1e-12)


def test_smallest_numbers_are_mass() -> None:
    tiny = 5e-324
    part = restrict_classes([0], np.array([[tiny, 1.0, 0, tiny, 0]]), LEARNT, EVALUATED)
    assert part.no_mass == 0
    assert part.probabilities.tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize(
    ("evaluated", "truth", "message"),
    [
        (("sad", "angri"), [0, 1], "'angri' is not one that the head has learnt; nearest: angry"),
        (("sad", "sad"), [0, 1], "'sad' is named twice"),
        (("sad",), [3, 3], "evaluated classes: sad; name two or more"),
        ((), [0, 1], "evaluated classes: none; name two or more"),
        (("sad", "fear"), [0, -1], "no utterance of the split has one of the classes sad, fear"),
        (EVALUATED, [0, 5], "true class of utterance 1 is 5; expected 0 to 4"),
    ],
)
def test_bad_classes(evaluated: tuple[str, ...], truth: list[int], message: str) -> None:
    for measure in (restrict_classes, split_metrics):
        with pytest.raises(LabelError, match=message) as error:
            measure(truth, np.full((2, 5), 0.2), LEARNT, evaluated)
        assert "\n" not in str(error.value)


# --- first and second hypothesis ------------------------------------------------------------------------------------


def test_hypotheses_by_hand() -> None:
    rows = np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.1, 0.6, 0.3], [1 / 3] * 3])
    pairs = hypothesis_pairs([0, 0, 0, 0, 1, 1], rows, ["a", "b", "c"])
    assert pairs["a"] == {"utterances": 4, "shares": [[0, 0.25, 0.25], [0.5, 0, 0], [0, 0, 0]]}
    assert pairs["b"] == {"utterances": 2, "shares": [[0, 0.5, 0], [0, 0, 0.5], [0, 0, 0]]}  # the tie: a, then b
    assert pairs["c"] == {"utterances": 0, "shares": None}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_hypotheses_are_the_plain_loop(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    truth, rows = generator.integers(classes, size=25), generator.dirichlet(np.ones(classes), 25)
    pairs = hypothesis_pairs(truth, rows, [str(k) for k in range(classes)])
    expected = np.zeros((classes, classes, classes))
    for label, row in zip(truth, rows.tolist(), strict=True):
        first, second = sorted(range(classes), key=lambda k: -row[k])[:2]
        expected[label, first, second] += 1
    for label, first, second in itertools.product(range(classes), repeat=3):
        found = pairs[str(label)]
        assert found["utterances"] == (truth == label).sum()
        if found["shares"] is not None:
            assert found["shares"][first][second] == pytest.approx(expected[label, first, second] / found["utterances"])
    for label in sorted(set(truth.tolist())):
        shares = np.array(pairs[str(label)]["shares"])
        assert shares.sum() == pytest.approx(1.0)
        assert shares[label].sum() == pytest.approx((rows[truth == label].argmax(axis=1) == label).mean())


def test_no_second_hypothesis_of_one_class() -> None:
    with pytest.raises(LabelError, match="a second hypothesis needs two or more"):
        hypothesis_pairs([0], np.ones((1, 1)), ["a"])


# --- everything -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_those_of_the_functions(seed: int) -> None:
    split = random_split(seed)
    metrics = split_metrics(**split)
    part = restrict_classes(split["truth"], split["probabilities"], LEARNT, EVALUATED)
    assert metrics["classes"] == list(LEARNT)
    assert metrics["evaluated_classes"] == list(EVALUATED)
    assert metrics["counts"] == {
        "utterances": 60,
        "evaluated": len(part.kept),
        "no_consensus": int((split["truth"] < 0).sum()),
        "other_class": int(np.isin(split["truth"], [1, 4]).sum()),
        "no_mass": 0,
    }
    speakers, genders = ([split[key][place] for place in part.kept] for key in ("speakers", "genders"))
    plain = categorical_metrics(part.truth.tolist(), part.probabilities, EVALUATED, speakers, genders)
    for key in ("utterances", "WA", "UAR", "macro_f1", "recall", "confusion", "ECE"):
        assert metrics[key] == plain[key]
    for key in ("per_speaker", "per_gender"):
        for name, entry in plain[key].items():
            assert {inner: metrics[key][name][inner] for inner in entry} == entry
    assert metrics["reliability"] == reliability_table(part.truth, part.probabilities)
    assert metrics["hypotheses"] == hypothesis_pairs(part.truth, part.probabilities, EVALUATED)
    assert metrics["agreement"] == agreement(split["graders"], split["probabilities"])
    assert metrics["threshold_F1"] == threshold_f1(split["graders"], split["probabilities"], LEARNT)
    assert metrics["agreement"]["utterances"] == 60
    assert set(metrics["per_speaker"]) == set(split["speakers"])
    assert list(metrics["n_best"]) == list(metrics["per_gender"]["Male"]["n_best"]) == ["1", "2"]  # of three classes


def test_order_of_the_evaluated_classes_only_moves_columns() -> None:
    split = random_split(4)
    first = split_metrics(**split)
    second = split_metrics(**split | {"evaluated": EVALUATED[::-1]})
    assert np.array(second["confusion"])[::-1, ::-1].tolist() == first["confusion"]
    for key in ("WA", "UAR", "macro_f1", "recall", "paUAR", "speakers", "agreement", "threshold_F1"):
        assert second[key] == pytest.approx(first[key]) if isinstance(first[key], float) else second[key] == first[key]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_order_of_utterances_changes_nothing(seed: int) -> None:
    split = random_split(seed, 30)
    order = np.random.default_rng(seed).permutation(30)
    moved = dict(split)
    for key in ("truth", "probabilities", "graders"):
        moved[key] = split[key][order]
    for key in ("speakers", "genders"):
        moved[key] = [split[key][place] for place in order]
    first, second = split_metrics(**split), split_metrics(**moved)
    for key in ("counts", "WA", "UAR", "macro_f1", "confusion", "n_best", "per_speaker", "per_gender", "hypotheses"):
        assert second[key] == first[key]
    assert second["ECE"] == pytest.approx(first["ECE"])
    assert second["agreement"]["JS"] == pytest.approx(first["agreement"]["JS"])
    assert second["threshold_F1"] == first["threshold_F1"]


def test_perfect_head() -> None:
    split = random_split(0)
    consensus = np.where(split["graders"].max(axis=1) > 0.5, split["graders"].argmax(axis=1), -1)
    metrics = split_metrics(**split | {"probabilities": split["graders"], "truth": consensus})
    assert metrics["WA"] == metrics["UAR"] == metrics["macro_f1"] == 1.0
    assert metrics["paUAR"] == {"50": 1.0, "75": 1.0}
    assert metrics["agreement"]["JS"] == metrics["agreement"]["KL"] == 0.0
    assert metrics["threshold_F1"]["macro_f1"] == 1.0


def test_least_that_a_split_can_be() -> None:
    metrics = split_metrics([0], np.eye(5)[:1], LEARNT)
    assert metrics["evaluated_classes"] == list(LEARNT)
    assert metrics["UAR"] == 1.0
    assert not {"per_speaker", "per_gender", "speakers", "paUAR", "agreement", "threshold_F1"} & set(metrics)


def test_result_is_plain_json() -> None:
    for seed, utterances in ((0, 60), (1, 1), (2, 2)):
        split = random_split(seed, utterances)
        split["probabilities"] = split["probabilities"].astype(np.float32)
        metrics = split_metrics(**split, dimensional=dimensions(seed, split))
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_dimensions_are_joined_group_by_group() -> None:
    split = random_split(0)
    both, classes, other = (
        split_metrics(**split, dimensional=dimensions(0, split)),
        split_metrics(**split),
        dimensions(0, split),
    )
    assert both["utterances"] == classes["utterances"] < both["dimension_utterances"] == 60
    for key in ("CCC", "mean_CCC", "Pearson", "MSE", "MSE_per_bin"):
        assert both[key] == other[key]
    for key in ("per_speaker", "per_gender"):
        for name, entry in both[key].items():
            assert entry["CCC"] == other[key][name]["CCC"]
            assert entry["dimension_utterances"] == other[key][name]["utterances"]
            assert {inner: entry[inner] for inner in classes[key][name]} == classes[key][name]
    assert both["paUAR"] == classes["paUAR"]
    assert join_dimensions(classes, other) == both


def test_dimensions_of_another_split_are_refused() -> None:
    split = random_split(0)
    other = dimensions(0, split | {"speakers": ["stranger"] * 60})
    with pytest.raises(LabelError, match="per_speaker has 'stranger'"):
        split_metrics(**split, dimensional=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": np.full((2, 5), np.nan)}, "probabilities: class 0 of utterance 0 is nan"),
        ({"probabilities": np.full((2, 5), 0.1)}, "probabilities: the row of utterance 0 sums to 0.5"),
        ({"probabilities": np.full((2, 4), 0.25)}, r"probabilities: shape \[2, 4\], expected \[N, 5\]"),
        ({"graders": np.full((2, 5), 0.1)}, "grader shares: the row of utterance 0 sums to 0.5"),
        ({"graders": np.full((2, 4), 0.25)}, r"grader shares \[2, 4\] and probabilities \[2, 5\]"),
        ({"truth": [0]}, "for 2 utterances"),
        ({"speakers": ["a"]}, "speakers: 1 for 2 utterances"),
        ({"min_utterances": 0}, "min_utterances: 0"),
        ({"classes": ("a", "b", "c", "d", "a")}, "'a' is named twice"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given = {"truth": [0, 2], "probabilities": np.full((2, 5), 0.2), "classes": LEARNT} | change
    with pytest.raises(EmotionError, match=message) as error:
        split_metrics(**given)
    assert "\n" not in str(error.value)


# --- figures --------------------------------------------------------------------------------------------------------


def picture(path: Path) -> NDArray[np.float32]:
    pixels = image.imread(path)
    assert pixels.min() < 0.2  # something is drawn
    assert pixels[..., :3].mean() > 0.5  # on white
    return pixels


@pytest.mark.filterwarnings("error")
def test_figures_of_a_split(tmp_path: Path) -> None:
    metrics = json.loads(json.dumps(split_metrics(**random_split(0))))
    written = plot_split(tmp_path / "new", "test_fold1", metrics)
    assert [path.name for path in written] == [
        f"test_fold1_{name}.png" for name in ("hypotheses", "reliability", "speakers")
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)
    before = [picture(path) for path in written]
    plot_split(tmp_path / "new", "test_fold1", metrics)
    assert all((picture(path) == pixels).all() for path, pixels in zip(written, before, strict=True))


@pytest.mark.full
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("known", [False, True])
def test_figures_of_one_utterance(tmp_path: Path, known: bool) -> None:
    """Absent classes, a single speaker, undefined correlations, and names that look like formulas can be drawn."""
    classes = ["$a^$", "b_c", r"d\e", "x" * 30]
    metrics = split_metrics([0], np.eye(4)[:1], classes, speakers=["s"] if known else None)
    assert len(plot_split(tmp_path, "te$t_$1", metrics)) == 2 + known
    for path in tmp_path.iterdir():
        picture(path)


def test_no_speaker_figure_where_no_speaker_counts(tmp_path: Path) -> None:
    split = random_split(0) | {"min_utterances": 50}
    metrics = split_metrics(**split)
    assert [path.name for path in plot_split(tmp_path, "t", metrics)] == ["t_hypotheses.png", "t_reliability.png"]
    with pytest.raises(LabelError, match="no speaker has 50 utterances or more"):
        plot_speakers(tmp_path / "s.png", metrics["per_speaker"], EVALUATED, "t", 50)


@pytest.mark.full
@pytest.mark.parametrize("number", [2, 4, 13])
def test_as_many_classes_as_there_are(tmp_path: Path, number: int) -> None:
    classes = [f"class {k}" for k in range(number)]
    generator = np.random.default_rng(0)
    truth, rows = generator.integers(number, size=30), generator.dirichlet(np.ones(number), 30)
    pairs = hypothesis_pairs(truth, rows, classes)
    height, width = picture(plot_hypotheses(tmp_path / "p.png", pairs, classes, "title")).shape[:2]
    assert max(height, width) < 4000


def test_figures_say_what_the_numbers_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(
        "s3prl_emotion.figures.split_plots.save_figure", lambda figure, path: kept.append(figure) or path
    )
    metrics = split_metrics(**random_split(0))
    plot_split(tmp_path, "t", metrics)
    pairs, reliability, speakers = kept
    panel = pairs.axes[0]
    assert panel.get_title() == f"true: sad ({metrics['hypotheses']['sad']['utterances']})"
    shown = 100 * np.array(metrics["hypotheses"]["sad"]["shares"])
    assert np.ma.filled(panel.images[0].get_array(), 0.0) == pytest.approx(shown)
    assert [tuple(patch.get_bbox().bounds) for patch in panel.patches] == [(-0.5, -0.5, 3, 1), (-0.5, -0.5, 1, 3)]
    assert [tuple(patch.get_bbox().bounds) for patch in pairs.axes[2].patches] == [(-0.5, 1.5, 3, 1), (1.5, -0.5, 1, 3)]
    filled = [row for row in metrics["reliability"] if row["utterances"]]
    assert [bar.get_height() for bar in reliability.axes[0].patches] == pytest.approx(
        [row["accuracy"] for row in filled]
    )
    assert [bar.get_height() for bar in reliability.axes[1].patches] == [row["utterances"] for row in filled]
    for name, axes in zip(EVALUATED, speakers.axes, strict=True):
        assert axes.get_title(loc="left") == name
        assert axes.get_title(loc="right") == f"ρ {metrics['UAR_against_share'][name]:+.2f}"
        points = axes.collections[0].get_offsets()
        entries = [entry for entry in metrics["per_speaker"].values() if entry["utterances"] >= 2]
        assert points[:, 1].tolist() == pytest.approx([100 * entry["UAR"] for entry in entries])
        shares = [100 * entry["class_counts"][name] / entry["utterances"] for entry in entries]
        assert points[:, 0].tolist() == pytest.approx(shares)
        left, right = axes.get_xlim()
        assert left < min(shares)
        assert max(shares) < right


def test_figure_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ünï r.png"
    table = reliability_table([0, 1], np.eye(2))
    plot_reliability(path, table, "before")
    before = path.read_bytes()
    fill_disk(monkeypatch)
    with pytest.raises(TrainingError, match="No space left on device"):
        plot_reliability(path, table, "after")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(TrainingError, match="could not be written"):
        plot_confusion(tmp_path / "taken" / "c.png", [[1, 0], [0, 1]], ["a", "b"], "t")
