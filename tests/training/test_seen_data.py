"""No score of a split that the weights were trained on, unless ``--allow_seen`` asks for it, which is then said."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, Cli, TinyCorpus, tone, write_tiny_corpus

import s3prl_emotion
from s3prl_emotion import cli as suite
from s3prl_emotion.benchmark.checks import check_plan
from s3prl_emotion.benchmark.execution import _evaluate_command, _train_command
from s3prl_emotion.benchmark.plan import Plan
from s3prl_emotion.benchmark.reading import read_matrix
from s3prl_emotion.corpora.seen import KEY, read_seen
from s3prl_emotion.errors import ConfigError
from s3prl_emotion.files.checkpoint import load_checkpoint, save_checkpoint
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.report.reading.study import load_study

DATA = "downstream_expert.datarc"
HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
FOLD2 = f"config.{DATA}.test_fold='fold2'"
NOT_KNOWN = "its training set is not known: not checked"
STEPS = {"runner.total_steps": 2, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}
trained_before: dict[str, Path] = {}


@pytest.fixture
def best(cli: Cli, tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """Copy of the best checkpoint of two steps on fold1, for which one training is made."""
    if not trained_before:
        folder = tmp_path_factory.mktemp("seen") / "exp"
        cli("-m", "train", *HEAD, "-p", folder, "-o", tiny_corpus.overrides(**STEPS))
        trained_before["exp"] = folder
    shutil.copytree(trained_before["exp"], tmp_path / "exp")
    return tmp_path / "exp" / "dev-best.ckpt"


@pytest.fixture
def evaluate(cli: Cli, best: Path) -> Callable[..., Any]:
    """``evaluate(split, overrides, *flags)`` with the checkpoint."""

    def call(split: str, *overrides: str, flags: tuple[str, ...] = (), code: int = 0, ckpt: Path = best) -> Any:
        expdir = f"args.expdir={str(best.parent)!r}"
        return cli("-m", "evaluate", "-e", ckpt, "-t", split, "-o", ",,".join([expdir, *overrides]), *flags, code=code)

    return call


def metrics(best: Path, split: str = "test", fold: str = "fold1") -> dict[str, Any] | None:
    return json.loads((best.parent / f"{split}_{fold}_metrics.json").read_text()).get("seen")


def rows_of(corpus: TinyCorpus) -> list[dict[str, str]]:
    with corpus.labels.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def extra(labels: Path, root: Path) -> str:
    return f"config.{DATA}.extra_tests={ {'other': {'labels': str(labels), 'root': str(root)}}!r}"


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_fold_that_was_held_out_is_evaluated(best: Path, evaluate: Callable[..., Any]):
    assert metrics(best) is None
    outcome = evaluate("test")
    assert "trained on" not in outcome.out + outcome.err
    assert metrics(best) is None


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_another_fold_is_refused_and_allowed_with_a_note(
    best: Path, evaluate: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    line = evaluate("test", FOLD2, code=1).error
    assert (
        f"split 'test': {best} was trained on 16 of its 16 utterances and 2 of its 2 speakers (s2_ang_0.wav, " in line
    )
    assert line.endswith("or give --allow_seen, which every output then says")
    assert not (best.parent / "test_fold2_metrics.json").exists()
    outcome = evaluate("test", FOLD2, flags=("--allow_seen",))
    note = "trained on 16 of its 16 utterances and 2 of its 2 speakers (--allow_seen)"
    assert f"test: {note}" in outcome.out
    assert f"split 'test': {note}" in warnings_in(caplog)
    assert f"test: {note}\n" in (best.parent / "log.log").read_text()
    assert metrics(best, fold="fold2") == {
        "checked": True, "utterances": 16, "speakers": 2, "duplicates": 0, "note": note,
    }  # fmt: skip
    assert [warning for warning in load_study([best.parent]).warnings if note in warning]


def test_weights_that_are_only_named_are_checked_too(cli: Cli, tiny_corpus: TinyCorpus, best: Path):
    words = ("-m", "evaluate", *HEAD, "-i", best, "-t", "test", "-p", "apart", "-o", tiny_corpus.overrides())
    assert "was trained on 16 of its 16 utterances" in cli(*words, "-v", "fold2", code=1).error
    cli(*words, "-v", "fold1")


def test_inference_warns_of_training_audio(
    cli: Cli, tiny_corpus: TinyCorpus, best: Path, caplog: pytest.LogCaptureFixture
):
    for name, expected in (("s0_ang_0.wav", []), ("s4_ang_0.wav", [f"{best} was trained on this audio"])):
        cli("-m", "inference", "-e", best, "-t", tiny_corpus.root / name)
        assert [said.partition(": ")[2] for said in warnings_in(caplog) if "trained on" in said] == expected


def test_dev_and_train_are_evaluated(best: Path, evaluate: Callable[..., Any]):
    evaluate("dev")
    evaluate("train")
    assert metrics(best, "dev") is None
    assert metrics(best, "train") is None


def test_relabelled_rows_are_refused(tiny_corpus: TinyCorpus, evaluate: Callable[..., Any], tmp_path: Path):
    moved = {"s0": "fold2", "s1": "fold2", "s2": "fold1", "s3": "fold1"}
    rows = [row | {"Fold": moved.get(row["SpkrID"], row["Fold"])} for row in rows_of(tiny_corpus)]
    labels = write_rows(tmp_path / "relabelled.csv", rows)
    line = evaluate("test", f"config.{DATA}.labels={str(labels)!r}", code=1).error
    assert "16 of its 16 utterances and 2 of its 2 speakers" in line


@pytest.mark.parametrize("pre_load", [True, False])
def test_extra_tests_that_hold_the_training_corpus_are_refused(
    tiny_corpus: TinyCorpus, evaluate: Callable[..., Any], tmp_path: Path, pre_load: bool
):
    loading = f"config.{DATA}.pre_load={pre_load}"
    line = evaluate("other", extra(tiny_corpus.labels, tiny_corpus.root), loading, code=1).error
    assert "32 of its 48 utterances and 4 of its 6 speakers" in line
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    rows = rows_of(tiny_corpus)
    for number, row in enumerate(rows):
        shutil.copy(tiny_corpus.root / row["FileName"], renamed / f"{number}.wav")
        row |= {"FileName": f"{number}.wav", "SpkrID": f"new{row['SpkrID']}"}
    line = evaluate("other", extra(write_rows(tmp_path / "renamed.csv", rows), renamed), loading, code=1).error
    assert "32 of its 48 utterances and 0 of its 6 speakers" in line


def test_another_corpus_with_the_same_names_is_evaluated(best: Path, evaluate: Callable[..., Any], tmp_path: Path):
    other = write_tiny_corpus(tmp_path / "other")
    for number, path in enumerate(sorted(other.root.iterdir())):
        soundfile.write(path, tone(200, 0.3, 1000 + number), RATE)
    evaluate("other", extra(other.labels, other.root))
    assert metrics(best, "other") is None


def test_new_audio_of_a_training_speaker_is_refused(
    tiny_corpus: TinyCorpus, evaluate: Callable[..., Any], tmp_path: Path, own_tiny_corpus: TinyCorpus
):
    rows = rows_of(own_tiny_corpus)
    for number, row in enumerate(rows):
        soundfile.write(own_tiny_corpus.root / f"new{number}.wav", tone(300, 0.3, 2000 + number), RATE)
        row["FileName"] = f"new{number}.wav"
    known = rows_of(own_tiny_corpus)[-1]  # a file that is where the corpus was copied to
    labels = write_rows(tmp_path / "new.csv", [*rows, known | {"SpkrID": "Unknown"}])
    line = evaluate("other", extra(labels, own_tiny_corpus.root), code=1).error
    assert "1 of its 49 utterances and 4 of its 6 speakers" in line


# --- train ------------------------------------------------------------------------------------------------------------


def test_training_that_would_be_tested_on_itself_does_not_begin(cli: Cli, tiny_corpus: TinyCorpus):
    tests = {f"{DATA}.extra_tests": {"other": {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)}}}
    words = tiny_corpus.overrides(**STEPS, **tests, **{"runner.eval_dataloaders": ["dev", "test", "other"]})
    line = cli("-m", "train", *HEAD, "-p", "leaky", "-o", words, code=1).error
    assert "split 'other': this run is trained on 32 of its 48 utterances and 4 of its 6 speakers" in line
    assert not Path("leaky").exists()


def test_weights_that_start_from_others_keep_what_those_saw(cli: Cli, tiny_corpus: TinyCorpus, best: Path):
    steps = STEPS | {"runner.total_steps": 4}  # -i goes on from the checkpoint's step
    words = ("-m", "train", *HEAD, "-i", best, "-o", tiny_corpus.overrides(**steps))
    line = cli(*words, "-v", "fold2", "-p", "tuned", code=1).error
    assert f"{best} was, or this run is, trained on 16 of its 16 utterances" in line
    assert not Path("tuned").exists()
    cli(*words, "-v", "fold2", "-p", "tuned", "--allow_seen")
    result = json.loads(Path("tuned/test_fold2_metrics.json").read_text())
    assert result["seen"]["utterances"] == 16
    line = cli("-m", "evaluate", "-e", "tuned/states-4.ckpt", "-t", "test", code=1).error
    assert "tuned/states-4.ckpt was trained on 16 of its 16 utterances" in line
    cli(*words, "-p", "same")  # the same fold is held out of both
    assert len(read_seen(load_checkpoint("same/states-4.ckpt"), "").traces) == 2


def test_resuming_on_another_training_split_is_refused(cli: Cli, tiny_corpus: TinyCorpus, best: Path):
    expdir = f"args.expdir={str(best.parent)!r}"
    line = cli("-m", "train", "-e", best.parent, "-o", f"{expdir},,{FOLD2}", code=1).error
    assert "was trained on another train split (16 utterances are new, 16 are gone); resume with its own labels" in line
    more = "config.runner.total_steps=4,,config.runner.save_step=4"
    cli("-m", "train", "-e", best.parent, "-o", f"{expdir},,{more}")
    before, after = (load_checkpoint(best.parent / name)[KEY] for name in ("dev-best.ckpt", "states-4.ckpt"))
    assert len(after["corpora"]) == 1
    assert all(torch.equal(before["corpora"][0][name], after["corpora"][0][name]) for name in ("train", "dev"))


def test_duplicates_in_the_corpus_s_own_split_are_a_warning(
    cli: Cli, own_tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture
):
    shutil.copy(own_tiny_corpus.root / "s4_ang_0.wav", own_tiny_corpus.root / "s0_ang_0.wav")
    cli("-m", "train", *HEAD, "-p", "doubled", "-o", own_tiny_corpus.overrides(**STEPS))
    line = "split 'test': 1 of its 16 utterances sound as one that was trained on under another name"
    assert [said.partition(";")[0] for said in warnings_in(caplog)].count(line) == 1
    caplog.clear()
    cli("-m", "evaluate", "-e", "doubled/dev-best.ckpt", "-t", "test")
    assert [said.partition(";")[0] for said in warnings_in(caplog)].count(line) == 1
    assert json.loads(Path("doubled/test_fold1_metrics.json").read_text())["seen"]["duplicates"] == 1


def test_checkpoint_without_a_record_is_not_checked(
    best: Path, evaluate: Callable[..., Any], cli: Cli, caplog: pytest.LogCaptureFixture
):
    state = load_checkpoint(best)
    old = best.with_name("old.ckpt")
    save_checkpoint({name: value for name, value in state.items() if name != KEY}, old)
    evaluate("test", FOLD2, ckpt=old)
    assert warnings_in(caplog).count(f"{old}: {NOT_KNOWN}") == 1
    assert metrics(best, fold="fold2") == {
        "checked": False, "utterances": 0, "speakers": 0, "duplicates": 0, "note": NOT_KNOWN,
    }  # fmt: skip
    cli("-m", "train", "-e", old, "-o", f"args.expdir={str(best.parent)!r},,config.runner.total_steps=4")
    assert not read_seen(load_checkpoint(best.parent / "states-4.ckpt"), "").is_complete


# --- predict, benchmark -----------------------------------------------------------------------------------------------


def test_predict_says_which_audio_was_trained_on(best: Path, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    files = [str(tiny_corpus.root / name) for name in ("s4_ang_0.wav", "s0_ang_0.wav")]
    with caplog.at_level(logging.WARNING):
        assert suite.main(["predict", "--ckpt", str(best), *files]) == 0
    said = [record.getMessage() for record in caplog.records if "trained on" in record.getMessage()]
    assert said == [
        f"1 of 2 files are audio that the checkpoint was trained on ({files[0]}); their predictions say nothing about "
        "other speech"
    ]


def test_prediction_of_training_audio_is_marked(best: Path, tiny_corpus: TinyCorpus):
    predictor = s3prl_emotion.load(best)
    for name, expected in (("s4_ang_0.wav", True), ("s0_ang_0.wav", False)):
        waveform = soundfile.read(tiny_corpus.root / name, dtype="float32")[0]
        assert predictor.predict(waveform).was_trained_on is expected
        assert predictor.predict(waveform, window=0.1).was_trained_on is expected
        assert not predictor.predict(np.append(waveform, np.float32(0.1))).was_trained_on


def test_server_s_log_warns_of_training_audio(best: Path, tiny_corpus: TinyCorpus, caplog: pytest.LogCaptureFixture):
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from s3prl_emotion.serve.limits import Limits
    from s3prl_emotion.serve.worker import Worker

    worker = Worker(s3prl_emotion.load(best), Limits(megabytes=1, seconds=30, files=3, waiting=4))
    for name, expected in (("s0_ang_0.wav", 0), ("s4_ang_0.wav", 1)):
        worker._respond(name, (tiny_corpus.root / name).open("rb"))
        assert warnings_in(caplog).count("an uploaded file is audio that the checkpoint was trained on") == expected
    worker.close()


def test_benchmark_refuses_such_a_matrix_before_it_trains(tiny_corpus: TinyCorpus, tmp_path: Path):
    data = {"labels": str(tiny_corpus.labels), "root": str(tiny_corpus.root)}
    keys = data | {"classes": None, "extra_tests": {"other": data}}
    about = {
        "kind": "matrix", "title": "leak", "head": "emotion_corr_attn", "folds": ["fold1"], "tests": ["test", "other"],
        "recipe": str(recipes_folder() / "demo" / "emotion_corr_attn.yaml"), "systems": {"one": {}},
        "upstreams": {"fbank": {"name": "fbank_no_cmvn"}},
        "overrides": {f"{DATA}.{key}": value for key, value in keys.items()},
    }  # fmt: skip
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=r"systems\.one, fold1: split 'other': the run is trained on 32 of its 48 "):
        check_plan(Plan(read_matrix(matrix), tmp_path / "out"))
    check_plan(Plan(read_matrix(matrix), tmp_path / "out", allow_seen=True))


@pytest.mark.parametrize("allowed", [False, True])
def test_benchmark_passes_the_flag_on(tmp_path: Path, allowed: bool):
    run = Plan(read_matrix(recipes_folder() / "demo" / "matrix.yaml"), tmp_path / "out", allowed).runs[0]
    for command in (_train_command(run, None), _evaluate_command(run, "test", None)):
        assert ("--allow_seen" in command) is allowed
