"""Words that no path, name or generator can have are refused by both command lines, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import Cli

from s3prl_emotion import cli as suite
from s3prl_emotion.devices import check_device
from s3prl_emotion.errors import EmotionError, UsageError, one_line
from s3prl_emotion.files.words import LARGEST_SEED, check_layer, check_not_read, check_seed, check_words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", ""], "--out: an argument is empty; give a value, or omit it"),
        (["--out="], "--out: an argument is empty"),
        (["ls", ""], "^an argument is empty"),
        (["--root", "a\0b"], r"^--root 'a\\x00b': holds the character NUL"),
        (["--root=a\0b"], "^--root '--root=a"),
        (["a\0b"], r"^'a\\x00b': holds the character NUL"),
    ],
)
def test_empty_words_and_nul_are_refused(words: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        check_words(words)


def test_other_words_pass():
    check_words(["-o", "", "--override=", "-l", "-1", "=x", "--a=b=", "x=", "-", "ü", "a\nb"])


def test_seeds_and_layers_have_bounds():
    for seed in (0, LARGEST_SEED):
        check_seed(seed, "--seed")
    for seed in (-1, LARGEST_SEED + 1, 10**100):
        with pytest.raises(UsageError, match=r"must be from 0 to 4294967295 \(2\^32 - 1\)"):
            check_seed(seed, "--seed")
    check_layer(None)
    check_layer(0)
    with pytest.raises(UsageError, match="-l -1: layers are numbered from 0"):
        check_layer(-1)


def test_an_output_over_an_input_is_refused(tmp_path: Path):
    table = tmp_path / "labels.csv"
    table.touch()
    (tmp_path / "link.csv").symlink_to(table)
    check_not_read(None, [table], "-o")
    check_not_read(tmp_path / "new.csv", [table, None, tmp_path / "none"], "-o")
    for out in (table, tmp_path / "link.csv", tmp_path / "x" / ".." / "link.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="is a file that this command reads; name another"):
            check_not_read(out, ["demo", table], "-o")


def test_devices_that_torch_lacks_are_refused(monkeypatch: pytest.MonkeyPatch):
    for device in ("meta", "mps", "xpu"):
        with pytest.raises(UsageError, match=f"--device {device}: torch cannot compute on it here"):
            check_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda:1")
    with pytest.raises(UsageError, match="--device cuda:99: torch sees 2 CUDA devices, the last is cuda:1"):
        check_device("cuda:99")


def test_a_line_break_in_a_name_breaks_no_message():
    assert one_line(EmotionError("-u a\nb: no such upstream")) == "-u a b: no such upstream"
    wrapped = "Caught UsageError in worker\nTraceback (most recent call last):\nUsageError: x.wav: gone"
    assert one_line(UsageError(wrapped)) == "x.wav: gone"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("degrade", "--labels", "demo", "--out", "O", "--seed", "-1"), "--seed -1: must be from 0 to"),
        (
            ("degrade", "--labels", "demo", "--out", "O", "--num_workers", "100000"),
            "--num_workers 100000: this process",
        ),
        (("degrade", "--labels", "demo", "--out", ""), "--out: an argument is empty"),
        (("audit", "demo", "--jobs", "1000000"), "--jobs 1000000: this process may use"),
        (("pretrain-rae", "--audio", ".", "--out", "O", "--seed", "4294967296"), "--seed 4294967296: must be from 0"),
        (("pretrain-rae", "--audio", ".", "--out", "O", "--num_workers", "1000"), "--num_workers 1000: this process"),
        (("export", "-u", "fbank", "--labels", "demo", "-o", "x.npz", "-l", "-1"), "-l -1: layers are numbered from 0"),
        (("store", "ls", "a\0b"), "ls 'a\\x00b': holds the character NUL"),
        (("store", "ls", "x" * 300), "check the path, its permissions"),
    ],
)
def test_commands_refuse_such_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert suite.main(words) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert re.match("s3prl-emotion: error: ", lines[0])
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


HEAD = ("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "--device", "cpu")
DATA = "config.downstream_expert.datarc"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "-1"), "--seed -1: must be from 0 to 4294967295"),
        (("--seed", 2**32), "--seed 4294967296: must be from 0 to 4294967295"),
        (("-o", "args.seed=-1"), "-o args.seed= -1: must be from 0 to 4294967295"),
        (("-o", "args.seed=word"), "-o args.seed='word': must be an integer"),
        (("-o", "args.seed=True"), "-o args.seed=True: must be an integer"),
        (("-o", "args.verbose=maybe"), "-o args.verbose='maybe': must be True or False"),
        (("-o", "args.hub=x"), "-o args.hub='x': must be one of torch, huggingface"),
        (("-o", "args.downstream_variant=1"), "-o args.downstream_variant=1: must be a text; quote it"),
        (("-o", "args.sed=1"), "-o args.sed: there is no such argument; nearest: seed"),
        (("-o", "args.expname=x"), "-o args.expname: has no effect"),
        (("-o", "args.device=frob"), "--device frob: not a device"),
        (("-o", "args.expdir='a\\0b'"), "--expdir 'a\\x00b': holds the character NUL"),
        (("-o", f"{DATA}.root='a\\0b'"), "-o 'a\\x00b': holds the character NUL"),
        (("-o", f"{DATA}.num_workers=100000"), "datarc.num_workers 100000: this process may use"),
        (("-l", "-1"), "-l -1: layers are numbered from 0"),
        (("-o", "args.upstream_layer_selection=-1"), "-l -1: layers are numbered from 0"),
        (("-o", "config.downstream_expert.layer=-1"), "downstream_expert.layer: -1: layers are numbered from 0"),
        (("-l", "9"), "-l 9: the upstream has no such layer"),
        (("-g", "none.yaml"), "-g none.yaml: no such file"),
        (("-o", f"{DATA}.fold_seed={10**30}"), "the recipe holds an integer of 100 bits"),
        (("-n", ".."), "-n '..': must be a name below result/downstream"),
        (("-n", "/x"), "-n '/x': must be a name below result/downstream"),
        (("-n", "."), "-n '.': must be a name below result/downstream"),
        (("-n", ""), "-n: an argument is empty"),
        (("-p", ""), "-p: an argument is empty"),
        (("-p", "a\0b"), "-p 'a\\x00b': holds the character NUL"),
    ],
)
def test_training_refuses_such_words_and_leaves_nothing(cli: Cli, words: tuple[str, ...], message: str):
    assert message in cli(*HEAD, *words, code=1).error
    assert not list(Path().iterdir())
