"""Measures of ``emotion_latent`` in a report: tables by corpus, beside published numbers; means by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli, TinyCorpus
from test_report_evidence import results_of

from s3prl_emotion.report import analyse, load_study, write_report
from s3prl_emotion.report.computing.details import flat_details
from s3prl_emotion.report.reading.literature import literature
from s3prl_emotion.report.sections.base import Place
from s3prl_emotion.report.sections.latent import LatentRepresentation
from s3prl_emotion.report.table import Table

NEUTRAL_SAD_ANGRY = ("neutral", "sad", "angry")
R2 = "adjusted R², latent distance on label distance"
RANK = "Spearman's correlation of latent distance and label distance"
LABEL = "adjusted R², label on latent"
SHIFT = "distance from the training latents, in units of their spread"
ACCURACY = "balanced accuracy (UAR), %"


def latent(**dimensions: tuple[float | None, float | None, float | None]) -> dict[str, Any]:
    """``latent`` of a metrics file: distance_R2, distance_Spearman and label_R2 by dimension."""
    names = ("distance_R2", "distance_Spearman", "label_R2")
    measures = {name: {"utterances": 9, **dict(zip(names, values, strict=True))} for name, values in dimensions.items()}
    return measures | {"shift": 2.0, "relative_shift": 0.5}


def metrics(uar: float, latents: dict[str, Any] | None, classes: tuple[str, ...] = NEUTRAL_SAD_ANGRY) -> dict[str, Any]:
    own = {} if latents is None else {"latent": latents}
    return {"UAR": uar, "WA": 0.5, "recall": dict.fromkeys(classes, uar), **own}


def study_of(
    folder: Path, runs: dict[tuple[str, str, int], dict[str, dict[str, Any]]], published: list[Any] | None = None
) -> Path:
    """A benchmark of runs with metrics by split, without predictions."""
    lines, entries = [], []
    for (system, fold, seed), splits in runs.items():
        name, place = f"up | {system} | {fold} | seed {seed}", f"runs/{system}/{fold}-{seed}"
        own = {
            split: {"predictions": f"{place}/exp/{split}_{fold}_predictions.csv", "metrics": {"fold": fold} | values}
            for split, values in splits.items()
        }
        entries.append({"run": name, "definition": "d", "folder": place})
        lines.append({"format": 1, "run": name, "definition": "d", "upstream": "up", "system": system, "fold": fold,
                      "seed": seed, "head": "emotion_latent", "splits": own})  # fmt: skip
    splits = list(dict.fromkeys(split for own in runs.values() for split in own))
    systems = {system: {} for system, _, _ in runs}
    about = {"title": "Made", "baseline": next(iter(systems)), "upstreams": ["up"], "systems": systems,
             "tests": splits, "runs": entries, "published": published or []}  # fmt: skip
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "matrix.json").write_text(json.dumps(about))
    return folder


def tables_of(folder: Path) -> dict[str, Table]:
    tables = LatentRepresentation(results_of(folder)).tables(Place("up"))
    by_title = {table.title: table for table in tables if table is not None}
    assert all({len(row) for row in table.rows} == {len(table.header)} for table in by_title.values())
    return by_title


RUNS = {
    ("DAE", "f1", 1): {
        "test": metrics(0.5, latent(EmoAct=(0.1, 0.3, 0.7), EmoVal=(0.02, None, 0.1))),
        "emodb": metrics(0.25, latent()),
    },
    ("DAE", "f2", 1): {
        "test": metrics(0.75, latent(EmoAct=(0.3, 0.5, 0.7), EmoVal=(0.04, 0.25, 0.2)) | {"relative_shift": 1.0}),
        "emodb": metrics(0.25, latent() | {"relative_shift": None}),
    },
    ("mean", "f1", 1): {"test": metrics(1.0, None), "emodb": metrics(1.0, None)},
}


def test_tables_by_corpus(tmp_path: Path):
    tables = tables_of(study_of(tmp_path, RUNS))
    assert list(tables) == [ACCURACY, R2, RANK, LABEL, SHIFT, "distance from the training latents"]
    assert tables[ACCURACY].header == ["system", "test (neutral, sad, angry)", "emodb (neutral, sad, angry)"]
    assert tables[ACCURACY].rows == [["DAE", "62.5 ± 17.7", "25.0 ± 0.0"]]  # std: 0.25 / sqrt(2); no other system
    assert tables[R2].header == ["system", "test activation", "test valence"]  # emodb has no grades
    assert tables[R2].rows == [["DAE", "0.200 ± 0.141", "0.030 ± 0.014"]]
    assert tables[RANK].rows == [["DAE", "0.400 ± 0.141", "0.250 (1 of 2 runs)"]]
    assert tables[LABEL].rows == [["DAE", "0.700 ± 0.000", "0.150 ± 0.071"]]
    assert tables[SHIFT].header == ["system", "test", "emodb"]
    assert tables[SHIFT].rows == [["DAE", "0.750 ± 0.354", "0.500 (1 of 2 runs)"]]


def test_mean_and_deviation_are_over_folds_and_seeds(tmp_path: Path):
    draw = np.random.default_rng(5)
    values = draw.uniform(-0.2, 0.9, (2, 3))
    runs = {
        ("a", f"f{fold}", seed): {"test": metrics(0.5, latent(EmoAct=(float(values[seed, fold]), 0.0, None)))}
        for seed in range(2)
        for fold in range(3)
    }
    table = tables_of(study_of(tmp_path, runs))[R2]
    assert table.rows == [["a", f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"]]
    score = results_of(tmp_path).details.splits["up", "test"]["a"].scores["distance_R2.EmoAct"]
    assert (score.runs, score.mean) == (6, pytest.approx(values.mean(), abs=1e-12))


def test_tasks_of_systems_differ(tmp_path: Path):
    """Classes stand with each score where systems do not share them."""
    four = ("neutral", "sad", "happy", "angry")
    runs = {
        ("three", "f1", 1): {"test": metrics(0.5, latent())},
        ("four", "f1", 1): {"test": metrics(0.25, latent(), four)},
    }
    table = tables_of(study_of(tmp_path, runs))[ACCURACY]
    assert table.header == ["system", "test"]
    assert table.rows == [["three", "50.0 (neutral, sad, angry)"], ["four", "25.0 (neutral, sad, happy, angry)"]]


def test_published_numbers_stand_beside_ours(tmp_path: Path):
    about = {"upstream": "up", "split": "test", "source": "Das et al. 2022, table"}
    published = [about | {"system": "DAE", "metric": metric, "value": value}
                 for metric, value in (("distance_R2.EmoAct", 0.11), ("UAR", 0.51))]  # fmt: skip
    tables = tables_of(study_of(tmp_path, RUNS, published))
    assert tables[R2].rows == [["DAE", "0.200 ± 0.141 (published 0.110)", "0.030 ± 0.014"]]
    assert tables[ACCURACY].rows[0][1] == "62.5 ± 17.7 (published 51.0)"


def test_the_papers_numbers_have_the_same_names():
    """The paper has both tables of adjusted R²; each is that of a measure of the head."""
    named = {result.metric for result in literature() if result.paper.key == "das2022"}
    assert named == {f"{kind}_R2.{name}" for kind in ("distance", "label") for name in ("EmoAct", "EmoVal")} | {
        "UAR", "Spearman"
    }  # fmt: skip
    assert named - {"UAR", "Spearman"} <= set(flat_details({"latent": latent(EmoAct=(0, 0, 0), EmoVal=(0, 0, 0))}))


def test_all_files_have_them_and_studies_without_have_none(tmp_path: Path):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    study_of(tmp_path / "with", RUNS)
    study_of(tmp_path / "without", {key: runs for key, runs in RUNS.items() if key[0] == "mean"})
    texts = {}
    for name in ("with", "without"):
        write_report(analyse(load_study([tmp_path / name]), resamples=1000), tmp_path / name)
        texts[name] = {end: (tmp_path / name / f"report.{end}").read_text() for end in ("html", "md", "tex", "csv")}
    for end, words in {
        "html": "<td>0.200 ± 0.141</td>", "md": "| DAE | 0.200 ± 0.141 | 0.030 ± 0.014 |",
        "tex": r"DAE & 0.200 $\pm$ 0.141 & 0.030 $\pm$ 0.014 \\", "csv": "distance_R2.EmoAct",
    }.items():  # fmt: skip
        assert words in texts["with"][end]
        assert words not in texts["without"][end]
        assert SHIFT.lower() not in texts["without"][end].lower()
    assert "up: latent representation" in texts["with"]["html"]
    assert "up: latent representation" not in texts["without"]["html"]
    rows = {(row["split"], row["metric"]): row for row in csv.DictReader(texts["with"]["csv"].splitlines())}
    assert float(rows["test", "distance_R2.EmoAct"]["mean"]) == pytest.approx(0.2)
    assert float(rows["test", "relative_shift"]["std"]) == pytest.approx(0.5 / math.sqrt(2))
    assert rows["emodb", "relative_shift"]["runs"] == "1"


def test_what_is_damaged_is_left_out():
    assert flat_details({"latent": None}) == {}
    flat = flat_details({"latent": {"EmoAct": {"distance_R2": None, "label_R2": float("nan")}, "shift": 1}})
    assert flat == {"shift": 1.0}


@pytest.mark.full
def test_a_run_of_the_command_line(cli: Cli, graded_corpus: TinyCorpus):
    """What the metrics file has is what the tables show."""
    values = {
        "downstream_expert.datarc.root": str(graded_corpus.root), "runner.total_steps": 6, "runner.log_step": 2,
        "downstream_expert.datarc.labels": str(graded_corpus.labels), "runner.eval_step": 3, "runner.save_step": 3,
        "downstream_expert.datarc.classes": None,
    }  # fmt: skip
    overrides = ",,".join(f"config.{key}={value!r}" for key, value in values.items())
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_latent", "-p", "exp", "-o", overrides)
    study = load_study([Path("exp")])
    own = json.loads(Path("exp/test_fold1_metrics.json").read_text())["latent"]
    write_report(analyse(study, resamples=1000), Path("out"))
    text = Path("out/report.md").read_text()
    shown = [f"{own[name]['distance_R2']:.3f}".replace("-", "−") for name in ("EmoAct", "EmoVal")]
    assert f"| exp | {shown[0]} | {shown[1]} |" in text
    assert f"| exp | {own['relative_shift']:.3f} |" in text
