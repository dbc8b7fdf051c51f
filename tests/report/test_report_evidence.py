"""What a report shows beside scores: tables and figures of groups, hypotheses, calibration, training; by hand."""

from __future__ import annotations

import csv
import json
import logging
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Cli, TinyCorpus
from matplotlib.figure import Figure as Drawn
from tensorboardX import SummaryWriter

from s3prl_emotion.corpora.fingerprint import TrainingSplit
from s3prl_emotion.files.checkpoint import save_checkpoint
from s3prl_emotion.metrics.split import split_metrics
from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.computing.details import Details, flat_details, merged_bins
from s3prl_emotion.report.drawing.figure import Figure, Panel, svg_panels, write_figure
from s3prl_emotion.report.drawing.matrix import Matrix
from s3prl_emotion.report.reading.study import RunResult, SplitResult
from s3prl_emotion.report.reading.training import (
    MOST_POINTS,
    Curve,
    layer_saliency,
    learned_weights,
    learning_curves,
    mean_curve,
    saliency_paths,
    thinned,
)
from s3prl_emotion.report.sections import SECTIONS
from s3prl_emotion.report.sections.agreement import agreement_table
from s3prl_emotion.report.sections.base import Place, Results, Section
from s3prl_emotion.report.sections.hypotheses import Hypotheses, hypotheses_table
from s3prl_emotion.report.sections.layer_scores import ScoresByLayer
from s3prl_emotion.report.sections.layers import cost_table
from s3prl_emotion.report.sections.speakers import (
    Speakers,
    genders_table,
    passed_by_gender_table,
    shares_table,
    speakers_table,
)
from s3prl_emotion.report.table import Table
from s3prl_emotion.report.writing.chapters import arrange
from s3prl_emotion.upstreams.saliency_file import SaliencyFile
from s3prl_emotion.upstreams.saliency_format import Header

CLASSES = ("ang", "hap", "neu")
SHORT = {"config", "per_speaker", "classes"}  # what a benchmark's results leave to the metrics file
Runs = Mapping[tuple[str, str, int], dict[str, Any]]  # by system, fold and seed


def benchmark(folder: Path, runs: Runs, **line: Any) -> Path:
    """A benchmark's directory of runs with the metrics of ``test`` given, without predictions."""
    lines, entries = [], []
    for system, fold, seed in runs:
        metrics = {"split": "test", "fold": fold, **runs[system, fold, seed]}
        exp = folder / "runs" / system / f"{fold}-{seed}" / "exp"
        exp.mkdir(parents=True)
        (exp / f"test_{fold}_metrics.json").write_text(json.dumps(metrics))
        name = f"up | {system} | {fold} | seed {seed}"
        short = {key: value for key, value in metrics.items() if key not in SHORT}
        place = str((exp / f"test_{fold}_predictions.csv").relative_to(folder))
        entries.append({"run": name, "definition": "d", "folder": str(exp.parent.relative_to(folder))})
        lines.append(
            {"format": 1, "run": name, "definition": "d", "upstream": "up", "system": system, "fold": fold,
             "seed": seed, "num_parameters": 1500, "versions": {}, **line,
             "splits": {"test": {"predictions": place, "metrics": short}}}
        )  # fmt: skip
    systems = {system: {} for system, _, _ in runs}
    about = {"title": "Made", "baseline": next(iter(systems)), "upstreams": ["up"], "systems": systems,
             "tests": ["test"], "runs": entries}  # fmt: skip
    (folder / "results.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    (folder / "matrix.json").write_text(json.dumps(about))
    return folder


def results_of(folder: Path) -> Results:
    return Results(analyse(load_study([folder]), resamples=1000))


def of(folder: Path, runs: Runs, **line: Any) -> Details:
    return results_of(benchmark(folder, runs, **line)).details


def figures_of(section: type[Section], folder: Path) -> dict[str, Figure]:
    """A section's figures of the test split, by name."""
    return {figure.name: figure for figure in section(results_of(folder)).figures(Place("up", "test"))}


def tabled(table: Table | None) -> dict[str, list[str]]:
    """Columns of a table by their heads."""
    assert table is not None
    assert {len(row) for row in table.rows} == {len(table.header)}
    return {head: [row[place] for row in table.rows] for place, head in enumerate(table.header)}


def made_split(seed: int, genders: Sequence[str] = ("F", "M"), speakers: int = 6, prefix: str = "s") -> dict[str, Any]:
    """Metrics of a random split, as ``emotion_multitask`` computes them; its predictions as a table beside them."""
    draw = np.random.default_rng([11, seed])
    count = 12 * speakers
    truth = draw.integers(0, len(CLASSES), count)
    rows = draw.dirichlet(np.ones(len(CLASSES)), count) + 0.5 * np.eye(len(CLASSES))[truth]
    rows /= rows.sum(axis=1, keepdims=True)
    names = [f"{prefix}{index // 12}" for index in range(count)]
    graders = draw.dirichlet(np.ones(len(CLASSES)), count)
    of_speaker = [genders[index // 12 % len(genders)] for index in range(count)]
    metrics = split_metrics(truth, rows, CLASSES, graders=graders, speakers=names, genders=of_speaker)
    table = {"FileName": [f"{prefix}/{index}" for index in range(count)], "SpkrID": names, "Gender": of_speaker,
             "truth": [CLASSES[i] for i in truth], "prediction": [CLASSES[i] for i in rows.argmax(axis=1)]}  # fmt: skip
    return {"metrics": metrics, "table": pd.DataFrame(table)}


def full(folder: Path, systems: Sequence[str] = ("one", "two"), **split: Any) -> Path:
    """A benchmark with everything that a run can leave."""
    runs = {(system, fold, 1): made_split(index + 10 * (fold == "fold2"), prefix=fold, **split)
            for index, system in enumerate(systems) for fold in ("fold1", "fold2")}  # fmt: skip
    sizes = {"upstream_parameters": 4_000_000, "upstream_parameters_computed": 3_000_000}
    file = saliency_file(folder / "prepared/layers/up-fold1/layers.safetensors")
    sizes["config"] = {"downstream_expert": {"layer": "auto", "layer_file": str(file)}}
    benchmark(folder, {key: run["metrics"] | sizes for key, run in runs.items()}, seconds={"train": 10.0})
    for (system, fold, seed), run in runs.items():
        exp = folder / "runs" / system / f"{fold}-{seed}" / "exp"
        run["table"].to_csv(exp / f"test_{fold}_predictions.csv", index=False)
        curves(exp, fold, {"dev-mean_CCC": [(5, 0.1), (10, 0.3)], "train-loss": [(5, 2.0), (10, 1.0)]})
        checkpoint(exp / "dev-best.ckpt", torch.tensor([0.0, float(seed), 0.5]))
    return folder


def curves(expdir: Path, fold: str, points: Mapping[str, Sequence[tuple[int, float]]], name: str = "1") -> Path:
    with SummaryWriter(str(expdir), filename_suffix=f".{name}") as writer:
        for tag, values in points.items():
            for step, value in values:
                writer.add_scalar(f"emotion-{fold}/{tag}", value, global_step=step)
    return next(expdir.glob(f"*.{name}"))


def checkpoint(path: Path, weights: torch.Tensor | None) -> Path:
    state = {} if weights is None else {"weights": weights}
    args = Namespace(upstream="fbank", downstream="emotion")
    save_checkpoint({"Args": args, "Config": {}, "Featurizer": state}, path)
    return path


def saliency_file(path: Path, scores: torch.Tensor | None = None, layers: Sequence[int] = (0, 1, 2)) -> Path:
    """A file of two targets and four dimensions, most salient in layer 1 unless scores are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = torch.tensor([0.1, 0.4, 0.2]).view(3, 1, 1).expand(3, 2, 4) if scores is None else scores
    mean = scores.mean(dim=1)
    header = Header(
        method="ccs", targets=("activation", "valence"), layers=tuple(layers), available=3, dims=4, upstream={},
        training=TrainingSplit(utterances=1, names="", labels="", audio="", max_duration=None), fold="fold1",
        recipe="", command="", device="cpu", versions={},
    )  # fmt: skip
    ranks = mean.argsort(dim=1, descending=True).argsort(dim=1).to(torch.int32)
    SaliencyFile(path, header, {"scores": scores.contiguous(), "mean": mean, "ranks": ranks}).write()
    return path


# --- tables -----------------------------------------------------------------------------------------------------------


def test_n_best(tmp_path: Path):
    def run(accuracy: float, share: float | None) -> dict[str, Any]:
        best = {"accuracy": accuracy, "UAR": 0.5, "macro_f1": 0.25, "paUAR": {"50": share, "75": 0.0}}
        return {"WA": accuracy, "n_best": {"1": best, "2": best | {"accuracy": 0.8}}}

    runs = {("a", "f1", 1): run(0.5, 0.5), ("a", "f2", 1): run(0.7, None), ("b", "f1", 1): run(0.1, 1.0)}
    table = tabled(hypotheses_table(of(tmp_path, runs).splits["up", "test"]))
    assert table["system"] == ["a", "a", "b", "b"]
    assert table["n"] == ["1", "2", "1", "2"]
    assert table["WA, %"] == ["60.0 ± 14.1", "80.0 ± 0.0", "10.0", "80.0"]  # std: 0.2 / sqrt(2)
    assert table["UAR, %"][0] == "50.0 ± 0.0"
    assert table["macro-F1, %"][2] == "25.0"
    assert table["paUAR-50, %"] == ["50.0 (1 of 2 runs)"] * 2 + ["100.0"] * 2


def test_n_best_of_a_head_without_speakers_scores(tmp_path: Path):
    """``emotion_corr_attn`` has no macro-F1 of hypotheses, and paUAR only of the first."""
    metrics = {"n_best": {"1": {"accuracy": 0.5, "UAR": 0.4}, "2": {"accuracy": 1.0, "UAR": 1.0}},
               "paUAR": {"50": 0.25, "75": 0.0}}  # fmt: skip
    table = tabled(hypotheses_table(of(tmp_path, {("a", "f1", 1): metrics}).splits["up", "test"]))
    assert table["macro-F1, %"] == ["–", "–"]
    assert table["paUAR-50, %"] == ["25.0", "–"]


def speaker(utterances: int, uar: float | None, **counts: int) -> dict[str, Any]:
    return {"utterances": utterances, "UAR": uar, "class_counts": dict.fromkeys(CLASSES, 0) | counts}


def test_speakers(tmp_path: Path):
    runs = {
        ("a", "f1", 1): {
            "speakers": {"min_utterances": 2}, "paUAR": {"50": 0.5, "75": 0.0},
            "per_speaker": {"s1": speaker(4, 0.2, ang=4), "s2": speaker(4, 0.6, ang=2, hap=2), "s3": speaker(1, 1.0)},
        },
        ("a", "f2", 1): {
            "speakers": {"min_utterances": 2}, "paUAR": {"50": 0.0, "75": 0.0},
            "per_speaker": {"s4": speaker(3, 0.4, neu=1, hap=2), "s5": speaker(0, None)},
        },
    }  # fmt: skip
    details = of(tmp_path, runs)
    table = tabled(speakers_table(details.splits["up", "test"]))
    assert {head: cells[0] for head, cells in table.items()} == {
        "system": "a", "speakers": "3", "left out": "2", "single-class": "1", "min. utterances": "2",
        "paUAR-50, %": "25.0 ± 35.4", "paUAR-75, %": "0.0 ± 0.0",
        "worst speaker's UAR, %": "30.0 ± 14.1",  # of 0.2 and 0.4
        "median speaker's UAR, %": "40.0 ± 0.0", "best speaker's UAR, %": "50.0 ± 14.1",
    }  # fmt: skip
    point = details.splits["up", "test"]["a"].speakers["s4"]
    assert (point.share("hap"), point.score("UAR")) == (2 / 3, 0.4)


def test_a_speaker_of_several_runs_is_one(tmp_path: Path):
    runs = {("a", "f1", seed): {"per_speaker": {"s": speaker(4, uar, ang=4)}} for seed, uar in ((1, 0.2), (2, 0.6))}
    system = of(tmp_path, runs).splits["up", "test"]["a"]
    assert list(system.speakers) == ["s"]
    assert system.speakers["s"].score("UAR") == pytest.approx(0.4)
    assert tabled(speakers_table({"a": system}))["speakers"] == ["1"]


def test_unknown_speakers_are_in_no_row(tmp_path: Path):
    scores = {"s1": speaker(4, 0.2, ang=4), "Unknown": speaker(9, 0.9, ang=9)}  # an older file has a row for nobody
    runs = {
        ("a", "f1", seed): {"speakers": {"min_utterances": 1, "unknown_utterances": 9}, "per_speaker": scores}
        for seed in (1, 2)
    }
    system = of(tmp_path, runs).splits["up", "test"]["a"]
    assert list(system.speakers) == ["s1"]
    table = tabled(speakers_table({"a": system}))
    assert (table["speakers"], table["utterances of unknown speakers"]) == (["1"], ["9"])
    assert table["best speaker's UAR, %"] == ["20.0 ± 0.0"]


def test_speakers_of_dimensions(tmp_path: Path):
    metrics = {"per_speaker": {"s1": {"utterances": 3, "mean_CCC": 0.25}, "s2": {"utterances": 1, "mean_CCC": None}}}
    table = tabled(speakers_table(of(tmp_path, {("a", "f1", 1): metrics}).splits["up", "test"]))
    assert "worst speaker's UAR, %" not in table
    assert table["median speaker's mean CCC"] == ["0.250"]
    assert (table["speakers"], table["left out"], table["single-class"]) == (["1"], ["1"], ["–"])


def test_correlation_with_the_share_of_a_class(tmp_path: Path):
    runs = {("a", f"f{fold}", 1): {"recall": {"ang": 1, "hap": 1}, "UAR_against_share": {"ang": rho, "hap": None},
            "per_speaker": {"s": speaker(1, 1.0)}} for fold, rho in enumerate((0.5, -0.1))}  # fmt: skip
    table = tabled(shares_table(of(tmp_path, runs).splits["up", "test"]))
    assert table == {"system": ["a"], "ang": ["0.200 ± 0.424"]}


def gender(utterances: int, uar: float, share: float) -> dict[str, Any]:
    best = {"accuracy": uar, "UAR": uar, "macro_f1": uar, "paUAR": {"50": share, "75": 0.0}}
    return {"utterances": utterances, "WA": uar, "UAR": uar, "macro_f1": uar, "n_best": {"1": best, "2": best}}


def test_genders(tmp_path: Path):
    """Folds add up, seeds do not; a system whose split has one gender has no scores of the other."""
    runs = {("a", fold, seed): {"per_gender": {"F": gender(10, 0.4 + 0.1 * seed, 1.0), "M": gender(6, 0.5, 0.25)}}
            for fold in ("f1", "f2") for seed in (0, 1)}  # fmt: skip
    runs["b", "f1", 0] = {"per_gender": {"F": gender(10, 0.75, 0.0)}}
    runs["c", "f1", 0] = {"WA": 0.5}
    systems = of(tmp_path, runs).splits["up", "test"]
    table = tabled(genders_table(systems))
    assert table["system"] == ["a", "b"]
    assert table["F: utterances"] == ["20", "10"]
    assert table["M: utterances"] == ["12", "–"]
    assert table["F: UAR, %"] == ["45.0 ± 5.8", "75.0"]  # 0.4, 0.4, 0.5, 0.5
    assert table["M: WA, %"] == ["50.0 ± 0.0", "–"]
    assert "F: mean CCC" not in table
    passed = tabled(passed_by_gender_table(systems))
    assert passed["n"] == ["1", "2", "1", "2"]
    assert passed["M: paUAR-50, %"] == ["25.0 ± 0.0", "25.0 ± 0.0", "–", "–"]


def test_agreement(tmp_path: Path):
    metrics = {
        "ECE": 0.125, "threshold_F1": {"macro_f1": 0.5},
        "agreement": {"JS": 0.25, "KL": 1.5, "entropy": {"graders": 1.0, "model": 0.5},
                      "entropy_correlation": {"Pearson": None, "Spearman": -0.5}},
    }  # fmt: skip
    runs = {("a", "f1", 1): metrics, ("b", "f1", 1): {"ECE": 0.0625}, ("c", "f1", 1): {"WA": 1.0}}
    table = tabled(agreement_table(of(tmp_path, runs).splits["up", "test"]))
    assert table["system"] == ["a", "b"]
    assert table["ECE, %"] == ["12.5", "6.2"]
    assert table["JS (bits)"] == ["0.250", "–"]
    assert table["KL (bits)"] == ["1.500", "–"]
    assert table["entropies: Spearman"] == ["−0.500", "–"]
    assert table["macro-F1 above 1/K, %"] == ["50.0", "–"]
    assert "entropies: Pearson" not in table  # no run has it


def test_calibration_alone_has_its_own_title(tmp_path: Path):
    table = agreement_table(of(tmp_path, {("a", "f1", 1): {"ECE": 0.5}}).splits["up", "test"])
    assert table is not None
    assert (table.title, table.rows) == ("calibration", [["a", "50.0"]])


def test_cost(tmp_path: Path):
    sizes = {"upstream_parameters": 4_000_000, "upstream_parameters_computed": 3_000_000}
    runs = {("a", "f1", 1): sizes, ("a", "f2", 1): sizes | {"upstream_parameters_computed": 2_000_000},
            ("b", "f1", 1): {}}  # fmt: skip
    folder = benchmark(tmp_path, runs)
    path = folder / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, layer, seconds in zip(lines, (7, 2, None), (10.0, 14.0, 0.0), strict=True):
        line |= {"upstream_options": {"upstream_layer_selection": layer}, "seconds": {"train": seconds}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = tabled(cost_table(results_of(folder).details.training["up"]))
    assert {head: cells[0] for head, cells in table.items()} == {
        "system": "a", "layer": "2, 7", "upstream, computed": "2.5 M", "upstream, whole": "4 M", "saved, %": "37.5",
        "head": "1.5 k", "training, s": "12.0 ± 2.8",
    }  # fmt: skip
    assert table["system"] == ["a"]  # b knows nothing that the scores' table does not


def by_layer(folder: Path, names: Sequence[str], layers: Sequence[int | None], **metrics: Any) -> Path:
    """A benchmark whose systems use a layer each, of which layer 1 is the most salient; CCC grows with the layer."""
    file = saliency_file(folder / "prepared/layers/up-fold1/layers.safetensors")
    config = {"downstream_expert": {"layer": "auto", "layer_file": str(file)}}
    runs = {
        (name, "f1", seed): {"CCC": {"EmoAct": 0.1 * number + 0.02 * seed, "EmoVal": -0.1 * number}, "config": config}
        | metrics
        for number, name in enumerate(names)
        for seed in (1, 2)
    }
    made = benchmark(folder, runs)
    lines = [json.loads(line) for line in (made / "results.jsonl").read_text().splitlines()]
    for line, layer in zip(lines, [layer for layer in layers for _ in (1, 2)], strict=True):
        line["upstream_options"] = {"upstream_layer_selection": layer}
    (made / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def test_scores_by_layer(tmp_path: Path):
    folder = by_layer(tmp_path, ["layer 0", "layer 10", "layer 1", "salient"], [0, 10, 1, 1])
    section, place = ScoresByLayer(results_of(folder)), Place("up", "test")
    table = tabled(*section.tables(place))
    assert table == {
        "layer": ["0", "1", "10"],
        "CCC activation": ["0.030 ± 0.014", "0.230 ± 0.014", "0.130 ± 0.014"],  # means of two seeds
        "CCC valence": ["0.000 ± 0.000", "−0.200 ± 0.000", "−0.100 ± 0.000"],
    }
    (figure,) = section.figures(place)
    assert (figure.name, [panel.title for panel in figure.panels]) == ("up-test-scores_by_layer", ["CCC"])
    assert "as Mitra et al. 2025, Fig. 2" in figure.caption
    assert "Dotted: the most salient layer" in figure.caption
    drawn = Drawn()
    figure.panels[0].draw(drawn)
    (axes,) = drawn.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["activation"].get_ydata().tolist() == pytest.approx([0.03, 0.23, 0.13])
    assert lines["valence"].get_ydata().tolist() == pytest.approx([0, -0.2, -0.1])
    assert np.round(lines["valence"].get_xdata()).tolist() == [0, 1, 10]
    assert axes.get_lines()[-1].get_xdata() == [1, 1]  # where saliency is highest


def test_systems_of_two_kinds_are_two_curves(tmp_path: Path):
    names = [f"{kind}, layer {layer}" for kind in ("one-hot", "shares") for layer in (2, 12, 22)]
    folder = by_layer(tmp_path, [*names, "all"], [2, 12, 22, 2, 12, 22, None], UAR=0.5)
    section, place = ScoresByLayer(results_of(folder)), Place("up", "test")
    assert {name: list(curve) for name, curve in section.curves(place).items()} == {
        "one-hot, layer": [2, 12, 22], "shares, layer": [2, 12, 22],
    }  # fmt: skip
    (figure,) = section.figures(place)
    assert [panel.title for panel in figure.panels] == [
        f"{name}: {kind}, layer" for name in ("CCC", "UA (UAR), %") for kind in ("one-hot", "shares")
    ]


def test_few_layers_are_no_curve(tmp_path: Path):
    folder = by_layer(tmp_path, ["layer 0", "layer 1", "last", "layer 7"], [0, 1, 2, 6])  # the last is called wrongly
    section, place = ScoresByLayer(results_of(folder)), Place("up", "test")
    assert [*section.tables(place), *section.figures(place)] == []


def test_all_layers_are_named(tmp_path: Path):
    sizes = {"upstream_parameters": 2000, "upstream_parameters_computed": 2000}
    options = {"upstream_layer_selection": None}
    table = tabled(cost_table(of(tmp_path, {("a", "f1", 1): sizes}, upstream_options=options).training["up"]))
    assert (table["layer"], table["saved, %"], table["training, s"]) == (["all"], ["0.0"], ["–"])


def test_nothing_gives_no_table_and_no_figure(tmp_path: Path):
    results = results_of(benchmark(tmp_path, {("a", "f1", 1): {"WA": 0.5, "UAR": 0.5}}))
    chapters = arrange(results, [section(results) for section in SECTIONS])
    shown = {content.section.title for chapter in chapters for content in chapter.contents}
    assert shown == {"Leaderboard", "Scores", "How to read this", "What was run"}


def test_what_is_not_finite_is_left_out():
    metrics = {"ECE": float("nan"), "agreement": None, "per_gender": None, "n_best": {"1": {"UAR": float("inf")}},
               "UAR_against_share": {"ang": None}, "threshold_F1": None, "paUAR": {"50": None, "75": 0.5}}  # fmt: skip
    assert flat_details(metrics) == {"paUAR-75.1-best": 0.5}


def test_a_missing_metrics_file_costs_the_speakers_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = benchmark(tmp_path, {("a", "f1", 1): {"ECE": 0.5, "per_speaker": {"s": speaker(1, 1.0)}}})
    path = next(folder.rglob("test_f1_metrics.json"))
    path.write_text("{")
    with caplog.at_level(logging.WARNING):
        system = results_of(folder).details.splits["up", "test"]["a"]
    assert (system.speakers, system.scores["ECE"].mean) == ({}, 0.5)
    assert f"{path}: missing or damaged" in caplog.text


# --- counts -----------------------------------------------------------------------------------------------------------


def test_bins_are_merged_by_utterances():
    first = [{"from": 0.0, "to": 0.5, "utterances": 0, "confidence": None, "accuracy": None},
             {"from": 0.5, "to": 1.0, "utterances": 1, "confidence": 0.6, "accuracy": 1.0}]  # fmt: skip
    second = [{"from": 0.0, "to": 0.5, "utterances": 2, "confidence": 0.4, "accuracy": 0.5},
              {"from": 0.5, "to": 1.0, "utterances": 3, "confidence": 0.8, "accuracy": 0.0}]  # fmt: skip
    low, high = merged_bins(first, second)
    assert low == second[0]
    assert (high["utterances"], high["accuracy"]) == (4, 0.25)
    assert high["confidence"] == pytest.approx(0.75)
    assert merged_bins([], first) == first
    assert merged_bins(first, []) == first


def test_confusions_and_hypotheses_add_up(tmp_path: Path):
    def run(confusion: list[list[int]], utterances: int, shares: list[list[float]] | None) -> dict[str, Any]:
        pairs = {"ang": {"utterances": utterances, "shares": shares}, "hap": {"utterances": 0, "shares": None}}
        return {"evaluated_classes": ["ang", "hap"], "confusion": confusion, "hypotheses": pairs}

    runs = {("b", "f1", 1): run([[12_345, 9_999], [0, 0]], 0, None),
            ("a", "f1", 1): run([[3, 1], [0, 0]], 4, [[0, 0.75], [0.25, 0]]),
            ("a", "f2", 1): run([[0, 2], [0, 0]], 2, [[0, 0], [1, 0]]),
            ("a", "f3", 1): {"evaluated_classes": ["ang", "other"], "confusion": [[9, 9], [9, 9]]}}  # fmt: skip
    systems = of(tmp_path, runs).splits["up", "test"]
    assert systems["a"].confusion.tolist() == [[3, 3], [0, 0]]
    assert systems["a"].hypotheses["ang"].tolist() == [[0, 3], [3, 0]]
    figures = figures_of(Hypotheses, tmp_path)
    assert list(figures) == ["up-test-confusion", "up-test-hypotheses-0", "up-test-hypotheses-1"]
    large, confusion = figures["up-test-confusion"].drawn
    assert re.findall(r">(\([^<\n]+)</text>", large)[:2] == ["(12k)", "(9999)"]
    assert re.findall(r">([^<\n]+)</text>", confusion) == [
        "50", "(3)", "50", "(3)", "0", "(0)", "0", "(0)", "ang", "ang", "hap", "hap", "prediction", "truth"
    ]  # fmt: skip
    hypotheses = figures["up-test-hypotheses-1"]
    angry, happy = hypotheses.drawn
    assert re.findall(r">([^<\n]+)</text>", angry)[:2] == ["50", "50"]
    assert "does not occur" in happy
    assert [panel.title for panel in hypotheses.panels] == ["true: ang (6)", "true: hap (0)"]


@pytest.mark.parametrize(("share", "kind"), [(0.6, ""), (0.7, "strong"), (0.9, "strongest")])
def test_words_stay_readable_on_their_cells(share: float, kind: str):
    """Contrast (WCAG 2) of at least 3.5 in the light and in the dark, as page.css chooses the ink."""
    svg = Matrix("t", ["a"], [[share]], [[["x"]]], ("r", "c")).svg()
    assert f'<text class="{kind}"' in svg
    assert ('fill="#ffffff"' in svg) == (kind == "strongest")
    for paper, ink, colour, on_paper in (
        ("#ffffff", "#1b1b1f", "#0b62a4", kind == "strongest"),
        ("#16171b", "#e9e9ed", "#6bb1ea", kind != ""),
    ):
        cell = share * rgb(colour) + (1 - share) * rgb(paper)
        bright = sorted([luminance(cell), luminance(rgb(paper if on_paper else ink))])
        assert (bright[1] + 0.05) / (bright[0] + 0.05) > 3.5


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("classes", [["a"], ["neutral", "surprised <&>", "x"], [f"class {i}" for i in range(9)]])
def test_matrices_of_any_classes(classes: list[str]):
    number = len(classes)
    empty = [[["1"]] * number] * number
    svg = Matrix("t", classes, np.full((number, number), np.nan), empty, ("r", "c"), 0.0, 0, True, "nothing").svg()
    root = ElementTree.fromstring(svg)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert "nan" not in svg
    for rect in root.iter("rect"):
        assert 0 <= float(rect.attrib["x"]) <= width - float(rect.attrib["width"])
        assert 0 <= float(rect.attrib["y"]) <= height - float(rect.attrib["height"])


# --- training ---------------------------------------------------------------------------------------------------------


def test_curves_of_a_resumed_and_torn_run(tmp_path: Path):
    curves(tmp_path, "fold1", {"dev-acc": [(5, 0.25), (10, 0.5)], "train-loss": [(5, 3.0)], "test-acc": [(5, 0.9)]})
    last = curves(tmp_path, "fold1", {"dev-acc": [(10, 0.75), (15, float("nan")), (20, 1.0)]}, "2")
    curves(tmp_path, "fold2", {"dev-acc": [(5, 0.0)]}, "3")
    read = learning_curves(tmp_path, "fold1")
    assert set(read) == {"dev-acc", "train-loss"}
    assert read["dev-acc"].steps.tolist() == [5, 10, 20]
    assert read["dev-acc"].values.tolist() == [0.25, 0.75, 1.0]
    last.write_bytes(last.read_bytes()[:-9])
    assert learning_curves(tmp_path, "fold1")["dev-acc"].steps.tolist() == [5, 10]
    assert learning_curves(tmp_path / "none", "fold1") == {}


def test_a_damaged_file_of_curves_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = curves(tmp_path, "fold1", {"dev-acc": [(5, 0.25)]})
    content = path.read_bytes()
    path.write_bytes(content + (4).to_bytes(8, "little") + b"\0" * 4 + b"\xff" * 4 + b"\0" * 4)
    with caplog.at_level(logging.WARNING):
        assert learning_curves(tmp_path, "fold1")["dev-acc"].values.tolist() == [0.25]
    assert "learning curves stop where the file cannot be read" in caplog.text


def curve(steps: Sequence[int], values: Sequence[float]) -> Curve:
    return Curve(np.array(steps), np.array(values, dtype=float))


def test_the_mean_curve_ends_where_the_first_run_does():
    mean = mean_curve([curve([5, 10, 15], [1, 2, 3]), curve([5, 15, 20], [3, 5, 9])])
    assert mean is not None
    assert (mean.steps.tolist(), mean.values.tolist()) == ([5, 15], [2.0, 4.0])
    assert mean_curve([curve([5], [1]), curve([5], [2])]) is None


def test_long_curves_are_thinned_to_their_ends():
    long = curve(range(1000), range(1000))
    short = thinned(long)
    assert len(short.steps) == MOST_POINTS
    assert (short.steps[0], short.steps[-1]) == (0, 999)
    assert thinned(short) is short


def weights_of(folder: Path, layer: int | None = None, **metrics: Any) -> list[float] | None:
    split = SplitResult(metrics, folder / "test_f1_predictions.csv")
    options = {"upstream_layer_selection": layer}
    weights = learned_weights(RunResult("up", "a", "f1", 1, {"test": split}, upstream_options=options))
    return None if weights is None else weights.tolist()


def test_learned_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = checkpoint(tmp_path / "dev-best.ckpt", torch.tensor([0.0, np.log(3.0)]))
    assert weights_of(tmp_path) == pytest.approx([0.25, 0.75])
    assert weights_of(tmp_path, layer_weights=[0.5, 0.5]) == [0.5, 0.5]  # of the metrics file, where it has them
    for none in (None, [1.0], [float("nan"), 1.0]):
        assert weights_of(tmp_path, layer_weights=none) is None
    assert weights_of(tmp_path, layer=3) is None
    assert weights_of(tmp_path / "none") is None
    for weights in (None, torch.tensor([1.0]), torch.tensor([float("nan"), 0.0])):
        checkpoint(path, weights)
        assert weights_of(tmp_path) is None
    torch.save({"Args": Path("x"), "Config": {}}, path)  # holds an object: nothing of it is run
    with caplog.at_level(logging.WARNING):
        assert weights_of(tmp_path) is None
    assert "refused" in caplog.text


def test_saliency_of_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = saliency_file(tmp_path / "a.safetensors")
    one = saliency_file(tmp_path / "one.safetensors", torch.ones(1, 2, 4), [2])
    with caplog.at_level(logging.WARNING):
        (saliency,) = layer_saliency([path, one, path, tmp_path / "none.safetensors"])
    assert (saliency.layers, saliency.best, list(saliency.scores)) == ((0, 1, 2), 1, ["activation", "valence", "mean"])
    assert saliency.scores["mean"].tolist() == pytest.approx([0.1, 0.4, 0.2])
    assert "none.safetensors: no such saliency file" in caplog.text


def test_saliency_files_that_recipes_name(tmp_path: Path):
    """Those of a benchmark are found after it was moved."""
    path = saliency_file(tmp_path / "prepared/layers/up/a.safetensors")
    old = "/elsewhere/prepared/b/prepared/layers/up/a.safetensors"
    config = {"downstream_expert": {"layer_file": old, "modelrc": {"saliency": {"file": "x.safetensors"}}}}
    assert saliency_paths(config, tmp_path) == [path, Path("x.safetensors")]
    assert saliency_paths({"downstream_expert": {"modelrc": {}}}, tmp_path) == []
    assert saliency_paths(None, None) == []


# --- the whole report -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = full(tmp_path_factory.mktemp("full"))
    write_report(analyse(load_study([folder]), resamples=1000), folder)
    return folder


KINDS = ("confusion", "genders", "hypotheses-0", "hypotheses-1", "reliability", "scores", "speaker_scatter", "speakers")


def test_every_figure_is_there(reported: Path):
    names = {f"up-test-{kind}.svg" for kind in KINDS} | {f"up-{kind}.svg" for kind in ("curves", "layer_saliency")}
    assert {path.name for path in (reported / "figures").iterdir()} == names | {"up-layer_weights.svg"}
    page, text = ((reported / f"report.{end}").read_text() for end in ("html", "md"))
    for name in names:
        assert f"figures/{name}" in page
        assert f"](figures/{name})" in text


def test_svgs_are_whole_and_ids_apart(reported: Path):
    for path in (reported / "figures").iterdir():
        text = path.read_text()
        root = ElementTree.fromstring(text)
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert len(ids) == len(set(ids)), path.name
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids), path.name
        assert "currentColor" not in text
        assert "var(" not in text
    page = (reported / "report.html").read_text()
    svgs = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ids = [name for svg in svgs for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in svgs:
        ElementTree.fromstring(svg)


def test_nothing_in_the_report_is_not_finite(reported: Path):
    for name in ("report.html", "report.md", "report.tex", "report.csv"):
        assert re.search(r"\b(nan|inf|NaN|None|infinity)\b", (reported / name).read_text()) is None, name
    for path in (reported / "figures").iterdir():
        assert re.search(r"\b(nan|inf)\b", path.read_text()) is None, path.name


def test_the_page_groups_what_belongs_together(reported: Path):
    page = (reported / "report.html").read_text()
    titles = re.findall(r'<details class="evidence"><summary>(.*?)</summary>', page)
    assert titles == [
        "Classes and hypotheses", "Speakers and genders", "Agreement with graders and calibration", "Layers and cost",
        "Learning curves",
    ]  # fmt: skip
    assert page.count("<details") == page.count("</details>")
    for head in ("paUAR-50, %", "F: utterances", "JS (bits)", "entropies: Spearman", "upstream, computed"):
        assert f">{head}</th>" in page
        assert head.replace("%", r"\%") in (reported / "report.tex").read_text()
    assert page.count('class="matrix"') == 2 + 2 * len(CLASSES)


def test_the_long_table_holds_the_details(reported: Path):
    with (reported / "report.csv").open() as file:
        rows = {(row["system"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == len((reported / "report.csv").read_text().splitlines()) - 1
    folds = [json.loads((reported / f"runs/one/{fold}-1/exp/test_{fold}_metrics.json").read_text())
             for fold in ("fold1", "fold2")]  # fmt: skip
    for name, values in {
        "JS": [metrics["agreement"]["JS"] for metrics in folds],
        "UAR.2-best": [metrics["n_best"]["2"]["UAR"] for metrics in folds],
        "macro_f1.F": [metrics["per_gender"]["F"]["macro_f1"] for metrics in folds],
        "UAR.worst speaker": [min(entry["UAR"] for entry in metrics["per_speaker"].values()) for metrics in folds],
    }.items():
        assert float(rows["one", name]["mean"]) == pytest.approx(np.mean(values), abs=1e-12)
        assert float(rows["one", name]["std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert rows["one", name]["runs"] == "2"


@pytest.mark.full
@pytest.mark.parametrize("split", [{"genders": ("F",)}, {"genders": ("",)}, {"speakers": 1}])
def test_one_gender_none_and_one_speaker(tmp_path: Path, split: dict[str, Any]):
    folder = full(tmp_path, ["only"], **split)
    files = write_report(analyse(load_study([folder]), resamples=1000), folder)
    names = {path.name for path in files}
    assert ("up-test-genders.svg" in names) == (split.get("genders") != ("",))
    assert "up-test-speaker_scatter.svg" in names
    for path in files[4:]:
        ElementTree.parse(path)
    assert re.search(r"\bnan\b", (folder / "report.html").read_text()) is None


@pytest.mark.usefixtures("undrawn")
def test_experiments_without_a_benchmark(tmp_path: Path):
    folder = full(tmp_path / "bench", ["only"])
    exp = folder / "runs/only/fold1-1/exp"
    files = write_report(analyse(load_study([exp]), resamples=1000), tmp_path / "out")
    kinds = {path.name for path in files[4:]}
    assert {"test-confusion.svg", "test-speaker_scatter.svg", "curves.svg", "layer_weights.svg",
            "layer_saliency.svg"} <= kinds  # fmt: skip


def test_many_speakers_are_thinned_and_that_is_said(tmp_path: Path):
    per_speaker = {f"s{i}": speaker(2, i / 2000, ang=1, hap=1) for i in range(1500)}
    metrics = {"recall": dict.fromkeys(CLASSES, 1.0), "per_speaker": per_speaker}
    benchmark(tmp_path, {("a", "f1", 1): metrics})
    scatter = figures_of(Speakers, tmp_path)["up-test-speaker_scatter"]
    assert "One in 2 of the 1500 speakers is drawn." in scatter.caption
    assert scatter.drawn[0].count("<use") < 800


def test_a_figure_is_drawn_once_for_page_and_file(tmp_path: Path):
    calls = []
    figure = Figure("f", "c", ("a <b>",), (Panel("t & u", lambda place: calls.append(place.subplots())),) * 5)
    panels = list(svg_panels(figure, "x"))
    root = ElementTree.parse(write_figure(figure, tmp_path)).getroot()
    assert len(calls) == 5
    assert [title for title, _ in panels] == ["t & u"] * 5
    inner = [element for element in root if element.tag.endswith("svg")]
    assert [(element.attrib["x"], element.attrib["y"]) for element in inner][3:] == [("792", "20"), ("0", "246.4")]
    assert [text for text in root.itertext() if "<b>" in text] == ["a <b>"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_the_command_line(cli: Cli, tiny_corpus: TinyCorpus):
    """Its curves are those of its ``log.log``; a head of classes alone has no hypotheses and no graders."""
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", "exp", "-o", tiny_corpus.overrides())
    read = learning_curves(Path("exp"), "fold1")
    assert set(read) == {"dev-acc", "dev-loss", "train-loss"}
    logged = re.findall(r"^dev at step (\d+): (\S+)$", Path("exp/log.log").read_text(), re.MULTILINE)
    assert read["dev-acc"].steps.tolist() == [int(step) for step, _ in logged]
    assert read["dev-acc"].values.tolist() == pytest.approx([float(value) for _, value in logged], rel=1e-6)
    files = write_report(analyse(load_study([Path("exp")]), resamples=1000), Path("out"))
    assert {path.stem for path in files[4:]} >= {"curves", "test-confusion", "test-reliability", "test-scores"}
    assert not any("hypotheses" in path.stem or "scatter" in path.stem for path in files[4:])
    text = Path("out/report.md").read_text()
    assert "**Calibration**" in text
    assert "**Agreement with graders**" not in text
