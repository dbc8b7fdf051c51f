"""``-d emotion_acnn`` through the command line: cut and pad, views, stored embeddings, attention."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE, Cli, TinyCorpus, tone

from s3prl_emotion import host

DATA, MODEL = "downstream_expert.datarc", "downstream_expert.modelrc"
SMALL: dict[str, object] = {
    f"{MODEL}.filters": 8, f"{MODEL}.pool": 4, f"{MODEL}.dropout": 0.0, f"{MODEL}.max_length": 0.5,
}  # fmt: skip
ALONE = {f"{MODEL}.alpha": 0, f"{MODEL}.beta": 0}


def train(cli: Cli, corpus: TinyCorpus, folder: str = "exp", code: int = 0, **more: object) -> Any:
    text = corpus.overrides(**(SMALL | {f"{DATA}.classes": ["ang", "sad"]} | more))
    kept = ",,".join(part for part in text.split(",,") if not any(key in part for key in ("projector_dim", "gru_dim",
                     "conv_channels", "embedding_dim")))  # fmt: skip
    return cli("-m", "train", "-u", "logmel26", "-d", "emotion_acnn", "-p", folder, "-o", kept, code=code)


def metrics_of(folder: str, split: str = "test") -> dict[str, Any]:
    return json.loads(Path(folder, f"{split}_fold1_metrics.json").read_text())


def predictions_of(folder: str, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(Path(folder, f"{split}_fold1_predictions.csv")).set_index("FileName").sort_index()


def save_embeddings(path: Path, corpus: TinyCorpus, width: int = 3, leave: str = "") -> str:
    with corpus.labels.open(newline="") as handle:
        names = [row["FileName"] for row in csv.DictReader(handle)]
    names = [name for name in names if name != leave]
    np.savez(path, names=names, features=np.random.default_rng(0).normal(size=(len(names), width)).astype(np.float32))
    return str(path)


def test_it_learns_classes_and_views(cli: Cli, graded_corpus: TinyCorpus):
    train(cli, graded_corpus, **{"runner.total_steps": 60, "runner.eval_step": 60, "optimizer.lr": 0.01})
    metrics = metrics_of("exp")
    assert metrics["UAR"] > 0.8  # the pitch says it
    assert metrics["views"]["arousal"]["UAR"] > 0.5
    assert metrics["views"]["valence"]["utterances"] == metrics["utterances"]
    assert metrics["num_parameters"] == 26 * 10 * 8 + 8 + 8 + 9 * (2 + 6) - 0


def test_classes_alone_of_a_corpus_without_dimensions(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, **ALONE)
    assert "views" not in metrics_of("exp")
    assert "no column EmoAct, which this head learns" in train(cli, tiny_corpus, "other", code=1).error
    assert not Path("other").exists()


def test_cut_and_padded_to_a_fixed_length(cli: Cli, tmp_path: Path):
    """What lies beyond ``max_length`` changes nothing; zeros up to it count, in any batch."""
    root = tmp_path / "audio"
    root.mkdir()
    rows = ["FileName,EmoClass,SpkrID,Fold"]
    for number in range(12):
        name, long = f"u{number}.wav", number % 2
        wave = tone(200 + 100 * (number % 3), 0.5 + 0.4 * long, number // 2)
        if number >= 6 and long:  # the same up to 0.5 s and the frame that reaches beyond it
            wave[int(0.55 * RATE) :] = 0.9 * np.sin(np.arange(len(wave) - int(0.55 * RATE)))
        soundfile.write(root / name, wave, RATE)
        rows.append(f"{name},{('ang', 'sad')[number % 3 == 0]},s{number // 4},fold{number // 4 + 1}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    corpus = TinyCorpus(root, tmp_path / "labels.csv")
    train(cli, corpus, **ALONE)
    before = predictions_of("exp")
    for path in root.glob("*.wav"):  # cut the audio itself, far enough behind the last frame that is seen
        wave, _ = soundfile.read(path)
        soundfile.write(path, wave[: int(0.55 * RATE)], RATE)
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    pd.testing.assert_frame_equal(before, predictions_of("exp"), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, -18.42])
def test_short_utterances_are_padded_with_the_value_for_it(
    tiny_corpus: TinyCorpus, tmp_path: Path, value: float, caplog: pytest.LogCaptureFixture
):
    """Silence is log(1e-8) in logmel26, where zeros are as loud as speech; in a batch and alone."""
    host.register()
    datarc = {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root), "train_batch_size": 2}
    section = {
        "datarc": datarc | {"eval_batch_size": 2, "classes": ["ang", "sad"]},
        "modelrc": {"alpha": 0.0, "beta": 0.0, "max_length": 0.5, "padding": value},
    }
    runner = {"train_dataloader": "train", "eval_dataloaders": ["dev"]}
    more = {"upstream": "logmel26", "mode": "train", "evaluate_split": "test", "runner": runner, "seed": 0}
    expert = host.expert_class("emotion_acnn")(26, 160, section, str(tmp_path), **more)
    assert ("modelrc.padding 0.0: in log-Mel features that is as loud as speech" in caplog.text) == (value == 0)
    features = [torch.randn(count, 26, generator=torch.Generator().manual_seed(count)) for count in (80, 9, 30)]
    for chosen in (features, features[1:2]):
        batch, lengths = expert.inputs(None, chosen, ["a", "b", "c"][: len(chosen)])
        assert batch.shape == (len(chosen), 50, 26)  # 0.5 s
        assert lengths.tolist() == [50] * len(chosen)
        for row, feature in zip(batch, chosen, strict=True):
            assert torch.equal(row[: len(feature)], feature[:50])
            assert (row[len(feature) :] == value).all()


@pytest.mark.parametrize("length", [0.5, None])
def test_batches_change_nothing(cli: Cli, graded_corpus: TinyCorpus, length: float | None):
    train(cli, graded_corpus, **{f"{MODEL}.max_length": length})
    together = predictions_of("exp")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test", "-o", f"config.{DATA}.eval_batch_size=1")
    pd.testing.assert_frame_equal(together, predictions_of("exp"), atol=1e-5)


def test_stored_embeddings(cli: Cli, graded_corpus: TinyCorpus, tmp_path: Path):
    files = [save_embeddings(tmp_path / "a.npz", graded_corpus), save_embeddings(tmp_path / "b.npz", graded_corpus, 2)]
    named = {f"{MODEL}.utterance_embeddings": files}
    train(cli, graded_corpus, **named)
    plain = train(cli, graded_corpus, "plain") and metrics_of("plain")["num_parameters"]
    assert metrics_of("exp")["num_parameters"] == plain + 5 * 8
    before = predictions_of("exp")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    pd.testing.assert_frame_equal(before, predictions_of("exp"), atol=1e-6)
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(next(graded_corpus.root.glob("*.wav"))), code=1)
    assert "a new file has no stored embedding for -m inference" in out.error


def test_embedding_files_that_do_not_fit(cli: Cli, graded_corpus: TinyCorpus, tmp_path: Path):
    file = save_embeddings(tmp_path / "a.npz", graded_corpus, leave="s3_4.wav")
    said = train(cli, graded_corpus, code=1, **{f"{MODEL}.utterance_embeddings": [file]}).error
    assert "a.npz: holds no embedding of s3_4.wav" in said
    said = train(cli, graded_corpus, code=1, **{f"{MODEL}.utterance_embeddings": [str(tmp_path / "no.npz")]}).error
    assert "no.npz: no such file" in said


def test_resumed_run_equals_an_uninterrupted_one(cli: Cli, graded_corpus: TinyCorpus):
    train(cli, graded_corpus, "whole", **{f"{MODEL}.dropout": 0.5})
    train(cli, graded_corpus, "parts", **{f"{MODEL}.dropout": 0.5, "runner.total_steps": 3})
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=6")
    pd.testing.assert_frame_equal(predictions_of("whole"), predictions_of("parts"), rtol=0, atol=0)


def test_inference_and_attention(cli: Cli, graded_corpus: TinyCorpus):
    train(cli, graded_corpus)
    file = next(graded_corpus.root.glob("*.wav"))
    words = ("-o", "config.downstream_expert.attention_dir='att'")
    out = cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", str(file), *words).out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] in (["ang", "sad"], ["sad", "ang"])
    (weights,) = [np.load(path) for path in Path("att").glob("*.npz")]
    assert (weights["weights"] >= 0).all()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({f"{MODEL}.alpha": 0.7, f"{MODEL}.beta": 0.3}, "alpha (0.7) and beta (0.3)"),
        ({f"{MODEL}.bins": [4, 2]}, "modelrc.bins: must rise"),
        ({f"{MODEL}.max_length": 0}, "modelrc.max_length"),
        ({f"{MODEL}.filter": 3}, "filter"),
    ],
)
def test_bad_recipes_are_refused(cli: Cli, graded_corpus: TinyCorpus, more: dict[str, object], said: str):
    assert said in train(cli, graded_corpus, code=1, **more).error
    assert not Path("exp").exists()
