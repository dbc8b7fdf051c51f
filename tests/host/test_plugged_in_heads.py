"""Heads from outside the suite: folders, packages that pip installs, clashes of names, heads that do not import."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Cli, Run, TinyCorpus

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.errors import UsageError
from s3prl_emotion.experts.heads import emotion_heads, is_emotion_head
from s3prl_emotion.files.folders import heads_folder, recipes_folder
from s3prl_emotion.host import heads, registration

MODEL = """
import torch

LOADED = []


class Mean(torch.nn.Module):
    def __init__(self, size, classes):
        super().__init__()
        self.output = torch.nn.Linear(size, classes)

    def forward(self, features, lengths):
        return self.output(features.sum(dim=1) / lengths.unsqueeze(1))
"""
EXPERT = """
from torch import nn

from s3prl_emotion.experts.categorical import CategoricalExpert
from s3prl_emotion.recipe import StrictSection

from .model import Mean


class ModelSection(StrictSection):
    smoothing: float = 0.0


class DownstreamExpert(CategoricalExpert):
    model_section = ModelSection

    def build_model(self, modelrc, upstream_dim):
        return Mean(upstream_dim, len(self.classes))

    def build_loss(self, modelrc):
        return nn.CrossEntropyLoss(weight=self.class_weights(), label_smoothing=modelrc.smoothing)
"""
TRAIN = ("-m", "train", "-u", "fbank_no_cmvn", "-p", "exp", "--device", "cpu")


class NoModelKeys(TinyCorpus):
    """The corpus of tones with overrides for a head that has no sizes."""

    modelrc = {}  # noqa: RUF012


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away again what a test adds to the process."""
    host.register()
    package = importlib.import_module("s3prl.downstream")
    importlib.import_module("s3prl.downstream.runner")  # stays: the suite's runner, once imported, is made from it
    kept, modules, path = dict(vars(package)), dict(sys.modules), list(sys.path)
    monkeypatch.setattr(heads, "_plugged_in", {})
    monkeypatch.setattr(heads._ALIASES, "packages", {})
    monkeypatch.delenv("S3PRL_DOWNSTREAM_PATH", raising=False)
    host.HEADS.failed.clear()
    yield
    vars(package).clear()
    vars(package).update(kept)
    for name in sys.modules.keys() - modules.keys():
        if name.startswith(("s3prl.downstream.", "plugin")):
            del sys.modules[name]
    sys.path[:] = path
    importlib.invalidate_caches()


@pytest.fixture
def corpus(tiny_corpus: TinyCorpus) -> NoModelKeys:
    return NoModelKeys(tiny_corpus.root, tiny_corpus.labels)


def write_head(folder: Path, name: str, expert: str = EXPERT, init: bool = True) -> Path:
    """A head ``folder/name`` with a default recipe; returns it."""
    head = folder / name
    head.mkdir(parents=True)
    if init:
        head.joinpath("__init__.py").write_text("")
    head.joinpath("model.py").write_text(MODEL)
    head.joinpath("expert.py").write_text(expert)
    recipe = yaml.safe_load((heads_folder() / "emotion_corr_attn/config.yaml").read_text())
    recipe["downstream_expert"]["modelrc"] = {"smoothing": 0.1}
    head.joinpath("config.yaml").write_text(yaml.safe_dump(recipe))
    return head


# --- folders -------------------------------------------------------------------------------------------------------


def test_flag_environment_and_a_head_itself_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_head(tmp_path / f"path{number}", f"plug{number}", init=number != 1)
    monkeypatch.setenv("S3PRL_DOWNSTREAM_PATH", f"{tmp_path}/path0{os.pathsep}{tmp_path}/path1/plug1{os.pathsep}")
    monkeypatch.setitem(registration._state, "registered", False)
    host.register()
    assert host.register_search_path(None, f"{tmp_path}/path2")[-1] == "plug2"
    names = {"plug0", "plug1", "plug2"}
    assert names < set(host.downstream_names())
    assert names < set(emotion_heads())
    assert {host.expert_class(name).__module__ for name in names} == {
        f"s3prl.downstream.{name}.expert" for name in names
    }


def test_registering_again_loads_no_file_twice(tmp_path: Path) -> None:
    write_head(tmp_path / "real", "plug_again")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    host.register_search_path(None, f"{tmp_path}/real")
    first = host.expert_class("plug_again")
    host.register_search_path(None, f"{tmp_path}/link{os.pathsep}{tmp_path}/real/plug_again")
    assert host.expert_class("plug_again") is first
    loaded = [
        name for name, module in sys.modules.items() if "plug_again/model.py" in str(getattr(module, "__file__", None))
    ]
    assert loaded == ["s3prl.downstream.plug_again.model"]


def test_a_task_of_another_base_class_is_no_head_of_the_suite(tmp_path: Path) -> None:
    expert = (Path(importlib.import_module("s3prl.downstream").__path__[0]) / "example/expert.py").read_text()
    write_head(tmp_path, "plug_task", expert.replace("from .", "from s3prl.downstream.example."))
    assert host.register_search_path(None, str(tmp_path)) == ["plug_task"]
    assert not is_emotion_head("plug_task")
    assert "plug_task" in host.downstream_names()


@pytest.mark.parametrize("source", ["--downstream_path", "S3PRL_DOWNSTREAM_PATH"])
def test_folders_that_hold_nothing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in (("nowhere", "no such folder"), ("empty", "there must be a <name>/expert.py in it")):
        path = str(tmp_path / folder)
        if source == "S3PRL_DOWNSTREAM_PATH":
            monkeypatch.setenv(source, path)
        with pytest.raises(UsageError, match=f"^{source} {re.escape(path)}: .*{re.escape(said)}"):
            host.register_search_path(None, None if source == "S3PRL_DOWNSTREAM_PATH" else path)


@pytest.mark.parametrize("name", ["plug_same", "emotion_acnn", "emotion", "runner"])
def test_folders_of_one_name_are_refused_with_both_paths(name: str, tmp_path: Path) -> None:
    write_head(tmp_path / "a", "plug_same")
    host.register_search_path(None, str(tmp_path / "a"))
    head = write_head(tmp_path / "b", name)
    theirs = {
        "plug_same": str(tmp_path.resolve() / "a/plug_same"), "emotion_acnn": str(heads_folder() / "emotion_acnn"),
        "emotion": "s3prl/downstream/emotion", "runner": "s3prl/downstream/runner.py",
    }[name]  # fmt: skip
    with pytest.raises(UsageError, match="a head of this folder name exists already") as caught:
        host.register_search_path(None, str(tmp_path / "b"))
    assert str(head.resolve()) in str(caught.value)
    assert theirs in str(caught.value)


# --- heads that do not import --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("\nimport no_such_library\n", "No module named 'no_such_library' in expert.py line 2"),
        ("from .missing import x\n", "s3prl.downstream.plug_broken.missing"),
        ("NUMBER = 3\n", "defines no class DownstreamExpert"),
    ],
)
def test_a_head_that_does_not_import_is_named_and_others_work(
    text: str, said: str, tmp_path: Path, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    broken = write_head(tmp_path / "a", "plug_broken", text)
    write_head(tmp_path / "a", "plug_sound")
    with caplog.at_level(logging.WARNING):
        assert host.register_search_path(None, str(tmp_path / "a")) == ["plug_sound"]
    (warning,) = caplog.messages
    assert str(broken.resolve()) in warning
    assert said in warning
    error = cli(*TRAIN, "-d", "plug_broke", "--downstream_path", "a", code=1).error
    assert "-d plug_broke: no such head or task" in error
    assert f"heads that failed to import: {broken.resolve()} (" in error
    assert said in error


# --- packages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["plugin.heads.one.expert", "plugin.heads.one", "plugin.heads"])
def test_entry_points(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_head(tmp_path / "plugin/heads", "one", EXPERT.replace("from .model", "from plugin.heads.one.model"))
    for folder in (tmp_path / "plugin", tmp_path / "plugin/heads"):
        folder.joinpath("__init__.py").write_text("")
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[s3prl_emotion.downstreams]\nmine = {value}\n")
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.setitem(registration._state, "registered", False)
    host.register()
    assert "one" in emotion_heads()
    for part in ("", ".expert", ".model"):  # both names mean the same module, which is loaded once
        module = importlib.import_module(f"s3prl.downstream.one{part}")
        assert module is importlib.import_module(f"plugin.heads.one{part}")
        assert module.__spec__.name == f"plugin.heads.one{part}"


# --- training, checkpoints, commands -------------------------------------------------------------------------------


def test_it_trains_by_its_own_recipe_and_a_checkpoint_does_not_choose_code(
    cli: Cli, corpus: NoModelKeys, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_head(tmp_path / "mine", "plug_mean")
    cli(*TRAIN, "-d", "plug_mean", "--downstream_path", "mine", "-o", corpus.overrides())
    heads._plugged_in.clear()  # as in a new process
    again = ("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "test")
    error = cli(*again, code=1).error
    assert "exp/dev-best.ckpt: head 'plug_mean' came from --downstream_path mine; give it again" in error
    cli(*again, "--downstream_path", "./mine")
    heads._plugged_in.clear()
    audio = str(next(corpus.root.glob("*.wav")))
    words = ["predict", "--ckpt", "exp/dev-best.ckpt", "--device", "cpu", audio]
    assert suite.main(words) == 1
    assert "--downstream_path, mine in training" in capfd.readouterr().err
    assert suite.main([*words, "--downstream_path", "mine"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2
    predictor = s3prl_emotion.load("exp/dev-best.ckpt", "cpu", downstream_path="mine")
    assert len(predictor.predict(np.ones(16000, dtype=np.float32)).probabilities) == 4


@pytest.mark.full
def test_a_benchmarks_processes_inherit_the_variable(run: Run, corpus: NoModelKeys, tmp_path: Path) -> None:
    head = write_head(tmp_path / "mine", "plug_bench")
    overrides = {
        "downstream_expert.datarc.root": str(corpus.root), "downstream_expert.datarc.labels": str(corpus.labels),
        "downstream_expert.datarc.train_batch_size": 4, "runner.total_steps": 2, "runner.eval_step": 2,
        "runner.save_step": 2, "runner.log_step": 2,
    }  # fmt: skip
    matrix = {
        "kind": "matrix", "title": "Mine", "head": "plug_bench", "recipe": str(head / "config.yaml"),
        "upstreams": {"fbank": {"name": "fbank_no_cmvn"}}, "folds": ["fold1"], "seeds": [1],
        "overrides": overrides, "systems": {"mine": {}},
    }  # fmt: skip
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(matrix))
    words = ("s3prl-emotion", "benchmark", "matrix.yaml", "--out", "out", "--device", "cpu")
    assert "head 'plug_bench' is not one of this suite's" in run(*words, code=1).stderr
    assert "1 runs finished" in run(*words, S3PRL_DOWNSTREAM_PATH="mine").stdout


def test_every_superb_recipe_is_of_a_head_with_classes() -> None:
    for recipe in (recipes_folder() / "superb").glob("emotion*.yaml"):
        assert host.expert_class(recipe.stem).learns_classes
