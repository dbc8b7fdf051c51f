"""``datarc.valid_ratio: 0``: no dev split; the last checkpoint counts, and every output says so."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli, TinyCorpus, write_superb_corpus
from test_matrix import recipe_for, write_matrix

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion import host
from s3prl_emotion.benchmark import Plan, read_matrix
from s3prl_emotion.benchmark.checks import check_plan
from s3prl_emotion.benchmark.dry_run.measure import corpus_of, work_of
from s3prl_emotion.corpora.protocol import NO_DEV_NOTE
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.files.checkpoint import load_checkpoint

DATA = "downstream_expert.datarc"
STEPS = {"runner.total_steps": 3, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}
WITHOUT = {f"{DATA}.valid_ratio": 0}
CORR = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
trained_before: dict[str, tuple[Path, str, str]] = {}


@pytest.fixture
def made(
    cli: Cli, tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> tuple[Path, str, str]:
    """A training of three steps without dev, made once, what it printed and logged; tests must not write into it."""
    if not trained_before:
        folder = tmp_path_factory.mktemp("without") / "exp"
        done = cli("-m", "train", *CORR, "-p", folder, "-o", tiny_corpus.overrides(**STEPS, **WITHOUT))
        trained_before["exp"] = folder, done.out, caplog.text
    return trained_before["exp"]


def metrics_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "test_fold1_metrics.json").read_text())


def test_the_last_checkpoint_counts_and_every_output_says_so(made: tuple[Path, str, str], tiny_corpus: TinyCorpus):
    folder, out, log = made
    assert NO_DEV_NOTE in log
    assert "best_metric (WA) and dev in runner.eval_dataloaders have no effect" in log
    assert "emotion_corr_attn, fold1, no dev split" in out
    assert f"test: {NO_DEV_NOTE}" in out.splitlines()
    assert f"test: {NO_DEV_NOTE}" in (folder / "log.log").read_text().splitlines()
    assert sorted(path.name for path in folder.glob("*.ckpt")) == ["last.ckpt", "states-2.ckpt"]
    metrics = metrics_of(folder)
    assert (metrics["checkpoint"], metrics["step"]) == ("last.ckpt", 3)  # 3 is no multiple of save_step
    assert metrics["protocol"] == {"name": "speaker_disjoint", "dev": False, "note": NO_DEV_NOTE}
    assert not list(folder.glob("dev*"))
    with (folder / "test_fold1_predictions.csv").open(newline="") as file:
        assert {row["protocol"] for row in csv.DictReader(file)} == {"no dev split"}
    seen = load_checkpoint(folder / "last.ckpt")["Seen"]["corpora"][0]
    with tiny_corpus.labels.open(newline="") as file:
        assert len(seen["train"]) == sum(row["Fold"] != "fold1" for row in csv.DictReader(file))
    assert len(seen["dev"]) == 0


def test_it_is_evaluated_predicts_and_resumes(
    cli: Cli, made: tuple[Path, str, str], tiny_corpus: TinyCorpus, tmp_path: Path
):
    folder = shutil.copytree(made[0], tmp_path / "exp")
    assert s3prl_emotion.load(folder)(tiny_corpus.root / "s0_ang_0.wav")
    (folder / "test_fold1_metrics.json").unlink()
    place = f"args.expdir={str(folder)!r}"
    assert NO_DEV_NOTE in cli("-m", "evaluate", "-e", folder / "last.ckpt", "-t", "test", "-o", place).out
    assert metrics_of(folder) == metrics_of(made[0])
    said = cli("-m", "evaluate", "-e", folder / "last.ckpt", "-t", "dev", "-o", place, code=1).error
    assert "no dev split, since datarc.valid_ratio is 0; evaluate other splits" in said
    cli("-m", "train", "-e", folder / "states-2.ckpt", "-o", place)
    last, again = (load_checkpoint(path / "last.ckpt")["Downstream"] for path in (made[0], folder))
    assert all((last[name] == again[name]).all() for name in last if name != "_extra_state")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"runner.early_stopping": 3}, "runner.early_stopping: ends training by its score on dev, and there is no dev"),
        ({"runner.seeding": "superb"}, "runner.seeding superb: SUPERB picks the checkpoint on dev"),
        ({f"{DATA}.valid_ratio": -0.1}, "downstream_expert.datarc.valid_ratio"),
    ],
)
def test_what_needs_dev_is_refused(cli: Cli, tiny_corpus: TinyCorpus, more: dict[str, object], said: str):
    text = tiny_corpus.overrides(**(STEPS | WITHOUT | more))
    assert said in cli("-m", "train", *CORR, "-p", "exp", "-o", text, code=1).error
    assert not Path("exp").exists()


def test_superbs_lists_and_s3prls_own_script_are_refused(
    cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    superb = write_superb_corpus(tmp_path / "superb", per_class=2)
    text = superb.overrides(**STEPS, **WITHOUT)
    assert "SUPERB's protocol has a dev split" in cli("-m", "train", *CORR, "-p", "exp", "-o", text, code=1).error
    monkeypatch.setattr(host, "launched", lambda: False)
    monkeypatch.setattr("s3prl_emotion.training.preflight.check_head", lambda *given: None)
    text = tiny_corpus.overrides(**STEPS, **WITHOUT)
    assert "evaluate other splits (runner" in cli("-m", "train", *CORR, "-p", "exp", "-o", text, code=1).error


def test_a_matrix_cannot_choose_a_learning_rate_without_dev(tiny_corpus: TinyCorpus, tmp_path: Path):
    recipe, search = recipe_for(tiny_corpus, **WITHOUT), {"learning_rates": [1e-4, 1e-3]}
    plan = Plan(read_matrix(write_matrix(tmp_path, recipe)), tmp_path / "out")
    check_plan(plan)
    run = plan.runs[0]
    assert work_of(run, 0.5).final == len(corpus_of(run).split("test"))
    with pytest.raises(ConfigError, match="no dev split, since datarc"):
        check_plan(Plan(read_matrix(write_matrix(tmp_path, recipe, search=search)), tmp_path / "out"))


@pytest.mark.full
def test_a_benchmark_counts_the_last_checkpoint(tiny_corpus: TinyCorpus, tmp_path: Path):
    one = {"systems": {"mean": {}}}
    path = write_matrix(tmp_path, recipe_for(tiny_corpus, **WITHOUT, **STEPS), **one)
    assert suite.main(["benchmark", str(path), "--out", str(tmp_path / "out")]) == 0
    (line,) = [json.loads(text) for text in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert list(line["splits"]) == ["test"]
    assert line["splits"]["test"]["metrics"]["checkpoint"] == "last.ckpt"
    assert suite.main(["report", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/report.md").read_text()
    assert f"**Note:** mean: {NO_DEV_NOTE}." in text
    assert "A score is that of one run with its last checkpoint, since there is no dev split." in text
