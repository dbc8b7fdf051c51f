"""``-d emotion_latent`` through the command line: SVC, transfer, unlabelled data, resume, bad input."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, Cli, TinyCorpus, tone
from processes import command, together

from s3prl_emotion import host
from s3prl_emotion.files.checkpoint import load_checkpoint

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
PLAIN = {f"{DATA}.classes": None, f"{DATA}.train_batch_size": 12}
METHODS = ["none", "dae", "vae", "vae_annealed", "vae_cluster", "vae_metric", "dae_metric"]
SUPERVISED = {"none", "vae_cluster"}  # they are told the classes, which the pitch tells apart


def words(corpus: TinyCorpus, folder: str, **more: object) -> list[str]:
    text = corpus.overrides(**(PLAIN | more))
    kept = [part for part in text.split(",,") if not any(key in part for key in corpus.modelrc)]
    return ["-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_latent", "-p", folder, "-o", ",,".join(kept)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature store that quick tests share: the filterbank takes a third of their time."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def quick(filled: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Words that a quick training adds; figures, of which others tell, are not drawn."""
    monkeypatch.setattr(host.expert_class("emotion_latent"), "_draw", lambda *given: None)
    return "--feature_store", filled


def train(
    cli: Cli, corpus: TinyCorpus, folder: str = "exp", code: int = 0, added: tuple[object, ...] = (), **more: object
) -> Any:
    return cli(*words(corpus, folder, **more), *added, code=code)


def metrics_of(folder: str, split: str = "test") -> dict[str, Any]:
    return json.loads(Path(folder, f"{split}_fold1_metrics.json").read_text())


def predictions_of(folder: str, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(Path(folder, f"{split}_fold1_predictions.csv")).set_index("FileName").sort_index()


def weights_of(folder: str, name: str = "dev-best.ckpt") -> dict[str, Any]:
    return load_checkpoint(Path(folder, name))["Downstream"]


def extra(corpus: TinyCorpus) -> dict[str, object]:
    return {f"{DATA}.extra_tests": {"other": {"labels": str(corpus.labels), "root": str(corpus.root)}}}


@pytest.mark.full
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_evaluated_from_its_checkpoint_alone(
    cli: Cli, graded_corpus: TinyCorpus, method: str
):
    steps = {"runner.total_steps": 80, "runner.eval_step": 80, "runner.save_step": 80, "optimizer.lr": 0.02}
    train(cli, graded_corpus, **{f"{MODEL}.method": method}, **steps)
    metrics = metrics_of("exp")
    assert metrics["UAR"] > (0.8 if method in SUPERVISED else 0.5)
    assert metrics["loss"] < 240  # the error where all 240 features are reconstructed by their means
    assert metrics["outliers"] == 0
    assert metrics["num_parameters"] == metrics["encoder_parameters"] + metrics["decoder_parameters"]
    assert metrics["latent"]["EmoAct"]["utterances"] == metrics["utterances"]
    assert metrics["latent"]["relative_shift"] > 0
    assert Path("exp/test_fold1_latent.png").is_file()
    before = predictions_of("exp")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test", "-o", f"config.{DATA}.eval_batch_size=1")
    pd.testing.assert_frame_equal(before, predictions_of("exp"), atol=1e-5)
    again = metrics_of("exp")["latent"]
    assert again["shift"] == pytest.approx(metrics["latent"]["shift"], rel=1e-4)
    file = next(graded_corpus.root.glob("*.wav"))
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(file)).out
    assert sorted(line.split()[0] for line in out.splitlines() if line.startswith("  ")) == ["ang", "sad"]


@pytest.mark.full
def test_what_the_test_fold_sounds_like_changes_nothing_that_is_learnt_or_fitted(cli: Cli, own_tiny_corpus: TinyCorpus):
    """The leak test: other audio in test and dev, same weights, standardisation and SVC."""
    last = {"runner.eval_dataloaders": ["dev", "test"], f"{MODEL}.method": "vae_cluster"}
    train(cli, own_tiny_corpus, "one", **last)
    with own_tiny_corpus.labels.open(newline="") as handle:
        held_out = [row["FileName"] for row in csv.DictReader(handle) if row["Fold"] == "fold1"]
    held_out += predictions_of("one", "dev").index.tolist()
    for number, name in enumerate(held_out):
        soundfile.write(own_tiny_corpus.root / name, tone(900, 0.4, number), RATE)
    train(cli, own_tiny_corpus, "other", **last)
    one, other = (weights_of(folder, "states-6.ckpt") for folder in ("one", "other"))
    assert predictions_of("one").to_numpy().tolist() != predictions_of("other").to_numpy().tolist()
    for name, value in one.items():
        if name not in ("best_score", "_extra_state"):
            assert np.array_equal(value.numpy(), other[name].numpy()), name
    assert (one["model.classifier.coefficients"] != 0).any()


@pytest.mark.full
def test_resumed_run_equals_an_uninterrupted_one(cli: Cli, graded_corpus: TinyCorpus):
    more = {f"{MODEL}.method": "vae_cluster", f"{MODEL}.annealing": {"ramp": 0.5, "cycles": 1, "epochs": 3}}
    train(cli, graded_corpus, "whole", **more)
    train(cli, graded_corpus, "parts", **more, **{"runner.total_steps": 3})
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=6")
    one, other = (weights_of(folder, "states-6.ckpt") for folder in ("whole", "parts"))
    assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in one if name != "_extra_state")
    assert one["objective.batches"].item() == 6
    pd.testing.assert_frame_equal(predictions_of("whole"), predictions_of("parts"), rtol=0, atol=0)


@pytest.mark.parametrize("metric", ["WA", "macro_f1"])
def test_the_best_checkpoint_is_picked_by_any_metric(cli: Cli, graded_corpus: TinyCorpus, filled: Path, metric: str):
    train(cli, graded_corpus, added=("--feature_store", filled), **{"downstream_expert.best_metric": metric})
    assert Path("exp/test_fold1_latent.png").is_file()
    kept = metrics_of("exp", "dev")
    assert Path(kept["checkpoint"]).name == "dev-best.ckpt"
    assert weights_of("exp")["best_score"].item() == pytest.approx(kept[metric], abs=1e-6)


def test_saved_states_hold_the_svc_of_their_own_weights(cli: Cli, graded_corpus: TinyCorpus, quick: tuple[object, ...]):
    train(cli, graded_corpus, added=quick, **{"runner.eval_step": 2, "runner.save_step": 3, "runner.total_steps": 3})
    train(cli, graded_corpus, "evaluated", added=quick, **{"runner.eval_step": 3, "runner.total_steps": 3})
    one, other = (weights_of(folder, "states-3.ckpt") for folder in ("exp", "evaluated"))
    for name in ("classifier.coefficients", "center", "sample", "encoder.0.weight"):
        assert np.array_equal(one[f"model.{name}"].numpy(), other[f"model.{name}"].numpy()), name


def test_other_corpora_without_dimensions_and_with_fewer_classes(
    cli: Cli, graded_corpus: TinyCorpus, tiny_corpus: TinyCorpus, quick: tuple[object, ...]
):
    splits = {"runner.eval_dataloaders": ["dev", "test", "other"], "downstream_expert.embeddings": True}
    train(cli, graded_corpus, added=quick, **{f"{MODEL}.method": "dae_metric"}, **extra(tiny_corpus), **splits)
    metrics = metrics_of("exp", "other")
    assert metrics["utterances"] == 24  # of its four classes two are known
    assert set(metrics["latent"]) == {"shift", "relative_shift"}
    assert metrics["latent"]["relative_shift"] > metrics_of("exp")["latent"]["relative_shift"]
    with np.load("exp/other_fold1_embeddings.npz") as file:
        assert file["embeddings"].shape == (24, 4)


@pytest.mark.full
@pytest.mark.parametrize("learn", [True, False])
def test_unlabelled_share(cli: Cli, graded_corpus: TinyCorpus, tiny_corpus: TinyCorpus, learn: bool):
    section = {f"{MODEL}.unlabelled": {"splits": ["other"], "share": 0.25, "learn": learn}}
    more = extra(tiny_corpus) | {"runner.eval_dataloaders": ["dev", "other"]}
    train(cli, graded_corpus, "plain", **more)
    train(cli, graded_corpus, **more, **section, **{f"{DATA}.balanced_sampling": learn})
    assert metrics_of("plain", "other")["utterances"] == 24
    assert metrics_of("exp", "other")["utterances"] == 18
    names = set(predictions_of("exp", "other").index)
    assert names < set(predictions_of("plain", "other").index)
    same = np.array_equal(*(weights_of(folder)["model.location"].numpy() for folder in ("plain", "exp")))
    assert same != learn
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "other")
    assert set(predictions_of("exp", "other").index) == names


@pytest.mark.full
def test_labels_of_unlabelled_utterances_are_never_used(
    cli: Cli, graded_corpus: TinyCorpus, tiny_corpus: TinyCorpus, tmp_path: Path
):
    """Other labels of what is moved into training give the same weights."""
    (tmp_path / "swapped").mkdir()
    table = pd.read_csv(tiny_corpus.labels)
    table = table[table["EmoClass"].isin(["ang", "sad"])]
    swapped = table.assign(EmoClass=table["EmoClass"].map({"ang": "sad", "sad": "ang"}))
    found = []
    for name, rows in (("one", table), ("two", swapped)):
        path = tmp_path / "swapped" / f"{name}.csv"
        rows.to_csv(path, index=False)
        section = {f"{MODEL}.unlabelled": {"splits": ["other"]}, f"{MODEL}.method": "vae_cluster"}
        train(cli, graded_corpus, name, **extra(TinyCorpus(tiny_corpus.root, path)), **section)
        found.append(weights_of(name, "states-6.ckpt"))
    for name, value in found[0].items():
        if name != "_extra_state":
            assert np.array_equal(value.numpy(), found[1][name].numpy()), name


def test_votes_of_pairs_are_evaluated_from_the_checkpoint_and_no_other_classifier_is_loaded(
    cli: Cli, tiny_corpus: TinyCorpus, quick: tuple[object, ...]
):
    steps = {"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1}
    three = {f"{DATA}.classes": ["ang", "neu", "sad"], f"{MODEL}.method": "none"}  # as many pairs as classes
    train(cli, tiny_corpus, added=quick, **steps, **three, **{f"{MODEL}.multi_class": "ovo"})
    assert metrics_of("exp")["UAR"] > 0.8
    before = predictions_of("exp")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    pd.testing.assert_frame_equal(before, predictions_of("exp"), atol=1e-6)
    other = ("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test", "-o", f"config.{MODEL}.multi_class='ovr'")
    assert "model.classifier.present" in cli(*other, code=1).error


def test_outliers_are_left_out_of_training(cli: Cli, tmp_path: Path, quick: tuple[object, ...]):
    """One utterance of 160 is far louder than the others: its energies have z-scores of about 12."""
    (tmp_path / "audio").mkdir()
    rows = ["FileName,EmoClass,SpkrID,Split_Set"]
    generator = np.random.default_rng(0)
    for number in range(168):
        gain = 50.0 if number == 100 else 1.0
        wave = 0.01 * gain * generator.normal(size=1600)
        soundfile.write(tmp_path / "audio" / f"{number}.wav", wave.astype(np.float32), RATE)
        part = "Test1" if number < 4 else "Development" if number < 8 else "Train"
        rows.append(f"{number}.wav,{('ang', 'sad')[number % 2]},s{number},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    corpus = TinyCorpus(tmp_path / "audio", tmp_path / "labels.csv")
    train(cli, corpus, added=quick, **{"runner.total_steps": 1, "runner.eval_step": 1})
    assert metrics_of("exp")["outliers"] == 1


# --- bad input --------------------------------------------------------------------------------------------------------


def table_with(corpus: TinyCorpus, path: Path, change: Any) -> TinyCorpus:
    rows = pd.read_csv(corpus.labels)
    change(rows).to_csv(path, index=False)
    return TinyCorpus(corpus.root, path)


def test_one_class_in_the_training_fold_is_refused(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    def only_neutral(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[(rows["EmoClass"] == "neu") | (rows["Fold"] == "fold1")]

    corpus = table_with(tiny_corpus, tmp_path / "labels.csv", only_neutral)
    said = train(cli, corpus, code=1, **{f"{DATA}.classes": ["neu", "sad"]}).error
    assert "split 'train' of fold1: the SVC needs two classes or more, this split has: neu; choose another fold" in said
    assert not Path("exp").exists()


def test_metric_loss_without_labels_is_refused(cli: Cli, tiny_corpus: TinyCorpus):
    said = train(cli, tiny_corpus, code=1, **{f"{MODEL}.method": "dae_metric"}).error
    assert "no EmoAct, EmoVal, EmoDom in the training split, which modelrc.method dae_metric learns" in said
    assert not Path("exp").exists()


def test_no_opensmile_names_the_extra(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    line = [word.replace("fbank_no_cmvn", "egemaps") for word in words(tiny_corpus, "exp")]
    assert "pip install 's3prl-emotion[egemaps]'" in cli(*line, code=1).error
    assert not Path("exp").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({f"{MODEL}.method": "gan"}, "modelrc.method"),
        ({f"{MODEL}.hidden": [0]}, "modelrc.hidden: widths of 1 and more"),
        ({f"{MODEL}.latent": 0}, "modelrc.latent"),
        ({f"{MODEL}.annealing": {"ramp": 0}}, "modelrc.annealing.ramp"),
        ({f"{MODEL}.annealing": {"cycle": 3}}, "modelrc.annealing.cycle: "),
        ({f"{MODEL}.unlabelled": {"splits": ["othr"]}}, "'othr' is not in datarc.extra_tests; nearest: other"),
        ({f"{MODEL}.unlabelled": {"splits": []}}, "modelrc.unlabelled.splits"),
        ({"runner.seeding": "superb"}, "runner.seeding superb: SUPERB has no counterpart of emotion_latent"),
    ],
)
def test_bad_recipes_are_refused(cli: Cli, tiny_corpus: TinyCorpus, more: dict[str, object], said: str):
    assert said in train(cli, tiny_corpus, code=1, **extra(tiny_corpus), **more).error
    assert not Path("exp").exists()


def test_a_trained_upstream_is_refused(cli: Cli, tiny_corpus: TinyCorpus):
    assert "emotion_latent reconstructs the upstream's features" in cli(*words(tiny_corpus, "exp"), "-f", code=1).error


def test_s3prls_own_script_is_told_what_is_missing(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "launched", lambda: False)
    assert "s3prl's own script does not give" in train(cli, tiny_corpus, code=1).error


def test_an_untrained_head_is_not_evaluated(cli: Cli, tiny_corpus: TinyCorpus):
    line = [word.replace("train", "evaluate", 1) if word == "train" else word for word in words(tiny_corpus, "exp")]
    assert "is not fitted to a training split; train it, or give a trained checkpoint" in cli(*line, code=1).error


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("method", ["none", pytest.param("vae_cluster", marks=pytest.mark.full)])
def test_two_processes(graded_corpus: TinyCorpus, tmp_path: Path, method: str):
    """Standardisation and SVC of 'none' are those of one process; of other methods the noise differs."""
    more = {f"{MODEL}.method": method}
    for world, batch in ((None, 12), (2, 6)):
        line = words(graded_corpus, f"world{world}", **more, **{f"{DATA}.train_batch_size": batch})
        left = together(tmp_path, world, command, (*line, "--device", "cpu"))
        assert [process.value for process in left] == [0] * len(left), left
    one, two = (weights_of(str(tmp_path / f"world{world}"), "states-6.ckpt") for world in (None, 2))
    for name in ("location", "scale", *(["classifier.coefficients", "center"] if method == "none" else [])):
        np.testing.assert_allclose(one[f"model.{name}"].numpy(), two[f"model.{name}"].numpy(), rtol=1e-5, atol=1e-6)
    assert one["objective.batches"].item() == two["objective.batches"].item() == 6
