"""A checkpoint whose head, pooling or shapes differ from what is installed is one clear line, in every command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus

from s3prl_emotion import cli as suite
from s3prl_emotion.files.checkpoint import load_checkpoint, save_checkpoint

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
State = dict[str, Any]
Change = Callable[[State], Any]


def modelrc(**values: object) -> Change:
    return lambda state: state["Config"]["downstream_expert"]["modelrc"].update(values)


def args(**values: object) -> Change:
    return lambda state: vars(state["Args"]).update(values)


def weights(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda state: change(state["Downstream"])


# what a checkpoint of another version holds -> what the line says of it
RECIPES: dict[str, tuple[Change, str]] = {
    "an unknown pooling": (modelrc(pooling="statistics"), "modelrc.pooling: Input should be 'mean', .*'statistics'"),
    "a pooling of another type": (modelrc(pooling=["mean"]), r"modelrc.pooling: Input should be .*\['mean'\]"),
    "an unknown key": (modelrc(number_heads=4), "modelrc.number_heads: unknown key; nearest: num_heads"),
    "another head": (args(downstream="emotion_newer"), "-d emotion_newer"),
    "another adapter": (args(upstream="fbank_newer"), "-u fbank_newer: no such upstream"),
}
WEIGHTS: dict[str, tuple[Change, str]] = {
    "another pooling": (
        modelrc(pooling="mean"),
        r"its model.classifier.weight is \[4, 28\], here \[4, 8\]; it has model",
    ),
    "another size": (modelrc(num_heads=7), r"its model.pooling.heads.weight is \[4, 8\], here \[7, 8\]"),
    "fewer tensors": (
        weights(lambda state: state.pop("model.pooling.heads.bias")),
        r"\(it lacks model.pooling.heads.bias \[4\]\)",
    ),
    "no tensor": (
        weights(lambda state: state.update({"model.projector.bias": 3})),
        "its Downstream: model.projector.bias must be a tensor, got 3",
    ),
    "many strangers": (
        weights(lambda state: state.update({f"layer.{number}": torch.zeros(1) for number in range(9)})),
        "it has layer.0, which is unknown here; .*; and 6 more",
    ),
    "another featurizer": (
        lambda state: state.update(Featurizer={"weights": torch.zeros(9)}),
        "its Featurizer does not",
    ),
    "no mapping": (lambda state: state.update(Downstream=[1, 2]), "its Downstream must be tensors by name, got"),
    "no head": (lambda state: state.pop("Downstream"), "holds no Downstream; use a states-N.ckpt or dev-best.ckpt"),
    "no extra state": (weights(lambda state: state.update(_extra_state=3)), "it does not say which head and classes"),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unfit")


@pytest.fixture
def altered(cli: Cli, tiny_corpus: TinyCorpus, shelf: Path) -> Callable[[Change], Path]:
    """Return a folder with a changed checkpoint of a short run, which is trained once."""
    steps = {"runner.total_steps": 1, "runner.save_step": 1, "runner.eval_step": 9, "runner.eval_dataloaders": ["dev"]}
    if not (shelf / "exp").exists():
        cli("-m", "train", *HEAD, "-p", shelf / "exp", "-o", tiny_corpus.overrides(**steps))

    def alter(change: Change) -> Path:
        state = load_checkpoint(shelf / "exp" / "states-1.ckpt")
        change(state)
        folder = Path("altered").absolute()
        folder.mkdir()
        save_checkpoint(state, folder / "states-1.ckpt")
        return folder

    return alter


def refused(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line with which a command of the suite ends."""
    capfd.readouterr()
    assert suite.main([str(word) for word in words]) == 1
    error = capfd.readouterr().err
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("s3prl-emotion: error: ")]
    return line


def check(line: str, checkpoint: Path, said: str) -> None:
    assert str(checkpoint) in line
    assert line.count(str(checkpoint)) == 1
    assert re.search(said, line), line
    assert len(line) < 700


@pytest.mark.parametrize("kind", [*RECIPES, *WEIGHTS])
def test_each_command_says_what_does_not_fit(
    kind: str,
    altered: Callable[[Change], Path],
    cli: Cli,
    tiny_corpus: TinyCorpus,
    capfd: pytest.CaptureFixture[str],
):
    change, said = (RECIPES | WEIGHTS)[kind]
    folder = altered(change)
    ckpt, file = folder / "states-1.ckpt", min(tiny_corpus.root.iterdir())
    check(refused(capfd, "predict", "--ckpt", ckpt, file), ckpt, said)
    check(cli("-m", "evaluate", "-e", ckpt, code=1).error, ckpt, said)
    if kind in ("an unknown pooling", "another size"):
        check(refused(capfd, "serve", "--ckpt", ckpt, "--port", "0"), ckpt, said)
        check(cli("-m", "inference", "-e", ckpt, "-t", file, code=1).error, ckpt, said)
        check(cli("-m", "train", *HEAD, "-a", "-p", folder, code=1).error, ckpt, said)
    if kind in ("another head", "fewer tensors", "no head"):
        overrides = tiny_corpus.overrides()
        check(cli("-m", "evaluate", *HEAD, "-i", ckpt, "-p", "other", "-o", overrides, code=1).error, ckpt, said)


def test_a_recipe_that_the_command_line_breaks_is_its_own_fault(cli: Cli, tiny_corpus: TinyCorpus):
    overrides = tiny_corpus.overrides(**{"downstream_expert.modelrc.pooling": "statistics"})
    error = cli("-m", "train", *HEAD, "-p", "exp", "-o", overrides, code=1).error
    assert "error: downstream_expert.modelrc.pooling: Input should be" in error
