"""``s3prl-emotion report``: scores, intervals, differences and the page, recomputed here from the predictions."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import audmetric
import numpy as np
import pandas as pd
import pytest
from full_disk import fill_disk
from speaker_statistics import compare_systems, speaker_interval

import s3prl_emotion.cli
from s3prl_emotion.errors import EmotionError, UsageError
from s3prl_emotion.metrics.categorical import categorical_metrics
from s3prl_emotion.metrics.dimensional import dimensional_metrics
from s3prl_emotion.metrics.registry import label
from s3prl_emotion.report import Score, analyse, load_study, write_report
from s3prl_emotion.report.computing.seeds import SeedScores, scores_of_seeds
from s3prl_emotion.report.environment import tex
from s3prl_emotion.report.reading.predictions import read_predictions
from s3prl_emotion.report.words import count, interval, number, p_value

DIMENSIONS = ("EmoAct", "EmoVal", "EmoDom")
CLASSES = ("ang", "hap", "neu", "sad")
SYSTEMS = ("whole", "80 % <CCS> & co_1", "half")
SPREAD = ("mean", "std", "seed_min", "seed_max")
PUBLISHED = [
    {"upstream": "up", "split": "test", "system": "whole", "metric": "CCC.EmoVal", "value": 0.67, "source": "Table 2"},
    {
        "upstream": "up",
        "split": "test",
        "system": "half",
        "metric": "relative_size",
        "value": 0.51,
        "source": "Table 2",
    },
    {
        "upstream": "up", "split": "test", "system": "half", "metric": "CCC.EmoAct", "value": 0.55, "source": "Table 3",
        "std": 0.03, "min": 0.5, "max": 0.6, "note": "Of ten <seeds>.",
    },
]  # fmt: skip


def write_split(folder: Path, stem: str, split: str, fold: str, level: float, seed: Sequence[int], kind: str) -> None:
    """Predictions and metrics of a split as a head leaves them; ``level`` is how good they are."""
    labels, draw = np.random.default_rng([7, *map(ord, fold)]), np.random.default_rng(seed)
    speakers = [f"{fold}-s{index // 8}" for index in range(96)]
    table = pd.DataFrame({"FileName": [f"{fold}/{index}.wav" for index in range(96)], "SpkrID": speakers, "Gender": ""})
    about: dict[str, Any] = {"split": split, "fold": fold, "checkpoint": "dev-best.ckpt"}
    if kind != "categorical":
        truth = np.round(4 + labels.normal(0, 1, (96, 3)), 3)
        bias = draw.normal(0, 0.3, (12, 3)).repeat(8, axis=0)
        guess = np.round(4 + level * (truth - 4) + bias + draw.normal(0, 0.4, (96, 3)), 3)
        for column, name in enumerate(DIMENSIONS):
            table[name], table[f"{name}_pred"] = truth[:, column], guess[:, column]
        about |= dimensional_metrics(truth, guess, DIMENSIONS, speakers)
    if kind != "dimensional":
        truth = labels.integers(0, 4, 96)
        guess = np.where(draw.random(96) < level, truth, draw.integers(0, 4, 96))
        table["truth"], table["prediction"] = [CLASSES[i] for i in truth], [CLASSES[i] for i in guess]
        about |= categorical_metrics(truth.tolist(), np.eye(4)[guess], CLASSES, speakers)
    table.to_csv(folder / f"{stem}_predictions.csv", index=False)
    about |= {"num_parameters": 1000, "model_size_mb": 0.004, "versions": {"torch": "2"}, "seed": 1}
    (folder / f"{stem}_metrics.json").write_text(json.dumps(about))


def write_benchmark(
    folder: Path,
    kind: str = "dimensional",
    splits: Sequence[str] = ("test",),
    folds: Sequence[str] = ("fold1", "fold2"),
    seeds: Sequence[int] = (1, 2),
    systems: Sequence[str] = SYSTEMS,
    upstreams: Sequence[str] = ("up",),
    **about: Any,
) -> Path:
    """A benchmark's directory, as ``s3prl-emotion benchmark`` leaves it."""
    lines, runs = [], []
    for upstream in upstreams:
        for index, system in enumerate(systems):
            for fold in folds:
                for seed in seeds:
                    name = f"{upstream} | {system} | {fold} | seed {seed}"
                    exp = folder / "runs" / upstream / str(index) / f"{fold}-{seed}" / "exp"
                    exp.mkdir(parents=True)
                    line_splits = {}
                    for number_, split in enumerate(splits):
                        stem = f"{split}_{fold}"
                        level = 0.8 - 0.2 * index - 0.1 * number_
                        write_split(exp, stem, split, fold, level, [index, seed, number_], kind)
                        metrics = json.loads((exp / f"{stem}_metrics.json").read_text())
                        place = (exp / f"{stem}_predictions.csv").relative_to(folder)
                        line_splits[split] = {"predictions": str(place), "metrics": metrics}
                    runs.append({"run": name, "definition": "d", "folder": str(exp.parent.relative_to(folder))})
                    lines.append(
                        {"format": 1, "run": name, "definition": "d", "upstream": upstream, "system": system,
                         "fold": fold, "seed": seed, "splits": line_splits,
                         "num_parameters": max(200, 1000 - 400 * index),
                         "model_size_mb": 0.004, "versions": {"torch": "2"}, "git": "a" * 40}
                    )  # fmt: skip
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    matrix = {
        "title": "Made <up> & small", "notes": "Notes.", "head": "emotion_tcgru", "baseline": systems[0],
        "upstreams": list(upstreams), "systems": {system: {"a.b": index} for index, system in enumerate(systems)},
        "tests": list(splits), "published": PUBLISHED if kind == "dimensional" else [], "runs": runs,
    }  # fmt: skip
    (folder / "matrix.json").write_text(json.dumps(matrix | about))
    return folder


def predictions_of(folder: Path, system: int, fold: str, seed: int, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(folder / f"runs/up/{system}/{fold}-{seed}/exp/{split}_{fold}_predictions.csv")


def rows_of(folder: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of ``report.csv`` by upstream, split, system and metric."""
    rows = csv.DictReader(io.StringIO((folder / "report.csv").read_text()))
    return {tuple(row[key] for key in ("upstream", "split", "system", "metric")): row for row in rows}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark with its report, of dimensions, two folds and two seeds; tests must not write into it."""
    folder = write_benchmark(tmp_path_factory.mktemp("made"), splits=["test", "test_5dB"])
    write_report(analyse(load_study([folder]), resamples=2000), folder)
    return folder


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["CCC", "Pearson", "MSE"])
def test_scores_are_those_of_the_predictions(made: Path, metric: str):
    function = {"CCC": audmetric.concordance_cc, "Pearson": audmetric.pearson_cc, "MSE": audmetric.mean_squared_error}
    for system, name in enumerate(SYSTEMS):
        row = rows_of(made)["up", "test", name, f"{metric}.EmoVal"]
        tables = {
            (fold, seed): predictions_of(made, system, fold, seed) for fold in ("fold1", "fold2") for seed in (1, 2)
        }
        values = [function[metric](table.EmoVal, table.EmoVal_pred) for table in tables.values()]
        assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-9)
        assert float(row["std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert float(row["min"]) == pytest.approx(min(values), abs=1e-9)
        assert float(row["max"]) == pytest.approx(max(values), abs=1e-9)
        together = [pd.concat([tables["fold1", seed], tables["fold2", seed]]) for seed in (1, 2)]
        pooled = np.mean([function[metric](table.EmoVal, table.EmoVal_pred) for table in together])
        assert float(row["pooled"]) == pytest.approx(pooled, abs=1e-9)
        assert float(row["low"]) < pooled < float(row["high"])
        assert (row["runs"], row["utterances"], row["speakers"]) == ("4", "192", "24")


def test_intervals_and_differences_of_one_seed_are_the_librarys(tmp_path: Path):
    folder = write_benchmark(tmp_path, seeds=[1])
    analysis = analyse(load_study([folder]), resamples=1000, seed=3)
    table, other = (
        pd.concat([predictions_of(folder, system, fold, 1) for fold in ("fold1", "fold2")]) for system in (2, 0)
    )
    table, other = table.sort_values("FileName"), other.sort_values("FileName")
    for metric in ("CCC", "MSE"):
        score = analysis.parts[0].rows[2].scores[f"{metric}.EmoAct"]
        expected = speaker_interval(metric, table.EmoAct, table.EmoAct_pred, list(table.SpkrID), resamples=1000, seed=3)
        assert (score.pooled, score.low, score.high) == pytest.approx(
            (expected.value, expected.low, expected.high), abs=1e-9
        )
        gap = compare_systems(
            metric, table.EmoAct, table.EmoAct_pred, other.EmoAct_pred, list(table.SpkrID), resamples=1000,
            permutations=1000, seed=3,
        )  # fmt: skip
        assert score.difference is not None
        ours = (score.difference.value, score.difference.low, score.difference.high, score.difference.p_value)
        assert ours == pytest.approx((gap.difference, gap.low, gap.high, gap.p_value), abs=1e-9)
    assert analysis.parts[0].rows[0].scores["CCC.EmoAct"].difference is None  # the baseline


def test_only_utterances_of_evaluated_classes_are_pooled(tmp_path: Path):
    folder = write_benchmark(tmp_path, kind="categorical", seeds=[1], systems=SYSTEMS[:1])
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        metrics = line["splits"]["test"]["metrics"]
        metrics |= {"evaluated_classes": ["ang", "hap", "neu"], "confusion": np.eye(3, dtype=int).tolist()}
        place = folder / line["splits"]["test"]["predictions"]
        table = pd.read_csv(place)
        table.loc[table.index[:5], "truth"] = ""  # no consensus
        table.to_csv(place, index=False)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tables = pd.concat([predictions_of(folder, 0, fold, 1) for fold in ("fold1", "fold2")])
    kept = tables[tables.truth.isin(["ang", "hap", "neu"])]
    expected = np.mean([(own.prediction == name).mean() for name, own in kept.groupby("truth")])
    score = analyse(load_study([folder]), resamples=100).parts[0].rows[0].scores["UAR"]
    assert score.pooled == pytest.approx(expected, abs=1e-9)
    assert score.low < expected < score.high


@pytest.mark.usefixtures("undrawn")
def test_classes(tmp_path: Path):
    folder = write_benchmark(tmp_path, kind="categorical", seeds=[1, 2])
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    for metric, function in (("UAR", audmetric.unweighted_average_recall), ("WA", audmetric.accuracy)):
        row = rows_of(folder)["up", "test", "half", metric]
        tables = [predictions_of(folder, 2, fold, seed) for seed in (1, 2) for fold in ("fold1", "fold2")]
        values = [function(table.truth, table.prediction) for table in tables]
        assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-9)
        pooled = [function(*pd.concat(tables[i : i + 2])[["truth", "prediction"]].to_numpy().T) for i in (0, 2)]
        assert float(row["pooled"]) == pytest.approx(np.mean(pooled), abs=1e-9)
        assert row["p_holm"]
    assert rows_of(folder)["up", "test", "half", "macro_f1"]["p_holm"] == ""  # follows from the others
    assert "| half | 4 | 200 | 20.0 |" in (folder / "report.md").read_text()


def test_a_head_of_both_kinds(tmp_path: Path):
    folder = write_benchmark(tmp_path, kind="both", folds=["fold1"], seeds=[1])
    analysis = analyse(load_study([folder]), resamples=1000)
    assert {"CCC.EmoVal", "mean_CCC", "MSE.EmoDom", "UAR", "WA", "macro_f1"} <= set(analysis.parts[0].metrics)
    assert analysis.comparisons == 2 * 5
    assert all(math.isfinite(score.low) for row in analysis.parts[0].rows for score in row.scores.values())


def test_mean_over_dimensions(made: Path):
    rows = rows_of(made)
    for column in ("mean", "pooled"):
        parts = [float(rows["up", "test", "half", f"CCC.{name}"][column]) for name in DIMENSIONS]
        assert float(rows["up", "test", "half", "mean_CCC"][column]) == pytest.approx(np.mean(parts), abs=1e-9)


def test_holms_correction_is_over_the_whole_report(made: Path):
    rows = {key: row for key, row in rows_of(made).items() if row["p_value"] and key[3].startswith("CCC.")}
    assert len(rows) == 2 * 2 * 3  # splits, systems but the baseline, dimensions
    ordered = sorted(rows.values(), key=lambda row: float(row["p_value"]))
    running = 0.0
    for rank, row in enumerate(ordered):
        running = max(running, min(1.0, float(row["p_value"]) * (len(ordered) - rank)))
        assert float(row["p_holm"]) == pytest.approx(running, abs=1e-12)
    assert "over the 12 comparisons of this report" in (made / "report.md").read_text()


def test_too_few_speakers_for_significance(tmp_path: Path):
    folder = write_benchmark(tmp_path, folds=["fold1"], seeds=[1])
    for path in folder.rglob("*_predictions.csv"):
        table = pd.read_csv(path)
        table["SpkrID"] = table["SpkrID"].replace({f"fold1-s{number}": "fold1-s0" for number in range(6)})
        table.to_csv(path, index=False)
    part = analyse(load_study([folder]), resamples=1000).parts[0]
    text = "7 speakers: no difference can be significant here, since the smallest possible p-value is 0.016, times 6"
    assert f"{text} comparisons" in part.warnings
    p_values = [row.scores["CCC.EmoAct"].difference for row in part.rows[1:]]
    assert all(gap is not None and gap.exact and gap.p_value >= 2 / 2**7 for gap in p_values)


def test_published_numbers_and_sizes(made: Path):
    rows = rows_of(made)
    row = rows["up", "test", "whole", "CCC.EmoVal"]
    assert (row["published"], row["published_source"]) == ("0.67", "Table 2")
    assert float(row["mean_less_published"]) == pytest.approx(float(row["mean"]) - 0.67, abs=1e-12)
    assert rows["up", "test_5dB", "whole", "CCC.EmoVal"]["published"] == ""
    assert [rows["up", "test", name, "CCC.EmoVal"]["relative_parameters"] for name in SYSTEMS] == ["1.0", "0.6", "0.2"]
    text = (made / "report.md").read_text()
    mean = float(row["mean"])
    assert f"| whole | CCC valence | {mean:.3f} | 0.670 | {mean - 0.67:+.3f} | Table 2 |".replace("-", "−") in text
    assert "| half | size, % | 20.0 | 51.0 | −31.0 | Table 2 |" in text


def test_a_published_spread_and_range_stand_beside_ours(made: Path):
    row = rows_of(made)["up", "test", "half", "CCC.EmoAct"]
    assert [row[f"published{name}"] for name in ("", "_std", "_min", "_max")] == ["0.55", "0.03", "0.5", "0.6"]
    assert rows_of(made)["up", "test", "whole", "CCC.EmoVal"]["published_std"] == ""
    ours = "{mean:.3f} ± {std:.3f} ({seed_min:.3f} to {seed_max:.3f})".format(**{k: float(row[k]) for k in SPREAD})
    gap = f"{float(row['mean']) - 0.55:+.3f}".replace("-", "−")
    text = (made / "report.md").read_text()
    assert f"| half | CCC activation | {ours} | 0.550 ± 0.030 (0.500 to 0.600) | {gap} | Table 3 |" in text
    assert "Table 3: Of ten <seeds>." in text
    words = " ".join(" ".join(Page((made / "report.html").read_text()).text).split())
    assert f"published 0.550 ± 0.030 (0.500 to 0.600) ({gap})" in words
    assert "Table 3: Of ten <seeds>." in words
    assert r"{\footnotesize Table 3: Of ten" in (made / "report.tex").read_text()


def test_seeds_are_compared_by_their_means_over_folds(made: Path):
    """Neumann & Vu 2019, Table 1: mean, min and max of seeds, each the mean over the folds."""
    values = {
        seed: np.mean([
            json.loads((made / f"runs/up/2/{fold}-{seed}/exp/test_{fold}_metrics.json").read_text())["CCC"]["EmoAct"]
            for fold in ("fold1", "fold2")
        ])
        for seed in (1, 2)
    }  # fmt: skip
    low, high = sorted(values.values())
    row = rows_of(made)["up", "test", "half", "CCC.EmoAct"]
    assert row["seeds"] == "2"
    assert [float(row[name]) for name in ("seed_min", "seed_max")] == pytest.approx([low, high], abs=1e-12)
    assert float(row["seed_std"]) == pytest.approx((high - low) / 2**0.5, abs=1e-12)
    assert float(row["min"]) < low < high < float(row["max"])
    cells = f"2 | 2 | {(low + high) / 2:.3f} | {(high - low) / 2**0.5:.3f} | {low:.3f} | {high:.3f}"
    assert f"| half | CCC activation | {cells} | 0.550 ± 0.030 (0.500 to 0.600) |" in (made / "report.md").read_text()


def test_a_seed_without_all_folds_does_not_count():
    values: dict[tuple[str, int | None], float] = {("a", 1): 0.1, ("b", 1): 0.5, ("a", 2): 0.3, ("b", 2): 0.7}
    assert scores_of_seeds(values | {("a", 3): 0.9}) == SeedScores(
        2, 3, 2, *map(pytest.approx, (0.4, 0.2 / 2**0.5, 0.3, 0.5))
    )
    assert scores_of_seeds({("a", 1): 0.1, ("b", 1): 0.5, ("a", 2): 0.3}) is None
    assert scores_of_seeds({("a", None): 0.1, ("b", None): 0.5}) is None


def test_mse_per_bin_counts_utterances_once(made: Path):
    row = analyse(load_study([made]), resamples=1000).parts[0].rows[1]
    table = pd.concat([predictions_of(made, 1, fold, seed) for fold in ("fold1", "fold2") for seed in (1, 2)])
    places = np.floor(table.EmoVal + 0.5)
    assert [item["centre"] for item in row.bins["EmoVal"]] == sorted(places.unique())
    for item in row.bins["EmoVal"]:
        inside = table[places == item["centre"]]
        assert item["utterances"] * 2 == len(inside)
        assert item["MSE"] == pytest.approx(((inside.EmoVal - inside.EmoVal_pred) ** 2).mean(), abs=1e-9)


# --- what is missing or does not fit ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_missing_runs_are_named_with_the_reason(tmp_path: Path):
    folder = write_benchmark(tmp_path)
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    changed = lines[2].replace('"definition": "d"', '"definition": "older"')
    (folder / "results.jsonl").write_text("".join([*lines[:2], changed, *lines[3:-2], lines[-1][:50]]))
    state = folder / "runs/up/2/fold2-1/state.json"
    state.write_text(json.dumps({"error": "no room\non the disk"}))
    study = load_study([folder])
    assert study.missing == {
        "up | whole | fold2 | seed 1": "was run from an earlier version of the matrix",
        "up | half | fold2 | seed 1": "no room on the disk",
        "up | half | fold2 | seed 2": "not run yet",
    }
    analysis = analyse(study, resamples=1000)
    assert [row.runs for row in analysis.parts[0].rows] == [3, 4, 2]
    write_report(analysis, folder)
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text()
        assert "3 of 12 runs are missing" in text
        assert "no room on the disk" in text
    warnings = " ".join(analysis.parts[0].warnings)
    assert "half and whole are compared over the 2 runs that both have" in warnings
    assert "80 % <CCS> & co_1 and whole are compared over the 3 runs that both have" in warnings


def test_systems_of_other_utterances_are_not_compared(tmp_path: Path):
    folder = write_benchmark(tmp_path, seeds=[1])
    path = folder / "runs/up/1/fold2-1/exp/test_fold2_predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    part = analyse(load_study([folder]), resamples=1000).parts[0]
    assert "80 % <CCS> & co_1 and whole are not compared: their utterances or labels differ in fold2" in part.warnings
    assert part.rows[1].scores["CCC.EmoVal"].difference is None
    assert part.rows[2].scores["CCC.EmoVal"].difference is not None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "predictions cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "predictions cannot be read"),
        (lambda path: path.write_text(""), "predictions cannot be read"),
        (lambda path: path.write_text("FileName,SpkrID\na,b\n"), "holds no predictions"),
        (lambda path: path.write_text("FileName,EmoAct,EmoAct_pred\na,,1\n"), "holds no predictions"),
        (lambda path: path.write_text("File,EmoAct,EmoAct_pred\na,1,1\n"), "predictions cannot be read"),
    ],
)
def test_damaged_predictions_leave_the_means(tmp_path: Path, damage: Callable[[Path], Any], message: str):
    folder = write_benchmark(tmp_path, seeds=[1])
    damage(folder / "runs/up/1/fold2-1/exp/test_fold2_predictions.csv")
    part = analyse(load_study([folder]), resamples=1000).parts[0]
    score = part.rows[1].scores["CCC.EmoVal"]
    assert math.isfinite(score.mean)
    assert math.isnan(score.low)
    assert any(message in warning for warning in part.warnings)
    assert len(part.rows[2].bins["EmoVal"]) > 1
    assert part.rows[1].bins == {}


def test_utterances_without_speakers_labels_or_finite_estimates(tmp_path: Path):
    folder = write_benchmark(tmp_path, folds=["fold1"], seeds=[1, 2])
    for system in range(3):
        for seed in (1, 2):
            path = folder / f"runs/up/{system}/fold1-{seed}/exp/test_fold1_predictions.csv"
            table = pd.read_csv(path)
            table["SpkrID"] = ""
            table.loc[3, "EmoVal"] = np.nan
            if system == 2:
                table.loc[5, "EmoDom_pred"] = np.inf
            table.to_csv(path, index=False)
    part = analyse(load_study([folder]), resamples=1000).parts[0]
    assert (part.utterances, part.speakers) == (95, 95)  # the same utterances for both seeds
    assert any(text.startswith("no utterance has a known speaker") for text in part.warnings)
    assert math.isfinite(part.rows[2].scores["CCC.EmoAct"].low)
    assert math.isnan(part.rows[2].scores["CCC.EmoDom"].pooled)


def test_a_speaker_named_na_and_names_in_unicode(tmp_path: Path):
    path = tmp_path / "test_fold1_predictions.csv"
    path.write_text('FileName,SpkrID,truth,prediction\n"ü, b.wav",NA,nan,None\na.wav,null,None,nan\n', encoding="utf-8")
    predictions = read_predictions(path)
    assert predictions.names.tolist() == ["a.wav", "ü, b.wav"]
    assert predictions.speakers.tolist() == ["null", "NA"]
    assert predictions.truth is not None
    assert predictions.truth.tolist() == ["None", "nan"]


def test_different_versions_are_said(tmp_path: Path):
    folder = write_benchmark(tmp_path)
    lines = (folder / "results.jsonl").read_text().splitlines()
    lines[0] = lines[0].replace('"versions": {"torch": "2"}, "git": "a', '"versions": {"torch": "3"}, "git": "b')
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    warnings = load_study([folder]).warnings
    assert warnings[0] == "runs were made with different versions of torch: 2, 3"
    assert warnings[1].startswith("runs were made from 2 revisions of this suite")


def test_results_without_a_matrix(tmp_path: Path):
    folder = write_benchmark(tmp_path)
    (folder / "matrix.json").unlink()
    study = load_study([folder])
    assert (study.baseline, study.splits, study.upstreams) == ("whole", ("test",), ("up",))
    assert list(study.systems) == list(SYSTEMS)


# --- experiments ------------------------------------------------------------------------------------------------------


def experiment(folder: Path, level: float, kind: str = "dimensional", fold: str = "fold1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("dev", "test"):
        write_split(folder, f"{split}_{fold}", split, fold, level, [int(100 * level)], kind)
    return folder


@pytest.mark.usefixtures("undrawn")
def test_two_experiments_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.chdir(tmp_path)
    experiment(Path("a/exp"), 0.3), experiment(Path("b/exp"), 0.9)
    assert s3prl_emotion.cli.main(["report", "a/exp", "b/exp", "--resamples", "2000"]) == 0
    assert "report/report.html" in capsys.readouterr().out
    rows = rows_of(Path("report"))
    assert {key[1] for key in rows} == {"test"}
    row = rows["", "test", "b", "CCC.EmoAct"]
    tables = [pd.read_csv(f"{name}/exp/test_fold1_predictions.csv") for name in "ba"]
    values = [audmetric.concordance_cc(table.EmoAct, table.EmoAct_pred) for table in tables]
    assert float(row["difference"]) == pytest.approx(values[0] - values[1], abs=1e-9)
    assert row["baseline"] == "a"
    assert float(row["p_holm"]) < 0.05
    text = Path("report/report.md").read_text()
    assert text.startswith("# a against b\n")
    assert re.search(r"\| b \| \+0\.\d{3} \\\[\+0\.\d{3}, \+0\.\d{3}\\\], p [=<] 0\.0\d+ \*", text.replace("\\*", "*"))


@pytest.mark.usefixtures("undrawn")
def test_one_experiment_writes_into_itself(tmp_path: Path):
    experiment(tmp_path / "exp", 0.5, kind="categorical")
    experiment(tmp_path / "exp", 0.5, kind="categorical", fold="fold2")
    assert s3prl_emotion.cli.main(["report", str(tmp_path / "exp"), "--resamples", "1000"]) == 0
    row = rows_of(tmp_path / "exp")["", "test", "exp", "UAR"]
    assert (row["runs"], row["speakers"], row["difference"]) == ("2", "24", "")
    shutil.rmtree(tmp_path / "exp" / "figures")
    for path in (tmp_path / "exp").glob("test_*"):
        path.unlink()
    assert load_study([tmp_path / "exp"]).splits == ("dev",)  # where there is nothing else


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["none"], "none: no such folder"),
        (["empty"], "neither a benchmark's directory .results.jsonl. nor an experiment's"),
        (["exp", "exp"], "exp: is named twice"),
        (["bench", "exp"], "bench: is a benchmark's directory; report on one benchmark"),
        (["unfinished"], "no finished run in results.jsonl"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, folders: list[str], message: str):
    for name in ("empty", "bench", "unfinished"):
        (tmp_path / name).mkdir()
    experiment(tmp_path / "exp", 0.5)
    write_benchmark(tmp_path / "bench", folds=["fold1"], seeds=[1])
    (tmp_path / "unfinished" / "matrix.json").write_text('{"runs": [{"run": "a", "definition": "d", "folder": "r"}]}')
    with pytest.raises(UsageError, match=message):
        load_study([tmp_path / name for name in folders])


def test_command_line_errors(tmp_path: Path, capsys: Any):
    experiment(tmp_path / "exp", 0.5)
    (tmp_path / "file").touch()
    for words, message in (
        (["--resamples", "10"], "--resamples 10: at least 1000"),
        (["--out", str(tmp_path / "file" / "x")], "is a file; name a folder"),
    ):
        assert s3prl_emotion.cli.main(["report", str(tmp_path / "exp"), *words]) == 1
        assert message in capsys.readouterr().err


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "metric", "signed", "text"),
    [
        (0.7416, "CCC.EmoVal", False, "0.742"),
        (-0.0316, "CCC.EmoVal", True, "−0.032"),
        (0.0316, "MSE.EmoVal", True, "+0.032"),
        (-0.0001, "CCC.EmoVal", True, "0.000"),
        (0.69444, "UAR", False, "69.4"),
        (-0.0004, "WA", True, "0.0"),
        (0.84, "relative_size", False, "84.0"),
        (math.nan, "WA", False, "–"),
        (None, "WA", False, "–"),
    ],
)
def test_numbers_as_text(value: float | None, metric: str, signed: bool, text: str):
    assert number(value, metric, signed) == text


def test_words_for_numbers():
    assert interval(0.1, 0.25, "WA") == "[10.0, 25.0]"
    assert interval(math.nan, 0.25, "WA") == ""
    assert [p_value(value) for value in (0.0001, 0.031, 1.0, math.nan)] == ["p < 0.001", "p = 0.031", "p = 1.000", ""]
    assert [count(value) for value in (None, 950, 15_684, 1_645_068, 2.5e9)] == [
        "–",
        "950",
        "15.7 k",
        "1.65 M",
        "2.5 G",
    ]
    assert [label(name) for name in ("CCC.EmoVal", "mean_CCC", "UAR", "MSE.Other")] == [
        "CCC valence", "mean CCC", "UA (UAR), %", "MSE Other"
    ]  # fmt: skip


def test_latex_is_escaped(made: Path):
    assert tex("80 % <CCS> & co_1 − ±") == r"80 \% $<$CCS$>$ \& co\_1 $-$ $\pm$"
    text = (made / "report.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{tabular}") == 2 * 8 + 1
    body = "".join(line for line in text.splitlines() if not line.startswith("%"))
    assert re.search(r"(?<!\\)[%_#]", body) is None
    for table in re.findall(r"\\toprule(.*?)\\bottomrule", text, re.DOTALL):
        rows = [row for row in table.split(r"\\")[:-1] if row.strip()]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


def test_markdown_tables_are_whole(made: Path):
    text = (made / "report.md").read_text()
    lines = text.splitlines()
    tables = [list(group) for group in _blocks(lines)]
    # leaderboard; of each split scores, errors, differences, seeds, two of ensembles, speakers; published; what was run
    assert len(tables) == 2 * 8 + 1 + 1
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    for target in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert (made / target).is_file()


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


# --- the page ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks nesting; gathers ids, addresses and the cells of tables."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.addresses += [str(values[key]) for key in ("src", "href", "xlink:href", "action", "data") if key in values]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_alone(made: Path):
    text = (made / "report.html").read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert "http" not in text
    assert text.count("<script") == text.count("<script>") == 1  # inline
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "DejaVu" not in text


def test_the_page_shows_the_numbers(made: Path):
    words = " ".join(" ".join(Page((made / "report.html").read_text()).text).split())
    row = rows_of(made)["up", "test", "half", "CCC.EmoAct"]
    values = {name: float(row[name]) for name in ("mean", "std", "pooled", "low", "high", "difference", "p_holm")}
    assert f"{values['mean']:.3f} ± {values['std']:.3f}" in words
    assert f"[{values['low']:.3f}, {values['high']:.3f}]" in words
    assert f"Δ {values['difference']:+.3f}".replace("-", "−") in words
    assert "Made <up> & small" in words  # escaped in the source
    assert "80 % <CCS> & co_1" in words
    assert "published 0.670" in words
    assert "published 51.0" in words
    assert words.count("baseline") >= 3


def test_figures_are_svg_in_the_pages_colours(made: Path):
    names = sorted(path.name for path in (made / "figures").iterdir())
    splits = ("test", "test_5dB")
    kinds = [f"up-{split}-{kind}.svg" for split in splits for kind in ("mse_per_bin", "scores", "speakers")]
    assert names == sorted(["up-test-robustness.svg", *kinds])
    for path in (made / "figures").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    text = (made / "report.html").read_text()
    assert text.count("<svg") == 3 + 2 * (3 + 3 + 1)
    assert text.count("var(--series-0)") > 10
    assert "#0b62a4" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_same_twice(made: Path, tmp_path: Path):
    files = write_report(analyse(load_study([made]), resamples=2000), tmp_path)
    for path in files:
        assert path.read_bytes() == (made / path.relative_to(tmp_path)).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_one_system_of_one_run(tmp_path: Path):
    folder = write_benchmark(tmp_path, systems=["only"], folds=["fold1"], seeds=[1], published=[])
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    assert files[0].name == "report.html"
    text = (folder / "report.md").read_text()
    assert "A score is that of one run" in text
    assert "Difference" not in text
    Page((folder / "report.html").read_text())


@pytest.mark.usefixtures("undrawn")
def test_a_metric_that_is_not_defined(tmp_path: Path):
    folder = write_benchmark(tmp_path, folds=["fold1"], seeds=[1])
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines[1]["splits"]["test"]["metrics"]["Pearson"]["EmoVal"] = None
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    analysis = analyse(load_study([folder]), resamples=1000)
    score = analysis.parts[0].rows[1].scores["Pearson.EmoVal"]
    assert isinstance(score, Score)
    assert math.isnan(score.mean)
    write_report(analysis, folder)
    assert rows_of(folder)["up", "test", SYSTEMS[1], "Pearson.EmoVal"]["mean"] == ""


@pytest.mark.usefixtures("undrawn")
def test_a_full_disk(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    analysis = analyse(load_study([made]), resamples=1000)
    fill_disk(monkeypatch)
    with pytest.raises(EmotionError, match="No space left on device"):
        write_report(analysis, tmp_path)
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.full
def test_200_runs(tmp_path: Path):
    """Two upstreams, five systems, five folds, four seeds: it ends, and draws each figure once."""
    folder = write_benchmark(
        tmp_path, systems=list("abcde"), folds=[f"fold{i}" for i in range(1, 6)], seeds=[1, 2, 3, 4],
        upstreams=["up", "other"], published=[],
    )  # fmt: skip
    analysis = analyse(load_study([folder]))
    files = write_report(analysis, folder)
    assert len(analysis.study.runs) == 200
    assert len(files) == 4 + 2 * 3
