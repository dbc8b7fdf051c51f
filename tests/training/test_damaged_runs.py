"""Damaged, malformed and hostile files through the command lines: one line each, and a resume from what is whole."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus
from test_damage import STRUCTURES, merges, references

from s3prl_emotion import cli as suite
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.digest import digest_of

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
MODEL = "downstream_expert.modelrc"
State = dict[str, Any]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def run(cli: Cli, shelf: Path, tiny_corpus: TinyCorpus) -> Path:
    """A finished training of nine steps in ``exp``, of which the last two states were kept."""
    folder = shelf / "exp"
    if not folder.exists():
        steps = {"runner.total_steps": 9, "runner.max_keep": 2, "runner.eval_step": 3}
        cli("-m", "train", *HEAD, "-p", "exp", "-o", tiny_corpus.overrides(**steps))
        Path("exp").rename(folder)
    shutil.copytree(folder, "exp")
    return Path("exp")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``s3prl-emotion …`` inside this process; returns its one line of error."""

    def call(*words: object) -> str:
        capfd.readouterr()
        code = suite.main([str(word) for word in words])
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if line.startswith("s3prl-emotion: error: ")]
        assert (code, len(lines)) == (1, 1), err
        assert "Traceback" not in err
        return lines[0]

    return call


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


RESUME = ("-m", "train", *HEAD, "-p", "exp", "-a", "-o", "config.runner.total_steps=12")


def changed(change: Callable[[State], Any], path: Path = Path("exp/dev-best.ckpt")) -> str:
    """Write a copy with a change, as someone else would, and return its name."""
    state = load_checkpoint(path)
    change(state)
    torch.save(state, "changed.ckpt")
    return "changed.ckpt"


# --- resuming ------------------------------------------------------------------------------------------------------


def test_resume_falls_back_to_the_older_state(
    cli: Cli, run: Path, shelf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cli(*RESUME)
    expected = load_checkpoint(run / "states-12.ckpt")["Downstream"]
    for path in run.glob("states-*.ckpt"):
        path.unlink()
    for step in (6, 9):
        shutil.copy(shelf / "exp" / f"states-{step}.ckpt", run)
    flip(run / "states-9.ckpt")
    said = cli(*RESUME) and caplog.text
    assert "states-9.ckpt: damaged or not a checkpoint" in said
    assert "exp: resume from states-6.ckpt, since newer checkpoints are damaged: states-9.ckpt" in said
    assert sorted(path.name for path in run.glob("states-*")) == [
        "states-12.ckpt",
        "states-9.ckpt",
        "states-9.ckpt.1",
    ]
    found = load_checkpoint(run / "states-12.ckpt")["Downstream"]
    assert digest_of(found) == digest_of(expected)


def test_resume_falls_back_to_the_best_state(cli: Cli, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "states-6.ckpt").unlink()
    flip(run / "states-9.ckpt")
    step = load_checkpoint(run / "dev-best.ckpt")["Step"]
    said = cli(*RESUME) and caplog.text
    assert "resume from dev-best.ckpt, since newer checkpoints are damaged: states-9.ckpt" in said
    assert load_checkpoint(run / "states-12.ckpt")["Step"] == 12 > step
    for path in run.glob("states-*.ckpt"):
        path.unlink()  # as if it had been killed before the first checkpoint after the fallback
    cli(*RESUME)
    assert load_checkpoint(run / "states-12.ckpt")["Step"] == 12


def test_resume_ends_where_nothing_whole_is_left(cli: Cli, run: Path) -> None:
    flip(run / "dev-best.ckpt")
    error = cli(*RESUME, code=1).error
    assert "exp/dev-best.ckpt: is damaged, and with it the best weights of this run, so train again" in error
    for path in run.glob("states-*.ckpt"):
        flip(path)
    assert "exp: none of its checkpoints is whole, so train again: in another folder, or" in cli(*RESUME, code=1).error
    assert sorted(path.name for path in run.glob("*.ckpt*")) == ["dev-best.ckpt", "states-6.ckpt", "states-9.ckpt"]


@pytest.mark.parametrize("words", [("-m", "evaluate", "-e"), ("-m", "train", "-e"), ("-m", "train", "-p", "o", "-i")])
def test_damaged_checkpoint_is_refused(cli: Cli, run: Path, tiny_corpus: TinyCorpus, words: tuple[str, ...]) -> None:
    flip(run / "dev-best.ckpt")
    error = cli(*words[:2], *HEAD, "-o", tiny_corpus.overrides(), *words[2:], run / "dev-best.ckpt", code=1).error
    assert "exp/dev-best.ckpt: damaged or not a checkpoint" in error


# --- checkpoints that were changed -----------------------------------------------------------------------------------


def weight(name: str, value: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        state["Downstream"][name] = value(state["Downstream"][name]) if callable(value) else value

    return change


def section(*keys: str, value: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        target = state["Config"]
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


CLASSIFIER = "model.classifier.weight"
NO_MAPPING = "must be a mapping of keys|valid dictionary"
UNFIT = "its Downstream does not fit this experiment"
CHANGED: dict[str, tuple[Callable[[State], Any], str]] = {
    "NaN": (weight(CLASSIFIER, lambda value: value * float("nan")), f"{CLASSIFIER} holds values that are not finite"),
    "inf": (weight(CLASSIFIER, lambda value: value / 0.0), f"{CLASSIFIER} holds values that are not finite"),
    "shape": (weight(CLASSIFIER, lambda value: value[:, :3]), UNFIT),
    "whole numbers": (weight(CLASSIFIER, lambda value: value.long()), "must be torch.float32, got torch.int64"),
    "complex": (weight(CLASSIFIER, lambda value: value + 1j), "must be torch.float32, got torch.complex64"),
    "missing weight": (lambda state: state["Downstream"].pop(CLASSIFIER), UNFIT),
    "state of another kind": (weight("_extra_state", 3), "it does not say which head"),
    "Args without seed": (lambda state: delattr(state["Args"], "seed"), "its Args lack seed"),
    "Args without feature": (
        lambda state: delattr(state["Args"], "upstream_feature_selection"),
        "its Args lack upstream_feature_selection",
    ),
    "optimizer a text": (section("optimizer", value="Adam"), "optimizer: must be a mapping of keys to values"),
    "head a list": (section("downstream_expert", value=[1]), "downstream_expert: must be a mapping"),
    "modelrc a list": (
        section("downstream_expert", "modelrc", value=[1]),
        NO_MAPPING,
    ),
    "datarc a text": (section("downstream_expert", "datarc", value="x"), NO_MAPPING),
    "no runner": (lambda state: state["Config"].pop("runner"), "runner: the recipe lacks this section"),
    "runner a list": (section("runner", value=[1]), "runner: must be a mapping of keys to values"),
    "10^9 units": (section("downstream_expert", "modelrc", "projector_dim", value=10**9), "projector_dim: .*less than"),
    "10^9 heads": (section("downstream_expert", "modelrc", "num_heads", value=10**9), "num_heads: .*less than"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_changed_checkpoint_is_one_line(
    cli: Cli, command: Callable[..., str], run: Path, tiny_corpus: TinyCorpus, kind: str
) -> None:
    change, message = CHANGED[kind]
    path = changed(change)
    audio = tiny_corpus.root / "s0_ang_0.wav"
    errors = [
        cli("-m", "evaluate", "-e", path, code=1).error,
        cli("-m", "inference", "-e", path, "-t", audio, code=1).error,
        command("predict", "--ckpt", path, audio),
    ]
    for error in errors:
        assert re.search(message, error), error
        assert len(error) < 700


def group(**values: object) -> Callable[[State], None]:
    return lambda state: state["Optimizer"]["param_groups"][0].update(values)


OPTIMIZER: dict[str, tuple[Callable[[State], Any], str]] = {
    "lr a text": (
        group(lr="x"),
        "lr must be like 0.001, got 'x'",
    ),
    "lr NaN": (group(lr=float("nan")), "lr must be like"),
    "betas": (group(betas=[0.9]), "betas must be like"),
    "lr nothing": (group(lr=None), "lr must be like"),
    "lr below 0": (group(lr=-1.0), "lr must be like"),
    "averages of 1": (group(betas=(0.9, 1)), "betas must be like"),
    "no decay": (lambda state: state["Optimizer"]["param_groups"][0].pop("weight_decay"), "lacks weight_decay"),
    "no moment": (lambda state: state["Optimizer"]["state"][1].pop("exp_avg"), "some weights lack moments"),
    "two steps": (lambda state: state["Optimizer"]["state"][1].update(step=torch.ones(2)), "step must be a number"),
    "no groups": (lambda state: state["Optimizer"].update(param_groups=[]), "its Optimizer does not fit"),
    "moments": (lambda state: state["Optimizer"]["state"][1].update(exp_avg=torch.ones(1)), "exp_avg does not have"),
    "NaN moments": (lambda state: state["Optimizer"]["state"][1]["exp_avg"].fill_(float("nan")), "are not finite"),
    "generators": (lambda state: state["Rng"][0].update(torch=torch.ones(3)), "its Rng does not fit this experiment"),
    "words": (lambda state: state["Rng"][0].update(python=[3, "x", None]), "its Rng does not fit this experiment"),
}


@pytest.mark.parametrize("kind", OPTIMIZER)
def test_changed_state_of_training_is_one_line(cli: Cli, run: Path, kind: str) -> None:
    change, message = OPTIMIZER[kind]
    path = changed(change, run / "states-9.ckpt")
    error = cli("-m", "train", "-e", path, "-o", "config.runner.total_steps=12", code=1).error
    assert message in error
    assert "changed.ckpt: its " in error


@pytest.mark.parametrize("kind", ["bomb in the recipe", "bomb in Args", "deep recipe", "Args a list", "Step a text"])
def test_hostile_structure_ends_every_entry_at_once(
    cli: Cli, command: Callable[..., str], run: Path, tiny_corpus: TinyCorpus, kind: str
) -> None:
    change, message = STRUCTURES[kind]
    path, audio = changed(change), tiny_corpus.root / "s0_ang_0.wav"
    shutil.copy(path, run / "states-12.ckpt")
    words = ("-m", "train", *HEAD, "-o", tiny_corpus.overrides())
    begun = time.perf_counter()
    errors = [
        cli("-m", "evaluate", "-e", path, code=1).error,
        cli("-m", "inference", "-e", path, "-t", audio, code=1).error,
        cli(*words, "-p", "other", "-i", path, code=1).error,
        cli("-m", "train", *HEAD, "-p", "exp", "-a", code=1).error,
        command("predict", "--ckpt", path, audio),
        command("serve", "--ckpt", path, "--port", "0"),
    ]
    assert time.perf_counter() - begun < 20
    for error in errors:
        assert re.search(message, error), error
        assert len(error) < 500


# --- YAML ------------------------------------------------------------------------------------------------------------

HOSTILE = {
    "references": (references(12, "optimizer: {{name: {}}}"), "holds more than 1,048,576 values"),
    "merges": (merges(12), "holds more than 1,048,576 values"),
    "deep": ("runner: " + "[" * 60 + "]" * 60, "nested more than"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_ends_every_entry_at_once(
    cli: Cli, command: Callable[..., str], tiny_corpus: TinyCorpus, kind: str
) -> None:
    text, message = HOSTILE[kind]
    Path("hostile.yaml").write_text(text)
    train = ("-m", "train", "-d", "emotion_corr_attn", "-p", "exp", "-o", tiny_corpus.overrides())
    begun = time.perf_counter()
    errors = [
        cli("-m", "train", *HEAD, "-p", "exp", "-c", "hostile.yaml", code=1).error,
        cli(*train, "-u", "egemaps", "-g", "hostile.yaml", code=1).error,
        cli(*train, "-u", "hf_speech_custom", "-k", "x", "-g", "hostile.yaml", code=1).error,
        cli(*train, "-u", "concat", "-g", "hostile.yaml", code=1).error,
        command("benchmark", "hostile.yaml", "--out", "matrix"),
        command("benchmark", "hostile.yaml", "--out", "matrix", "--dry-run"),
        command("pretrain-rae", "--config", "hostile.yaml", "--audio", tiny_corpus.root, "--out", "rae"),
    ]
    assert time.perf_counter() - begun < 20
    for error in errors:
        assert re.search(message, error), error
        assert "hostile.yaml" in error
        assert len(error) < 500


@pytest.mark.parametrize("value", ["[" * 100 + "]" * 100, "x" * 100_000, 10**9, -1, "1" * 5000])
def test_absurd_overrides_are_one_short_line(cli: Cli, tiny_corpus: TinyCorpus, value: object) -> None:
    for key in ("optimizer.name", "runner.total_steps", f"{MODEL}.num_heads"):
        if (key, value) == ("runner.total_steps", 10**9):
            continue
        words = f"{tiny_corpus.overrides()},,config.{key}={value}"
        assert len(cli("-m", "train", *HEAD, "-p", "exp", "-o", words, code=1).error) < 500
