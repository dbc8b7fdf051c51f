"""``modelrc.standardize`` of ``emotion_corr_attn``: what it is fitted to, and where it is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Cli, TinyCorpus
from processes import command, together

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.experts.standardizer import Standardizer, moments
from s3prl_emotion.files.checkpoint import load_checkpoint

s3prl_emotion.register()

from s3prl.downstream.emotion_corr_attn.model import POOLINGS, CorrAttnModel  # noqa: E402

MODEL = "downstream_expert.modelrc"


def words(corpus: TinyCorpus, folder: str, *more: object, **settings: object) -> list[object]:
    text = corpus.overrides(**{f"{MODEL}.pooling": "mean", f"{MODEL}.standardize": True, **settings})
    return ["-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "-p", folder, "-o", text, *more]


def weights_of(folder: str | Path, name: str = "dev-best.ckpt") -> dict[str, Any]:
    return load_checkpoint(Path(folder, name))["Downstream"]


def predictions_of(folder: str) -> pd.DataFrame:
    return pd.read_csv(Path(folder, "test_fold1_predictions.csv")).set_index("FileName").sort_index()


# --- the module -------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_population_and_constants_become_0():
    rows = np.array([[1.0, 5.0, 1e6 + 1e-5], [3.0, 5.0, 1e6], [8.0, 5.0, 1e6 - 1e-5]])
    location, scale = moments(rows)
    assert location == pytest.approx([4.0, 5.0, 1e6])
    assert scale == pytest.approx([np.sqrt((9 + 1 + 16) / 3), 1.0, 1.0])  # the last varies by rounding alone


def test_a_fitted_one_stays_and_an_unfitted_one_is_refused():
    module = Standardizer(2)
    with pytest.raises(ConfigError, match="standardize: not fitted to a training split"):
        module.check_fitted()
    module.fit(["a", "b"], torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
    module.check_fitted()
    module.fit(["c"], torch.tensor([[9.0, 9.0]]))
    assert torch.equal(module(torch.tensor([[[2.0, 1.0], [4.0, 2.0]]])), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    with pytest.raises(ConfigError, match="d: the upstream's features are not finite"):
        module.fit(["c", "d"], torch.tensor([[1.0, 1.0], [1.0, torch.nan]]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_network_is_that_of_features_standardised_before(pooling: str):
    torch.manual_seed(0)
    features, lengths = 3 + 5 * torch.randn(3, 6, 4, dtype=torch.float64), torch.tensor([6, 4, 1])
    rows = torch.randn(10, 4) * torch.tensor([1.0, 10.0, 100.0, 0.0]) + 7
    model = CorrAttnModel(4, 3, pooling, projector_dim=5, standardize=True).eval()
    model.standardizer.fit([""] * 10, rows)
    plain = CorrAttnModel(4, 3, pooling, projector_dim=5).eval().double()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("standardizer")})
    location, scale = rows.double().mean(0), rows.double().std(0, unbiased=False)
    scale[3] = 1.0
    expected = plain((features - location) / scale, lengths)
    given = features.float().requires_grad_()
    outputs = model(given, lengths)
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=1e-4)
    outputs.sum().backward()
    assert torch.isfinite(given.grad).all()
    changed = features.float()
    changed[1, 4:], changed[2, 1:] = torch.nan, 1e6  # padding
    assert torch.equal(model(changed, lengths), outputs)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_it_is_fitted_to_the_training_split_alone(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*words(tiny_corpus, "exp"))
    corpus = ("--labels", str(tiny_corpus.labels), "--root", str(tiny_corpus.root))
    assert suite.main(["export", "-u", "fbank_no_cmvn", *corpus, "--pooling", "mean", "-o", "means.npz"]) == 0
    with tiny_corpus.labels.open(newline="") as handle:
        held_out = {row["FileName"] for row in csv.DictReader(handle) if row["Fold"] == "fold1"}
    held_out |= set(pd.read_csv("exp/dev_fold1_predictions.csv")["FileName"])
    with np.load("means.npz") as file:
        rows = file["features"].astype(np.float64).reshape(len(file["names"]), -1)
        rows = rows[[Path(name).name not in {Path(held).name for held in held_out} for name in file["names"]]]
    weights = weights_of("exp")
    assert len(rows) > 2
    np.testing.assert_allclose(weights["model.standardizer.location"].numpy(), rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights["model.standardizer.scale"].numpy(), rows.std(axis=0), rtol=1e-4)
    evaluated = predictions_of("exp")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test", "-p", "again")
    pd.testing.assert_frame_equal(predictions_of("again"), evaluated, rtol=0, atol=0)


@pytest.mark.full
def test_means_and_frames_give_the_same(cli: Cli, tiny_corpus: TinyCorpus):
    for statistics in ("always", "never"):
        cli(*words(tiny_corpus, statistics, "--feature_store", "store", "--statistics", statistics))
    one, other = (weights_of(folder) for folder in ("always", "never"))
    for name in ("location", "scale"):
        key = f"model.standardizer.{name}"
        torch.testing.assert_close(one[key], other[key], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one["model.classifier.weight"], other["model.classifier.weight"], rtol=1e-3, atol=1e-4)


@pytest.mark.full
def test_a_resumed_run_equals_an_uninterrupted_one(cli: Cli, tiny_corpus: TinyCorpus):
    settings = {f"{MODEL}.pooling": "corr_attn", f"{MODEL}.channel_dropout": 0.25}
    cli(*words(tiny_corpus, "whole", **settings, **{"runner.total_steps": 6}))
    cli(*words(tiny_corpus, "parts", **settings, **{"runner.total_steps": 3}))
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=6")
    one, other = (weights_of(folder, "states-6.ckpt") for folder in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one if name != "_extra_state")
    pd.testing.assert_frame_equal(predictions_of("whole"), predictions_of("parts"), rtol=0, atol=0)


@pytest.mark.full
def test_two_processes(tiny_corpus: TinyCorpus, tmp_path: Path):
    for world in (None, 2):
        line = (*words(tiny_corpus, f"world{world}"), "--device", "cpu")
        left = together(tmp_path, world, command, tuple(map(str, line)))
        assert [process.value for process in left] == [0] * len(left), left
    one, two = (weights_of(tmp_path / f"world{world}") for world in (None, 2))
    for name in ("location", "scale"):
        key = f"model.standardizer.{name}"
        torch.testing.assert_close(one[key], two[key], rtol=1e-5, atol=1e-6)


def test_an_untrained_head_is_not_evaluated(cli: Cli, tiny_corpus: TinyCorpus):
    line = ["evaluate" if word == "train" else word for word in words(tiny_corpus, "exp")]
    assert "standardize: not fitted to a training split" in cli(*line, code=1).error


def test_a_runner_that_does_not_fit_it_is_refused(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    """As s3prl's own does not."""
    monkeypatch.setattr(host.expert_class("emotion_corr_attn"), "fit", lambda *given: None)
    assert "standardize: not fitted to a training split" in cli(*words(tiny_corpus, "exp"), code=1).error
