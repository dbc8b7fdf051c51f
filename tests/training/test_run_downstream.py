"""The flags of ``run_downstream.py``: training, evaluation, inference, what each writes, and the host's own tasks."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import Cli, Run, TinyCorpus

from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import heads_folder
from s3prl_emotion.recipe import read_recipe

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
DATA = "downstream_expert.datarc"
MODEL = "downstream_expert.modelrc"
CLASSES = ["ang", "hap", "neu", "sad"]


def train(cli: Cli, corpus: TinyCorpus, folder: str = "exp", *words: object, **overrides: object) -> dict[str, Any]:
    """Train into ``folder``; returns its last checkpoint."""
    upstream = () if "-u" in words else ("-u", "fbank_no_cmvn")
    start = ("-m", "train", *upstream, "-d", "emotion_corr_attn", "-p", folder)
    cli(*start, "-o", corpus.overrides(**overrides), *words)
    return load_checkpoint(Path(folder) / "states-6.ckpt")


def same(one: Any, other: Any) -> bool:
    """Whether nested containers of tensors and numbers agree, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def table(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def shares(path: Path | str) -> dict[str, np.ndarray]:
    """Class probabilities of a predictions file, by utterance."""
    return {
        row["FileName"]: np.array([float(value) for key, value in row.items() if key.startswith("p_")])
        for row in table(path)
    }


def metrics(path: Path | str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def contents(folder: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# --- training ----------------------------------------------------------------------------------------------------


def test_training_leaves_the_files_of_the_contract(cli: Cli, tiny_corpus: TinyCorpus):
    cli("-m", "train", *HEAD, "-n", "named", "-o", tiny_corpus.overrides())
    folder = Path("result/downstream/named")
    names = {path.name for path in folder.iterdir()}
    for split in ("dev", "test"):
        for kind in ("predict.txt", "truth.txt", "predictions.csv", "metrics.json"):
            assert f"{split}_fold1_{kind}" in names
    assert {"log.log", "dev-best.ckpt", "states-6.ckpt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert any(name.startswith("args_") for name in names)
    assert any(name.startswith("config_") for name in names)
    assert not any("partial" in name for name in names)
    assert "states-3.ckpt" not in names  # max_keep: 1


def test_logs_are_written_as_the_host_writes_them_and_progress_is_lines(
    cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.INFO)
    train(cli, tiny_corpus)
    assert [line[:-2] for line in caplog.messages if " steps" in line] == ["overall: 6 of 6 steps in 0:00:"]
    assert "\r" not in capfd.readouterr().err
    lines = Path("exp/log.log").read_text().splitlines()
    pattern = re.compile(r"(?:New best on dev|train|dev|test) at step \d+: (?:0\.\d+|1\.0|0\.0)")
    assert all(pattern.fullmatch(line) for line in lines), lines
    steps = [line.rpartition(":")[0] for line in lines if not line.startswith("New best")]
    assert [step for step in steps if step.startswith("train")] == [f"train at step {step}" for step in (2, 4, 6)]
    assert [step for step in steps if step.startswith("dev")] == ["dev at step 3", "dev at step 6"]
    assert [step for step in steps if step.startswith("test")] == ["test at step 3", "test at step 6"]
    dev = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("dev at")]
    best = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("New best")]
    assert best[-1] == max(dev)
    assert lines[lines.index(f"dev at step 3: {dev[0]}") + 1] == f"New best on dev at step 3: {dev[0]}"


def test_predictions_that_stay_are_those_of_dev_best(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, **{"optimizer.lr": 0.03, "runner.eval_step": 1})
    best = load_checkpoint("exp/dev-best.ckpt")
    for split in ("dev", "test"):
        left = metrics(f"exp/{split}_fold1_metrics.json")
        assert (left["checkpoint"], left["step"]) == ("dev-best.ckpt", best["Step"])
        cli(
            "-m",
            "evaluate",
            *HEAD,
            "-t",
            split,
            "-p",
            "again",
            "-i",
            "exp/dev-best.ckpt",
            "-o",
            tiny_corpus.overrides(),
        )
        for kind in ("predictions.csv", "predict.txt", "truth.txt"):
            name = f"{split}_fold1_{kind}"
            assert Path("again", name).read_bytes() == Path("exp", name).read_bytes()
    logged = re.findall(r"New best on dev at step (\d+): (\S+)", Path("exp/log.log").read_text())
    assert int(logged[-1][0]) == best["Step"]
    assert metrics("exp/dev_fold1_metrics.json")["WA"] == pytest.approx(float(logged[-1][1]))


@pytest.mark.parametrize("metric", ["UAR", "macro_f1"])
def test_best_metric(cli: Cli, tiny_corpus: TinyCorpus, metric: str):
    train(cli, tiny_corpus, **{"downstream_expert.best_metric": metric, "runner.eval_step": 1, "optimizer.lr": 0.03})
    best = re.findall(r"New best on dev at step \d+: (\S+)", Path("exp/log.log").read_text())[-1]
    assert metrics("exp/dev_fold1_metrics.json")[metric] == pytest.approx(float(best))


def test_first_of_equal_scores_is_the_best(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, **{"runner.eval_step": 1, "optimizer.lr": 0.0})
    assert re.findall(r"New best on dev at step (\d+)", Path("exp/log.log").read_text()) == ["1"]
    assert load_checkpoint("exp/dev-best.ckpt")["Step"] == 1


def test_run_without_any_evaluation_has_no_best(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    train(cli, tiny_corpus, **{"runner.eval_step": 100})
    assert not Path("exp/dev-best.ckpt").exists()
    assert "no dev-best.ckpt" in caplog.text


def test_seed_fixes_everything(cli: Cli, tiny_corpus: TinyCorpus):
    one, again = train(cli, tiny_corpus, "one"), train(cli, tiny_corpus, "again")
    other = train(cli, tiny_corpus, "other", "--seed", 7)
    assert (one["Args"].seed, other["Args"].seed) == (1337, 7)
    for name in ("Downstream", "Featurizer", "Optimizer", "Rng"):
        assert same(one[name], again[name])
    assert not same(one["Downstream"], other["Downstream"])
    assert Path("one/test_fold1_predictions.csv").read_bytes() == Path("again/test_fold1_predictions.csv").read_bytes()
    assert metrics("other/test_fold1_metrics.json")["seed"] == 7


def test_seed_rules_initialisation_and_order(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    from s3prl_emotion.experts.base import EmotionExpert

    seen: dict[str, list[list[str]]] = {}
    forward = EmotionExpert.forward

    def noted(
        self: EmotionExpert, split: str, features: Any, labels: Any, names: Any, records: Any, **more: Any
    ) -> Any:
        if split == "train":
            seen.setdefault(str(self.expdir), []).append(names)
        return forward(self, split, features, labels, names, records, **more)

    monkeypatch.setattr(EmotionExpert, "forward", noted)
    frozen = {"optimizer.name": "TorchOptim", "optimizer.torch_optim_name": "SGD", "optimizer.lr": 0.0}
    one = train(cli, tiny_corpus, "one", **frozen)
    other = train(cli, tiny_corpus, "other", "--seed", 7, **frozen)
    trained = train(cli, tiny_corpus, "trained", **{"runner.total_steps": 12, "runner.max_keep": 9})
    assert not same(one["Downstream"]["model.projector.weight"], other["Downstream"]["model.projector.weight"])
    assert not same(one["Downstream"]["model.projector.weight"], trained["Downstream"]["model.projector.weight"])
    second = seen["trained"][6:]
    assert seen["one"] == seen["trained"][:6] != seen["other"]
    assert second != seen["one"]  # every epoch has an order of its own
    for batches in (seen["one"], seen["other"], second):
        assert len({name for batch in batches for name in batch}) == 24  # six steps of four: each utterance once


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluating_does_not_change_training(cli: Cli, tiny_corpus: TinyCorpus, workers: int):
    often = train(cli, tiny_corpus, "often", **{"runner.eval_step": 2, f"{DATA}.num_workers": workers})
    never = train(cli, tiny_corpus, "never", **{"runner.eval_step": 1000})
    for name in ("Featurizer", "Optimizer", "Rng"):
        assert same(often[name], never[name])
    weights = [
        {key: value for key, value in run["Downstream"].items() if key != "best_score"} for run in (often, never)
    ]
    assert same(*weights)


@pytest.mark.full
def test_training_does_not_depend_on_how_audio_is_read(cli: Cli, tiny_corpus: TinyCorpus):
    base = train(cli, tiny_corpus, "base")
    for name, options in (("read", {"pre_load": False}), ("workers", {"pre_load": False, "num_workers": 2})):
        run = train(cli, tiny_corpus, name, **{f"{DATA}.{key}": value for key, value in options.items()})
        assert same(base["Downstream"], run["Downstream"])


def test_recipe_of_the_command_line(cli: Cli, tiny_corpus: TinyCorpus):
    from s3prl_emotion.files.folders import heads_folder
    from s3prl_emotion.recipe import overridden

    recipe = yaml.safe_load((heads_folder() / "emotion_corr_attn/config.yaml").read_text())
    _, recipe = overridden(tiny_corpus.overrides(**{f"{MODEL}.projector_dim": 5}), None, recipe)
    Path("elsewhere").mkdir()
    Path("elsewhere/mine.yaml").write_text(yaml.safe_dump(recipe))
    cli("-m", "train", *HEAD, "-p", "exp", "--config", "elsewhere/mine.yaml")
    assert load_checkpoint("exp/states-6.ckpt")["Downstream"]["model.projector.weight"].shape[0] == 5
    Path("downstream/emotion_corr_attn").mkdir(parents=True)  # where s3prl itself looks
    recipe["downstream_expert"]["modelrc"]["projector_dim"] = 6
    Path("downstream/emotion_corr_attn/config.yaml").write_text(yaml.safe_dump(recipe))
    cli("-m", "train", *HEAD, "-p", "local")
    assert load_checkpoint("local/states-6.ckpt")["Downstream"]["model.projector.weight"].shape[0] == 6


def test_override_of_arguments_and_recipe(cli: Cli, tiny_corpus: TinyCorpus):
    text = tiny_corpus.overrides() + ",,args.seed=3,,args.expdir=there,,config.runner.eval_dataloaders=['dev'],,"
    text += f"config.{DATA}.max_duration=null,,config.{MODEL}.pooling=mean"
    cli("-m", "train", *HEAD, "-p", "here", "-o", text)
    found = metrics("there/dev_fold1_metrics.json")
    assert found["seed"] == 3
    assert found["config"]["downstream_expert"]["modelrc"]["pooling"] == "mean"
    assert not Path("there/test_fold1_metrics.json").exists()


def test_fold_of_the_command_line(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, "exp", "-v", "fold2")
    rows = table("exp/test_fold2_predictions.csv")
    assert {row["SpkrID"] for row in rows} == {"s2", "s3"}
    assert not Path("exp/test_fold1_predictions.csv").exists()
    train(cli, tiny_corpus, "recipe", "-v", "fold2", **{f"{DATA}.test_fold": "fold3"})  # as in the stock task
    assert Path("recipe/test_fold3_predictions.csv").exists()


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "corr", "corr_attn"])
@pytest.mark.parametrize("extra", ["none", "everything"])
def test_every_pooling_and_option_trains(cli: Cli, tiny_corpus: TinyCorpus, pooling: str, extra: str):
    options: dict[str, object] = {f"{MODEL}.pooling": pooling}
    if extra == "everything":
        options |= {
            f"{MODEL}.projector_dim": None,
            f"{MODEL}.num_heads": 1,
            f"{DATA}.class_weights": "effective",
            f"{DATA}.balanced_sampling": True,
            f"{DATA}.max_duration": 0.4,
            "runner.gradient_accumulate_steps": 2,
            "scheduler.name": "linear_schedule_with_warmup",
            "scheduler.num_warmup_steps": 2,
            "specaug.apply_time_warp": False,
        }
    state = train(cli, tiny_corpus, **options)
    assert state["Step"] == 6
    assert ("Scheduler" in state) == (extra == "everything")
    assert metrics("exp/test_fold1_metrics.json")["utterances"] == 16


# --- upstream and layers -----------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_trainable_upstream(cli: Cli, tiny_corpus: TinyCorpus, layer: int | None):
    words = ("-u", "customized_upstream", "-f", *(() if layer is None else ("-l", layer)))
    start = train(cli, tiny_corpus, "start", *words, **{"optimizer.lr": 0.0})
    state = train(cli, tiny_corpus, "exp", *words)
    moved = {
        name.split(".")[0] for name, value in state["Upstream"].items() if not same(value, start["Upstream"][name])
    }
    assert moved == ({"model1"} if layer == 0 else {"model1", "model2"})
    assert list(state["Featurizer"]) == ([] if layer is not None else ["weights"])
    before = shares("exp/test_fold1_predictions.csv")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt")
    after = shares("exp/test_fold1_predictions.csv")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_frozen_upstream_is_not_stored_and_its_layers_are_weighted(cli: Cli, tiny_corpus: TinyCorpus):
    state = train(cli, tiny_corpus, "exp", "-u", "customized_upstream", **{"optimizer.lr": 0.1})
    assert "Upstream" not in state
    assert state["Featurizer"]["weights"].shape == (2,)
    assert not torch.equal(state["Featurizer"]["weights"], torch.zeros(2))
    best = load_checkpoint("exp/dev-best.ckpt")["Featurizer"]["weights"].double()
    assert metrics("exp/test_fold1_metrics.json")["layer_weights"] == pytest.approx(best.softmax(dim=0).tolist())
    normalised = train(cli, tiny_corpus, "norm", "-u", "customized_upstream", "--upstream_feature_normalize")
    assert normalised["Args"].upstream_feature_normalize


def test_selected_features(cli: Cli, tiny_corpus: TinyCorpus):
    state = train(cli, tiny_corpus, "exp", "-u", "customized_upstream", "-s", "ER", "-l", 1)
    assert metrics("exp/test_fold1_metrics.json")["upstream"]["upstream_feature_selection"] == "ER"
    assert state["Featurizer"] == {}
    assert metrics("exp/test_fold1_metrics.json")["layer_weights"] is None
    train(cli, tiny_corpus, "fbank", "-l", 0)  # the one layer that there is


def test_adapters_of_other_folders(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    import s3prl.hub
    import s3prl.upstream

    folder = Path("adapters/raw_frames")
    folder.mkdir(parents=True)
    folder.joinpath("__init__.py").write_text("")
    folder.joinpath("expert.py").write_text(
        "import torch\n"
        "class UpstreamExpert(torch.nn.Module):\n"
        "    def get_downsample_rates(self, key):\n"
        "        return 80\n"
        "    def forward(self, wavs):\n"
        "        wavs = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)\n"
        "        return {'hidden_states': [wavs.unfold(1, 80, 80)]}\n"
    )
    folder.joinpath("hubconf.py").write_text(
        "from .expert import UpstreamExpert as _UpstreamExpert\n"
        "import torch as _torch\n"
        "def raw_frames(*args, **kwargs):\n"
        "    return _UpstreamExpert()\n"
        "def raw_frames_drawn(*args, **kwargs):\n"
        "    _torch.rand(7)\n"
        "    return _UpstreamExpert()\n"
    )
    monkeypatch.setattr(s3prl.upstream, "__path__", list(s3prl.upstream.__path__))
    try:
        state = train(cli, tiny_corpus, "exp", "-u", "raw_frames", "--upstream_path", "adapters")
        drawn = train(cli, tiny_corpus, "drawn", "-u", "raw_frames_drawn", "--upstream_path", "adapters")
    finally:
        for name in ("raw_frames", "raw_frames_drawn"):
            vars(s3prl.hub).pop(name, None)
        for name in [name for name in sys.modules if name.startswith("s3prl.upstream.raw_frames")]:
            del sys.modules[name]
    assert same(state["Downstream"], drawn["Downstream"])  # what an upstream draws does not change the head
    assert metrics("exp/test_fold1_metrics.json")["upstream"]["upstream"] == "raw_frames"


# --- evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_writes_metrics_and_predictions(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus)
    for path in Path("exp").glob("test_*"):
        path.unlink()
    log = Path("exp/log.log").read_text()
    outcome = cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    rows, found = table("exp/test_fold1_predictions.csv"), metrics("exp/test_fold1_metrics.json")
    assert list(rows[0]) == ["FileName", "SpkrID", "Gender", "truth", "prediction", *(f"p_{name}" for name in CLASSES)]
    labels = {row["FileName"]: row for row in table(tiny_corpus.labels) if row["Fold"] == "fold1"}
    assert {row["FileName"] for row in rows} == set(labels)
    for row in rows:
        probability = [float(row[f"p_{name}"]) for name in CLASSES]
        assert sum(probability) == pytest.approx(1, abs=1e-6)
        assert min(probability) >= 0
        assert row["prediction"] == CLASSES[int(np.argmax(probability))]
        label = labels[row["FileName"]]
        assert (row["truth"], row["SpkrID"], row["Gender"]) == (label["EmoClass"], label["SpkrID"], label["Gender"])

    truth = np.array([row["truth"] for row in rows])
    hits = truth == np.array([row["prediction"] for row in rows])
    assert found["WA"] == pytest.approx(hits.mean())
    assert found["UAR"] == pytest.approx(np.mean([hits[truth == name].mean() for name in CLASSES]))
    confusion = [[sum(r["truth"] == t and r["prediction"] == p for r in rows) for p in CLASSES] for t in CLASSES]
    assert found["confusion"] == confusion
    assert found["recall"] == {name: pytest.approx(hits[truth == name].mean()) for name in CLASSES}
    assert found["step"] == load_checkpoint("exp/dev-best.ckpt")["Step"]
    assert (found["checkpoint"], found["split"], found["fold"]) == ("dev-best.ckpt", "test", "fold1")
    assert (found["head"], found["seed"], found["classes"]) == ("emotion_corr_attn", 1337, CLASSES)
    assert found["upstream"]["upstream"] == "fbank_no_cmvn"
    assert {"python", "torch", "s3prl", "s3prl-emotion"} <= set(found["versions"])
    assert re.fullmatch(r"[0-9a-f]{64}", found["config_hash"])
    assert found["config_hash"] == metrics("exp/dev_fold1_metrics.json")["config_hash"]
    assert found["num_parameters"] > 0

    lines = [f"{Path(row['FileName']).stem} {row['prediction']}" for row in rows]
    assert Path("exp/test_fold1_predict.txt").read_text().splitlines() == lines
    lines = [f"{Path(row['FileName']).stem} {row['truth']}" for row in rows]
    assert Path("exp/test_fold1_truth.txt").read_text().splitlines() == lines
    added = Path("exp/log.log").read_text().removeprefix(log).splitlines()
    assert len(added) == 1
    assert added[0].startswith(f"test at step {found['step']}: ")
    assert f"{100 * found['WA']:.2f} %" in outcome.out
    assert "exp/test_fold1_metrics.json" in outcome.out


def test_config_hash_changes_with_the_recipe(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus, "one")
    train(cli, tiny_corpus, "two", **{f"{MODEL}.channel_dropout": 0.1})
    one, two = (metrics(f"{name}/test_fold1_metrics.json") for name in ("one", "two"))
    assert one["config_hash"] != two["config_hash"]


def test_evaluating_elsewhere_leaves_the_experiment_alone(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus)
    before = contents("exp")
    cli("-m", "evaluate", *HEAD, "-i", "exp/dev-best.ckpt", "-p", "other", "-o", tiny_corpus.overrides())
    assert contents("exp") == before
    assert metrics("other/test_fold1_metrics.json")["checkpoint"] == "dev-best.ckpt"
    assert not list(Path("other").glob("*.ckpt"))


def test_experiment_folder_means_its_latest_states(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    train(cli, tiny_corpus, **{"runner.max_keep": 9, "runner.save_step": 1, "runner.total_steps": 12})
    cli("-m", "evaluate", "-e", "exp")
    found = metrics("exp/test_fold1_metrics.json")
    assert (found["checkpoint"], found["step"]) == ("states-12.ckpt", 12)  # not states-9, though 9 sorts behind 12
    assert "dev-best.ckpt" in caplog.text  # a hint
    cli("-m", "evaluate", "-e", "exp/states-9.ckpt")
    assert metrics("exp/test_fold1_metrics.json")["step"] == 9


def test_flags_that_a_checkpoint_overrules(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    train(cli, tiny_corpus)
    caplog.clear()
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "--seed", 5, "-u", "fbank_no_cmvn")
    assert metrics("exp/test_fold1_metrics.json")["seed"] == 1337
    assert "--seed is ignored" in caplog.text
    assert "--upstream is ignored" not in caplog.text
    line = cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-u", "fbank", code=1).error
    assert "was trained with another upstream: upstream fbank_no_cmvn (here fbank)" in line
    caplog.clear()
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-o", "args.expdir=elsewhere", "-t", "dev")
    assert Path("elsewhere/dev_fold1_metrics.json").exists()
    assert "is ignored" not in caplog.text


@pytest.mark.parametrize("pre_load", [True, False])
def test_every_split_can_be_evaluated(cli: Cli, tiny_corpus: TinyCorpus, pre_load: bool):
    options = {f"{DATA}.pre_load": pre_load, f"{DATA}.balanced_sampling": True, f"{DATA}.max_duration": 0.35}
    train(cli, tiny_corpus, **options)
    sizes = {"train": 24, "dev": 8, "test": 16}
    seen: set[str] = set()
    for split, size in sizes.items():
        cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", split)
        names = [row["FileName"] for row in table(f"exp/{split}_fold1_predictions.csv")]
        assert len(names) == len(set(names)) == metrics(f"exp/{split}_fold1_metrics.json")["utterances"] == size
        seen |= set(names)
    assert len(seen) == 48


def test_training_split_can_be_evaluated_during_training(cli: Cli, tiny_corpus: TinyCorpus):
    plain = train(cli, tiny_corpus, "plain")
    state = train(cli, tiny_corpus, **{"runner.eval_dataloaders": ["train", "dev"]})
    assert metrics("exp/train_fold1_metrics.json")["utterances"] == 24
    assert same(plain["Downstream"], state["Downstream"])


def partitioned(corpus: TinyCorpus) -> TinyCorpus:
    """The same corpus with official partitions instead of folds, two of them for tests."""
    partition = {"s0": "Train", "s1": "Train", "s2": "Train", "s3": "Development", "s4": "Test1", "s5": "Test2"}
    lines = ["FileName,EmoClass,SpkrID,Split_Set"]
    for row in table(corpus.labels):
        lines.append(f"{row['FileName']},{row['EmoClass']},{row['SpkrID']},{partition[row['SpkrID']]}")
    Path("partitions.csv").write_text("\n".join(lines) + "\n")
    return TinyCorpus(corpus.root, Path("partitions.csv").resolve())


def test_official_partitions(cli: Cli, tiny_corpus: TinyCorpus):
    corpus = partitioned(tiny_corpus)
    train(cli, corpus, **{"runner.eval_dataloaders": ["dev", "Test1", "Test2"]})
    for name, speaker in (("dev", "s3"), ("Test1", "s4"), ("Test2", "s5")):
        assert {row["SpkrID"] for row in table(f"exp/{name}_fold1_predictions.csv")} == {speaker}
    Path("exp/Test2_fold1_predictions.csv").rename("before.csv")
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "Test2")
    assert Path("exp/Test2_fold1_predictions.csv").read_bytes() == Path("before.csv").read_bytes()
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    assert {row["SpkrID"] for row in table("exp/test_fold1_predictions.csv")} == {"s4"}


def test_training_on_another_partition(cli: Cli, tiny_corpus: TinyCorpus):
    corpus = partitioned(tiny_corpus)
    options = {
        "runner.train_dataloader": "Test2",
        f"{DATA}.balanced_sampling": True,
        f"{DATA}.class_weights": "balanced",
    }
    state = train(cli, corpus, **options)
    assert state["Epoch"] == 2  # two batches of four an epoch
    log = Path("exp/log.log").read_text()
    assert "Test2 at step 2: " in log
    assert "train at" not in log


def test_predictions_do_not_depend_on_the_batch(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus)
    found = []
    for size in (1, 3, 16):
        overrides = tiny_corpus.overrides(**{f"{DATA}.eval_batch_size": size})
        cli("-m", "evaluate", *HEAD, "-i", "exp/dev-best.ckpt", "-p", f"by{size}", "-o", overrides)
        found.append(shares(f"by{size}/test_fold1_predictions.csv"))
    for name in found[0]:
        for other in found[1:]:
            assert np.abs(found[0][name] - other[name]).max() <= 1e-6


def test_evaluating_without_a_checkpoint_warns(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    cli("-m", "evaluate", *HEAD, "-p", "exp", "-o", tiny_corpus.overrides())
    assert "untrained head" in caplog.text
    found = metrics("exp/test_fold1_metrics.json")
    assert (found["step"], found["checkpoint"]) == (0, None)


# --- inference ---------------------------------------------------------------------------------------------------


def answer(text: str) -> dict[str, float]:
    """What inference printed, by class."""
    return {name: float(share) for name, share in re.findall(r"^  (\w+) +([01]\.\d{4})$", text, re.MULTILINE)}


def test_inference_needs_only_the_checkpoint(cli: Cli, own_tiny_corpus: TinyCorpus, tmp_path: Path):
    train(cli, own_tiny_corpus)
    predictions = shares("exp/test_fold1_predictions.csv")
    shutil.copy(own_tiny_corpus.root / "s1_sad_1.wav", "voice.wav")
    shutil.rmtree(tmp_path / "own")
    outcome = cli("-m", "inference", "-t", "voice.wav", "-e", "exp/dev-best.ckpt")
    found = answer(outcome.out)
    assert "voice\n" in outcome.out
    assert list(found) == sorted(CLASSES, key=lambda name: -found[name])
    assert sum(found.values()) == pytest.approx(1, abs=3e-4)
    expected = dict(zip(CLASSES, predictions["s1_sad_1.wav"], strict=True))
    assert found == {name: pytest.approx(expected[name], abs=1e-4) for name in CLASSES}
    classes = f"config.{DATA}.classes={CLASSES},,config.{MODEL}.projector_dim=8"
    words = (*HEAD, "-i", "exp/dev-best.ckpt", "-p", "infer", "-o", classes)
    assert answer(cli("-m", "inference", "-t", "voice.wav", *words).out) == found


def test_inference_of_other_formats(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus)
    samples = np.random.default_rng(0).normal(scale=0.1, size=(6000, 2))
    soundfile.write("stereo.flac", samples, 44_100)
    outcome = cli("-m", "inference", "-t", "stereo.flac", "-e", "exp")
    assert sum(answer(outcome.out).values()) == pytest.approx(1, abs=3e-4)
    Path("noise.wav").write_bytes(b"no audio")
    assert "noise.wav: unreadable" in cli("-m", "inference", "-t", "noise.wav", "-e", "exp", code=1).error
    soundfile.write("short.wav", samples[:100], 16_000)
    error = cli("-m", "inference", "-t", "short.wav", "-e", "exp", code=1).error
    assert "short.wav" in error
    assert "0.006 s" in error


def test_attention_is_exported(cli: Cli, tiny_corpus: TinyCorpus):
    train(cli, tiny_corpus)
    attention = "config.downstream_expert.attention_dir=weights"
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-o", attention)
    with np.load("weights/test_fold1_attention.npz") as file:
        weights = {name: file[name] for name in file.files}
    assert set(weights) == {row["FileName"] for row in table("exp/test_fold1_predictions.csv")}
    for name, row in weights.items():
        samples = soundfile.info(tiny_corpus.root / name).frames
        assert len(row) == (samples - 400) // 160 + 1  # frames of 25 ms every 10 ms: those of the audio alone
        assert row.sum() == pytest.approx(1, abs=1e-5)
        assert row.min() >= 0
    audio = tiny_corpus.root / "s0_hap_0.wav"
    outcome = cli("-m", "inference", "-t", audio, "-e", "exp/dev-best.ckpt", "-o", attention)
    assert "weights/s0_hap_0_attention.png" in outcome.out
    assert Path("weights/s0_hap_0_attention.png").read_bytes().startswith(b"\x89PNG")
    with np.load("weights/s0_hap_0_attention.npz") as file:
        assert np.abs(file["weights"] - weights["s0_hap_0.wav"]).max() <= 1e-6


# --- the host's own tasks ----------------------------------------------------------------------------------------


def test_stock_emotion(cli: Cli, superb_corpus: TinyCorpus):
    text = (
        f"config.{DATA}.root={superb_corpus.root},,config.{DATA}.meta_data={superb_corpus.labels},,"
        "config.runner.total_steps=4,,config.runner.eval_step=2,,config.runner.save_step=2,,"
        "config.runner.log_step=2,,config.runner.gradient_accumulate_steps=1"
    )
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion", "-p", "exp", "-o", text)
    assert {"states-4.ckpt", "test_fold1_predict.txt", "log.log"} <= set(contents("exp"))
    assert len(Path("exp/test_fold1_predict.txt").read_text().splitlines()) == 24
    cli("-m", "evaluate", "-e", "exp", "-t", "dev")
    text += ",,config.runner.total_steps=6"
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion", "-p", "exp", "-a", "-o", text)
    assert "states-6.ckpt" in contents("exp")


def test_stock_example(cli: Cli):
    text = (
        "config.runner.total_steps=2,,config.runner.eval_step=2,,config.runner.save_step=2,,config.runner.log_step=1,,"
        "config.runner.gradient_accumulate_steps=1,,config.runner.evaluate_ratio=0.01"
    )
    cli("-m", "train", "-u", "fbank", "-d", "example", "-p", "exp", "-o", text)
    assert load_checkpoint("exp/states-2.ckpt")["Step"] == 2
    cli("-m", "evaluate", "-e", "exp", "-t", "dev")


# --- the rest ----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_real_process_trains_and_infers(run: Run, tmp_path: Path, tiny_corpus: TinyCorpus):
    """From a working directory that is not the checkout, by the launcher and as an installed package is called."""
    cwd = tmp_path / "deep" / "down"
    cwd.mkdir(parents=True)
    done = run(
        "run_downstream.py", "-m", "train", *HEAD, "-n", "named", "--verbose", "-o", tiny_corpus.overrides(), cwd=cwd
    )
    assert "UA (UAR)" in done.stdout
    folder = cwd / "result/downstream/named"
    for split in ("dev", "test"):
        assert (folder / f"{split}_fold1_confusion.png").read_bytes().startswith(b"\x89PNG")
    inference = ("-m", "inference", "-t", tiny_corpus.root / "s0_neu_0.wav", "-e", folder / "dev-best.ckpt")
    done = run(sys.executable, "-m", "s3prl_emotion.run_downstream", *inference, cwd=cwd)
    assert set(answer(done.stdout)) == set(CLASSES)


def test_help(cli: Cli, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli("--help")
    assert ended.value.code == 0
    text = capfd.readouterr().out
    assert text.startswith("usage: run_downstream.py")
    for flag in ("--upstream_path", "--auto_resume", "--evaluate_split", "--upstream_layer_selection"):
        assert flag in text


def test_logging_says_what_is_trained_on(cli: Cli, own_tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    train(cli, own_tiny_corpus)
    assert "train 24, dev 8, test 16 utterances; classes ang, hap, neu, sad" in caplog.text


def test_dev_and_test_are_evaluated_where_the_recipe_names_no_splits(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    recipe = read_recipe(heads_folder() / "emotion_corr_attn" / "config.yaml")
    del recipe["runner"]["eval_dataloaders"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    train(cli, tiny_corpus, str(tmp_path / "exp"), "-c", path)
    assert {item.name for item in (tmp_path / "exp").glob("*_metrics.json")} == {
        "dev_fold1_metrics.json", "test_fold1_metrics.json",
    }  # fmt: skip
