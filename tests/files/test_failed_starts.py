"""A start that fails leaves no folder behind, whichever command it is; neither does a prediction of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, TinyCorpus

from s3prl_emotion.benchmark import scheduler
from s3prl_emotion.cli import main
from s3prl_emotion.errors import UsageError

NEW = "new/folder"
TRAIN = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")


@pytest.fixture
def damaged(own_tiny_corpus: TinyCorpus) -> TinyCorpus:
    """A corpus whose files are all cut off after their headers: only reading them shows it."""
    for path in own_tiny_corpus.root.rglob("*.wav"):
        path.write_bytes(path.read_bytes()[:44])
    return own_tiny_corpus


@pytest.mark.parametrize("named", [("-p", NEW), ("-n", "exp")])
def test_trainings(cli: Cli, tiny_corpus: TinyCorpus, damaged: TinyCorpus, named: tuple[str, str]) -> None:
    before = set(Path().iterdir())
    lacking = tiny_corpus.overrides(**{"downstream_expert.datarc.labels": "none.csv"})
    for words in (
        (*TRAIN, *named, "-o", lacking),
        (*TRAIN[:-1], "emotion_core_attn", *named, "-o", tiny_corpus.overrides()),
        (*TRAIN, *named, "-o", tiny_corpus.overrides(**{"runner.total_stops": 3})),
        (*TRAIN, *named, "-o", damaged.overrides(), "--feature_store", "store"),
        ("-m", "evaluate", "-t", "nothing", *TRAIN[2:], *named, "-o", tiny_corpus.overrides()),
    ):
        cli(*words, code=1)
        assert set(Path().iterdir()) == before, words


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "-u", "fbank_no_cmvn", "--feature_store", NEW),
        ("export", "-u", "fbank_no_cmvn", "--feature_store", NEW, "-o", "out.npz"),
        ("degrade", "--noise", "white", "--split", "Train", "--out", NEW),
    ],
)
def test_commands_that_read_a_damaged_corpus(damaged: TinyCorpus, words: tuple[str, ...], monkeypatch: Any) -> None:
    monkeypatch.chdir(damaged.labels.parent)
    before = set(Path().iterdir())
    assert main([*words, "--labels", str(damaged.labels), "--root", str(damaged.root)]) == 1
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [
        ("report", "empty", "--out", NEW),
        ("prepare", "emodb", "empty", NEW),
        ("submit", "empty", "--out", NEW),
        ("saliency", "-u", "none", "-d", "emotion_tcgru", "--method", "ccs", "--out", f"{NEW}/s"),
        ("pretrain-rae", "--audio", "empty", "--out", NEW),
        ("pretrain-rae", "--audio", "audio", "--out", NEW, "--precision", "fp16", "--device", "cpu", "--steps", "1"),
    ],
)
def test_other_commands(
    tiny_corpus: TinyCorpus, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("audio").symlink_to(tiny_corpus.root)
    assert main(list(words)) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["audio", "empty"]


def test_a_benchmark_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise UsageError("Ray does not start here")

    monkeypatch.setattr(scheduler, "_executor", refuse)
    monkeypatch.setattr("s3prl_emotion.benchmark.checks.check_plan", lambda plan: None)
    plan: Any = type("Plan", (), {"out": tmp_path / "new" / "folder"})()
    with pytest.raises(UsageError, match=r"^Ray does not start here$"):
        scheduler.run_matrix(plan)
    assert list(tmp_path.iterdir()) == []


def test_the_hosts_notes_name_the_full_disk(
    cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from full_disk import fill_disk

    fill_disk(monkeypatch)
    error = cli(*TRAIN, "-p", NEW, "-o", tiny_corpus.overrides(), code=1).error
    assert f"{NEW}/args_" in error
    assert "No space left on device" in error
    assert not Path("new").exists()


def test_a_full_standard_output_is_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["prepare", "--list"]) == 1
    error = capfd.readouterr().err
    assert error.startswith("s3prl-emotion: error: standard output: could not be written (No space left on device); ")
