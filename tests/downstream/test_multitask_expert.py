"""``-d emotion_multitask`` through the command line: what it learns, evaluates and writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli, TinyCorpus

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
SMALL = {f"{MODEL}.{key}": 8 for key in ("conv_channels", "gru_dim", "embedding_dim")}
WORDS = ("neu", "hap", "ang")


@pytest.fixture(scope="module")
def voted_corpus(graded_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """The graded tones with grader shares over three classes, by activation; every tenth has no consensus."""
    with graded_corpus.labels.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = tmp_path_factory.mktemp("voted") / "labels.csv"
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], *WORDS])
        writer.writeheader()
        for number, row in enumerate(rows):
            level = min(2, int(3 * (float(row["EmoAct"]) - 1) / 4))
            shares = [0.2, 0.2, 0.2]
            shares[level] += 0.4
            row["EmoClass"] = WORDS[level]
            if number % 10 == 0:
                shares, row["EmoClass"] = [0.5, 0.5, 0.0], "no agreement"
            writer.writerow(row | dict(zip(WORDS, shares, strict=True)))
    return TinyCorpus(graded_corpus.root, labels)


def overrides(corpus: TinyCorpus, **more: object) -> str:
    text = corpus.overrides(**(SMALL | {f"{DATA}.classes": list(WORDS)} | more))
    return ",,".join(part for part in text.split(",,") if "projector_dim" not in part)


def train(cli: Cli, corpus: TinyCorpus, folder: str = "exp", code: int = 0, **more: object) -> Any:
    words = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_multitask", "-p", folder)
    return cli(*words, "-o", overrides(corpus, **more), code=code)


def metrics_of(folder: str, split: str = "test") -> dict[str, Any]:
    return json.loads(Path(folder, f"{split}_fold1_metrics.json").read_text())


def predictions_of(folder: str, split: str = "test") -> list[dict[str, str]]:
    with Path(folder, f"{split}_fold1_predictions.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_files_agree_with_each_other(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus)
    metrics, rows = metrics_of("exp"), predictions_of("exp")
    assert list(rows[0]) == [
        *("FileName", "SpkrID", "Gender", "truth", "prediction"),
        *(f"p_{name}" for name in WORDS),
        *(f"share_{name}" for name in WORDS),
        *("EmoAct", "EmoVal", "EmoDom", "EmoAct_pred", "EmoVal_pred", "EmoDom_pred"),
    ]
    assert len(rows) == 20
    judged = [row for row in rows if row["truth"]]
    assert metrics["counts"] == {
        "utterances": 20, "evaluated": len(judged), "no_consensus": 20 - len(judged), "other_class": 0, "no_mass": 0,
    }  # fmt: skip
    assert len(judged) == 18
    assert metrics["WA"] == pytest.approx(np.mean([row["truth"] == row["prediction"] for row in judged]))
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in WORDS) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(WORDS, key=lambda name: float(row[f"p_{name}"]))
    for name in ("EmoAct", "EmoVal", "EmoDom"):
        truth, guess = (np.array([float(row[key]) for row in rows]) for key in (name, f"{name}_pred"))
        covariance = np.mean((truth - truth.mean()) * (guess - guess.mean()))
        ccc = 2 * covariance / (truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2)
        assert metrics["CCC"][name] == pytest.approx(ccc, abs=1e-5)
    assert {"agreement", "threshold_F1", "paUAR", "n_best", "per_speaker", "per_gender"} <= set(metrics)


@pytest.mark.full
def test_best_checkpoint_is_best_at_both(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus, **{"runner.eval_step": 1, "runner.save_step": 1})
    lines = [line for line in Path("exp/log.log").read_text().splitlines() if line.startswith("New best on dev")]
    best = metrics_of("exp", "dev")
    assert best["step"] == int(lines[-1].split(" step ")[1].split(":")[0])
    assert float(lines[-1].rpartition(" ")[2]) == pytest.approx((best["UAR"] + best["mean_CCC"]) / 2, abs=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["ccc", "soft_ce", "kl"])
@pytest.mark.parametrize("source", ["shares", "consensus"])
def test_it_learns(cli: Cli, voted_corpus: TinyCorpus, kind: str, source: str):
    longer = {"runner.total_steps": 60, "runner.eval_step": 60, "runner.save_step": 60, "optimizer.lr": 5e-3}
    more: dict[str, object] = {f"{MODEL}.{key}": 24 for key in ("conv_channels", "gru_dim", "embedding_dim")}
    more |= {f"{MODEL}.cat_loss": kind, f"{DATA}.train_batch_size": 16, f"{DATA}.distribution": {"source": source}}
    train(cli, voted_corpus, **longer, **more)
    metrics = metrics_of("exp")
    assert metrics["CCC"]["EmoAct"] > 0.4
    assert metrics["UAR"] > 0.5  # chance: 0.33
    assert metrics["agreement"]["utterances"] == 20  # whatever was learnt, the graders' shares are what it is held to


def test_fewer_classes_are_evaluated_than_learnt(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus, **{f"{DATA}.eval_classes": ["ang", "neu"]})
    metrics, rows = metrics_of("exp"), predictions_of("exp")
    assert metrics["evaluated_classes"] == ["neu", "ang"]
    assert {row["prediction"] for row in rows} <= {"neu", "ang"}
    assert metrics["counts"]["other_class"] == sum(row["truth"] == "hap" for row in rows)
    assert metrics["utterances"] == sum(row["truth"] in ("neu", "ang") for row in rows)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_weighted_classes(cli: Cli, voted_corpus: TinyCorpus, kind: str):
    train(cli, voted_corpus, "plain")
    train(cli, voted_corpus, "weighted", **{f"{DATA}.class_weights": kind})
    assert metrics_of("plain")["loss"] != metrics_of("weighted")["loss"]
    assert np.isfinite(metrics_of("weighted")["loss"])


def test_spreads_are_learnt_too(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus, **{f"{MODEL}.target_variance": True})
    assert set(metrics_of("exp")["spreads"]["CCC"]) == {"EmoActStd", "EmoValStd", "EmoDomStd"}
    assert "EmoValStd_pred" in predictions_of("exp")[0]


def test_resumed_run_equals_an_uninterrupted_one(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus, "whole")
    train(cli, voted_corpus, "parts", **{"runner.total_steps": 3})
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=6")
    assert predictions_of("whole") == predictions_of("parts")


def test_with_a_store_to_the_bit(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus, "plain")
    words = (
        "-m",
        "train",
        "-u",
        "fbank_no_cmvn",
        "-d",
        "emotion_multitask",
        "-p",
        "stored",
        "--feature_store",
        "store",
    )
    cli(*words, "-o", overrides(voted_corpus))
    assert predictions_of("plain") == predictions_of("stored")


@pytest.mark.full
def test_another_corpus_without_shares_and_dimensions(cli: Cli, voted_corpus: TinyCorpus, tiny_corpus: TinyCorpus):
    other = {
        "labels": str(tiny_corpus.labels),
        "root": str(tiny_corpus.root),
        "merge": {"sad": "neu"},
        "distribution": {"source": "consensus"},
    }
    train(cli, voted_corpus, **{f"{DATA}.extra_tests": {"plain": other}})
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "plain")
    metrics, rows = metrics_of("exp", "plain"), predictions_of("exp", "plain")
    assert metrics["utterances"] == len(rows) == 48
    assert "CCC" not in metrics
    assert np.isfinite(metrics["loss"])
    assert rows[0]["EmoAct"] == "nan"
    assert float(rows[0]["EmoAct_pred"]) > 0


@pytest.mark.full
@pytest.mark.parametrize("kind", ["ccc", "soft_ce"])
def test_corpus_without_dimensions_and_shares(cli: Cli, tiny_corpus: TinyCorpus, kind: str):
    classes = ["ang", "hap", "neu", "sad"]
    alone: dict[str, object] = {
        f"{DATA}.classes": classes, f"{DATA}.distribution": {"source": "consensus"}, f"{MODEL}.cat_loss": kind,
        f"{MODEL}.dimension_weight": 0, "downstream_expert.best_metric": "UAR", "runner.total_steps": 60,
        "runner.eval_step": 60, "optimizer.lr": 0.01,
    }  # fmt: skip
    train(cli, tiny_corpus, **alone)
    metrics, rows = metrics_of("exp"), predictions_of("exp")
    assert not any("CCC" in key for key in metrics)
    assert not any(key.startswith("Emo") for key in rows[0])
    hits = [row["truth"] == row["prediction"] for row in rows]
    assert metrics["WA"] == pytest.approx(np.mean(hits))
    assert metrics["UAR"] > 0.6  # a tone of its own for each class
    logged = [line for line in Path("exp", "log.log").read_text().splitlines() if line.startswith("test at step 60")]
    assert float(logged[0].rpartition(" ")[2]) == pytest.approx(metrics["WA"])
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(next(tiny_corpus.root.glob("*.wav")))).out
    assert {line.split()[0].rstrip(":") for line in out.splitlines() if line.startswith("  ")} <= set(classes)


def test_inference_names_classes_and_dimensions(cli: Cli, voted_corpus: TinyCorpus):
    train(cli, voted_corpus)
    file = next(voted_corpus.root.iterdir())
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(file)).out
    said = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert {*WORDS, "EmoAct", "EmoVal", "EmoDom"} <= said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({f"{DATA}.eval_classes": ["ang", "sad"]}, "datarc.eval_classes: 'sad' is not learnt; "),
        ({"runner.gradient_accumulate_steps": 2}, "runner.gradient_accumulate_steps: CCC is computed over a batch"),
        ({f"{MODEL}.cat_loss": "ce"}, "downstream_expert.modelrc.cat_loss"),
        ({"downstream_expert.best_metric": "best"}, "downstream_expert.best_metric"),
        ({f"{DATA}.balanced_sampling": True}, "balanced_sampling"),
        ({f"{MODEL}.dimension_weight": 0}, "joint needs dimensions, which modelrc.dimension_weight: 0 leaves out"),
        (
            {f"{MODEL}.dimension_weight": 0, f"{MODEL}.target_variance": True, "downstream_expert.best_metric": "UAR"},
            "target_variance needs a dimension_weight above 0",
        ),
    ],
)
def test_bad_recipes_are_refused(cli: Cli, voted_corpus: TinyCorpus, more: dict[str, object], said: str):
    assert said in train(cli, voted_corpus, code=1, **more).error
    assert not Path("exp").exists()


def test_table_without_shares_is_refused(cli: Cli, graded_corpus: TinyCorpus):
    assert "no columns of grader shares" in train(cli, graded_corpus, code=1).error
