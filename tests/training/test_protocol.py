"""``datarc.protocol: random``: every output of a run says speaker-dependent, and its checkpoint stays under it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli, TinyCorpus

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.corpora.protocol import NOTE, OF_MODEL

DATA = "downstream_expert.datarc"
STEPS = {"runner.total_steps": 2, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}
AT_RANDOM = {f"{DATA}.protocol": "random"}
CORR = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
trained_before: dict[str, tuple[Path, str]] = {}


@pytest.fixture
def made(cli: Cli, tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A training of two steps that shares speakers, made once, and what it printed; tests must not write into it."""
    if not trained_before:
        folder = tmp_path_factory.mktemp("random") / "exp"
        done = cli("-m", "train", *CORR, "-p", folder, "-o", tiny_corpus.overrides(**STEPS, **AT_RANDOM))
        trained_before["exp"] = folder, done.out
    return trained_before["exp"]


def assert_said(folder: Path, fold: str = "fold1") -> None:
    """Metrics and predictions of dev and test say it."""
    for split in ("dev", "test"):
        metrics = json.loads((folder / f"{split}_{fold}_metrics.json").read_text())
        assert metrics["protocol"] == {"name": "random", "folds": 5, "fold_seed": 0, "note": NOTE}
        with (folder / f"{split}_{fold}_predictions.csv").open(newline="") as file:
            assert {row["protocol"] for row in csv.DictReader(file)} == {"speaker-dependent"}


def test_every_output_of_a_run_says_that_it_is_speaker_dependent(made: tuple[Path, str]):
    folder, out = made
    assert_said(folder)
    assert "emotion_corr_attn, fold1, speaker-dependent" in out
    assert [line for line in out.splitlines() if line.startswith("test: ")] == [f"test: {NOTE}"]
    assert f"test: {NOTE}" in (folder / "log.log").read_text().splitlines()
    with (folder / "test_fold1_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["SpkrID"] for row in rows}) > 2  # the table's own fold1 tests two speakers


def test_its_checkpoint_is_evaluated_and_resumed_under_the_same_protocol_only(
    cli: Cli, made: tuple[Path, str], tiny_corpus: TinyCorpus, tmp_path: Path
):
    shutil.copytree(made[0], tmp_path / "exp")
    best, states = tmp_path / "exp/dev-best.ckpt", tmp_path / "exp/states-2.ckpt"
    place = f"args.expdir={str(tmp_path / 'exp')!r}"
    (tmp_path / "exp/test_fold1_metrics.json").unlink()
    cli("-m", "evaluate", "-e", best, "-t", "test", "-o", place)
    assert_said(tmp_path / "exp")
    other = f"{place},,config.{DATA}.protocol='speaker_disjoint'"
    for words in (["-m", "evaluate", "-e", best, "-t", "test"], ["-m", "train", "-e", states]):
        assert "was trained with datarc.protocol random, so it is speaker-" in cli(*words, "-o", other, code=1).error
    words = ("-m", "train", *CORR, "-p", tmp_path / "next", "-i", best, "-o", tiny_corpus.overrides(**STEPS))
    assert "set datarc.protocol: random, or train without it" in cli(*words, code=1).error


@pytest.mark.usefixtures("cli")
def test_a_table_with_both_columns_says_which_of_them_holds(cli: Cli, own_tiny_corpus: TinyCorpus, tmp_path: Path):
    header, *rows = own_tiny_corpus.labels.read_text().splitlines()
    partition = {"s0": "Test1", "s1": "Development"}
    lines = [f"{row},{next((part for who, part in partition.items() if f',{who},' in row), 'Train')}" for row in rows]
    own_tiny_corpus.labels.write_text("\n".join([f"{header},Split_Set", *lines]) + "\n")
    for key, tested, said in ((None, 16, "Fold holds; datarc.partition"), ("split_set", 8, "Split_Set holds")):
        exp = tmp_path / str(key)
        chosen = {f"{DATA}.partition": key} if key else {}
        cli("-m", "train", *CORR, "-p", exp, "-o", own_tiny_corpus.overrides(**STEPS, **chosen))
        metrics = json.loads((exp / "test_fold1_metrics.json").read_text())
        assert said in metrics["partition"]["note"]
        assert f"test: {metrics['partition']['note']}" in (exp / "log.log").read_text().splitlines()
        assert sum(map(sum, metrics["confusion"])) == tested


def test_its_predictions_say_it(made: tuple[Path, str], tiny_corpus: TinyCorpus, capfd: pytest.CaptureFixture[str]):
    best, audio = made[0] / "dev-best.ckpt", tiny_corpus.root / "s0_ang_0.wav"
    assert s3prl_emotion.load(best).about.notes == (OF_MODEL,)
    capfd.readouterr()
    assert suite.main(["predict", "--ckpt", str(best), str(audio)]) == 0
    (row,) = csv.DictReader(capfd.readouterr().out.splitlines())
    assert row["note"].split("; ")[0] == OF_MODEL


@pytest.mark.full
@pytest.mark.parametrize("head", ["emotion_acnn", "emotion_latent", "emotion_multitask", "emotion_tcgru"])
def test_heads_share_their_folds_and_say_it(cli: Cli, graded_corpus: TinyCorpus, tmp_path: Path, head: str):
    found = {}
    for name in (head, "emotion_corr_attn"):
        values = STEPS | AT_RANDOM | {f"{DATA}.classes": None, f"{DATA}.test_fold": "fold4"}
        values |= {f"{DATA}.distribution": {"source": "consensus"}} if name == "emotion_multitask" else {}
        text = graded_corpus.overrides(**values)
        kept = ",,".join(part for part in text.split(",,") if not any(key in part for key in graded_corpus.modelrc))
        cli("-m", "train", "-u", "fbank_no_cmvn", "-d", name, "-p", tmp_path / name, "-o", kept)
        assert_said(tmp_path / name, "fold4")
        for split in ("dev", "test"):
            with (tmp_path / name / f"{split}_fold4_predictions.csv").open(newline="") as file:
                found[name, split] = sorted(row["FileName"] for row in csv.DictReader(file))
    assert all(found[head, split] == found["emotion_corr_attn", split] for split in ("dev", "test"))
