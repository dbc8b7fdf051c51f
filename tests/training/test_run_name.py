"""A run that the user does not name gets a folder named after its head and the time, which no other run has."""

from __future__ import annotations

import logging
import re
import sys
from argparse import Namespace
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from conftest import LAUNCHER, Cli, Run, TinyCorpus

from s3prl_emotion.errors import UsageError
from s3prl_emotion.training import run_name
from s3prl_emotion.training.run_name import RUNS, made_folder

NAME = r"{}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d"
UPSTREAM = ("-m", "train", "-u", "fbank_no_cmvn", "--device", "cpu")


class Clock(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> Clock:
        return cls(2026, 11, 29, 21, 0, 0)


def test_training_without_a_name(cli: Cli, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    steps = {"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1, "runner.log_step": 1}
    cli(*UPSTREAM, "-d", "emotion_corr_attn", "-o", tiny_corpus.overrides(**steps))
    (folder,) = RUNS.iterdir()
    assert re.fullmatch(NAME.format("emotion_corr_attn"), folder.name)
    assert (folder / "states-1.ckpt").is_file()
    assert f"no -n or -p: this run goes to {folder}" in caplog.text
    cli("-m", "evaluate", "-e", folder / "dev-best.ckpt")  # beside the checkpoint, as before
    assert list(RUNS.iterdir()) == [folder]


@pytest.mark.parametrize("words", [(), ("-p", "exp")])
def test_a_run_that_saves_nothing_keeps_its_folder(cli: Cli, tiny_corpus: TinyCorpus, words: tuple[str, ...]):
    steps = {"runner.total_steps": 1, "runner.eval_step": 9, "runner.save_step": 9, "runner.log_step": 9}
    cli(*UPSTREAM, "-d", "emotion_corr_attn", *words, "-o", tiny_corpus.overrides(**steps))
    (folder,) = RUNS.iterdir() if not words else [Path("exp")]
    assert {path.name.split("_")[0] for path in folder.glob("*.yaml")} == {"args", "config"}


@pytest.mark.parametrize("head", ["emotion_corr_attn", "emotion"])
def test_a_start_that_fails_leaves_no_folder(cli: Cli, head: str):
    made = []
    for error in ("num_workers=100000", "labels='none',,config.downstream_expert.datarc.root='none'"):
        cli(*UPSTREAM, "-d", head, "-o", f"config.downstream_expert.datarc.{error}", code=1)
        made += list(Path().iterdir())
    assert not made
    RUNS.mkdir(parents=True)
    (RUNS / "theirs").touch()
    cli(*UPSTREAM, "-d", head, "-o", "config.downstream_expert.datarc.num_workers=100000", code=1)
    assert [path.name for path in RUNS.iterdir()] == ["theirs"]


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_name, "datetime", Clock)
    args = Namespace(local_rank=None, downstream="emotion")
    held = ExitStack()
    made = [made_folder(args, held) for _ in range(3)]
    assert made == [f"result/downstream/emotion_2026-11-29_21-00-00{end}" for end in ("", "_2", "_3")]
    Path(made[0], "states-1.ckpt").touch()
    held.__exit__(UsageError, UsageError(), None)
    assert [path.name for path in RUNS.iterdir()] == ["emotion_2026-11-29_21-00-00"]


def test_a_folder_that_o_names_is_a_name(cli: Cli):
    cli(*UPSTREAM, "-d", "emotion_corr_attn", "-o", "args.expdir=file/exp,,config.runner.total_steps=0", code=1)
    Path("file").touch()
    words = (*UPSTREAM, "-d", "emotion_corr_attn", "-o", "args.expdir=file/exp")
    assert "file/exp: the experiment directory cannot be written" in cli(*words, code=1).error
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.full
def test_torchruns_processes_agree(run: Run, tiny_corpus: TinyCorpus, tmp_path: Path):
    steps = {"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1, "runner.log_step": 1}
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    done = run(*launch, *LAUNCHER, *UPSTREAM, "-d", "emotion_corr_attn", "-o", tiny_corpus.overrides(**steps))
    (folder,) = (tmp_path / RUNS).iterdir()
    assert (folder / "states-1.ckpt").is_file()
    assert done.stderr.count("no -n or -p: this run goes to") == 1
