"""A run that was interrupted and resumed equals one that was not, bit for bit; crashes never cost a checkpoint."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LAUNCHER, SOURCE, Cli, TinyCorpus

from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.training.loop import Training

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn")
DATA = "downstream_expert.datarc"
STATE = ("Downstream", "Featurizer", "Optimizer", "Scheduler", "Rng", "Step", "Epoch", "Batch", "Records", "BatchIds",
         "Unaveraged")  # fmt: skip
Interrupt = Callable[[tuple[str, ...], int], None]


def words(corpus: TinyCorpus, folder: str, **overrides: object) -> tuple[str, ...]:
    """Command line of nine steps with checkpoints at 3, 6 and 9; an epoch has six batches unless overridden."""
    steps = {"runner.total_steps": 9, "runner.save_step": 3, "runner.eval_step": 4, f"{DATA}.pre_load": False}
    return ("-m", "train", *HEAD, "-p", folder, "-o", corpus.overrides(**(steps | overrides)))


def states(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).glob("states-*.ckpt"))


def outcome_of(folder: str) -> dict[str, Any]:
    """Everything that a finished run comes to: its last state, its best one, its log and its predictions."""
    last = load_checkpoint(Path(folder) / states(folder)[-1])
    left: dict[str, Any] = {name: last.get(name) for name in STATE}
    left["best"] = load_checkpoint(f"{folder}/dev-best.ckpt")["Downstream"]
    left["log"] = sorted(set(Path(folder, "log.log").read_text().splitlines()))  # steps done twice are logged twice
    for name in ("dev_fold1_predictions.csv", "test_fold1_predictions.csv"):
        left[name] = Path(folder, name).read_text()
    return left


def different(one: Any, other: Any, where: str = "") -> list[str]:
    """Places where nested containers differ, bit for bit."""
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: {list(one)} and {list(other)}"]
        return [place for key in one for place in different(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} items"]
        pairs = enumerate(zip(one, other, strict=True))
        return [place for number, pair in pairs for place in different(*pair, f"{where}[{number}]")]
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]


@pytest.fixture
def interrupt(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """``interrupt(command, step)``: run, and press Ctrl-C once ``step`` is done."""
    after_update = Training._after_update

    def call(command: tuple[str, ...], step: int) -> None:
        def mortal(self: Training, total: int) -> None:
            after_update(self, total)
            if self.step == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Training, "_after_update", mortal)
            outcome = cli(*command, code=130)
        assert outcome.error.endswith("interrupted; the same command with -a resumes from the last checkpoint")

    return call


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="in the middle of an epoch"),
        pytest.param({"runner.save_step": 6, "runner.total_steps": 12}, id="at the end of an epoch"),
        pytest.param(
            {"runner.gradient_accumulate_steps": 2, f"{DATA}.train_batch_size": 5},
            id="accumulation",
            marks=pytest.mark.full,
        ),
        pytest.param({f"{DATA}.num_workers": 2, "runner.log_step": 4}, id="workers", marks=pytest.mark.full),
        pytest.param(
            {f"{DATA}.pre_load": True, f"{DATA}.class_weights": "balanced"}, id="preloaded", marks=pytest.mark.full
        ),
        pytest.param(
            {
                f"{DATA}.balanced_sampling": True,
                f"{DATA}.train_batch_size": 7,
                "runner.gradient_accumulate_steps": 3,
                "runner.log_step": 5,
            },
            id="balanced sampling",
        ),
        pytest.param(
            {
                f"{DATA}.augment": {
                    "speed": {},
                    "babble": {},
                    "noise": {"source": "white"},
                    "gain": {},
                    "spec_augment": {},
                    "mixup": {},
                }
            },
            id="augmented",
        ),
        pytest.param(
            {
                "scheduler.name": "linear_schedule_with_warmup",
                "scheduler.num_warmup_steps": 2,
                "optimizer.name": "AdamW",
                "specaug.apply_time_warp": True,
            },
            id="scheduler and SpecAugment",
            marks=pytest.mark.full,
        ),
        pytest.param(
            {
                "runner.ema_decay": 0.6,
                "downstream_expert.best_metric": "loss",
                "scheduler.name": "cosine_schedule_with_warmup",
                "scheduler.warmup_ratio": 0.2,
            },
            id="averaged weights, picked by loss",
        ),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(
    cli: Cli, tiny_corpus: TinyCorpus, interrupt: Interrupt, overrides: dict[str, Any]
):
    save = overrides.get("runner.save_step", 3)
    cli(*words(tiny_corpus, "whole", **overrides))
    interrupt(words(tiny_corpus, "parts", **overrides), save + 2)
    assert states("parts") == [f"states-{save}.ckpt"]
    before = load_checkpoint(f"parts/states-{save}.ckpt")
    cli(*words(tiny_corpus, "parts", **overrides), "-a")
    whole, parts = outcome_of("whole"), outcome_of("parts")
    assert different(whole, parts) == []
    assert whole["Step"] == overrides.get("runner.total_steps", 9)
    assert different(before["Downstream"], parts["Downstream"])  # it did go on


@pytest.mark.full
@pytest.mark.parametrize(("seed", "overrides"), [(1337, {}), (7, {"runner.ema_decay": 0.6})])
def test_trainable_upstream_resumes_exactly(
    cli: Cli, tiny_corpus: TinyCorpus, interrupt: Interrupt, seed: int, overrides: dict[str, Any]
):
    more = ("-f", "--seed", str(seed), "-u", "customized_upstream")
    cli(*words(tiny_corpus, "whole", **overrides), *more)
    interrupt((*words(tiny_corpus, "parts", **overrides), *more), 5)
    cli("-m", "train", "-e", "parts")
    upstream = [load_checkpoint(f"{name}/states-9.ckpt")["Upstream"] for name in ("whole", "parts")]
    assert different(*upstream) == []
    assert different(outcome_of("whole"), outcome_of("parts")) == []


@pytest.mark.full
@pytest.mark.parametrize("what", ["parts", "parts/states-3.ckpt"])
def test_resuming_by_folder_or_file(cli: Cli, tiny_corpus: TinyCorpus, interrupt: Interrupt, what: str):
    cli(*words(tiny_corpus, "whole"))
    interrupt(words(tiny_corpus, "parts"), 5)
    cli("-m", "train", "-e", what)
    assert different(outcome_of("whole"), outcome_of("parts")) == []


def test_resuming_from_an_older_checkpoint(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*words(tiny_corpus, "exp", **{"runner.max_keep": 3}))
    whole = outcome_of("exp")
    cli("-m", "train", "-e", "exp/states-3.ckpt")
    assert states("exp") == ["states-3.ckpt", "states-6.ckpt", "states-9.ckpt"]
    assert different(whole, outcome_of("exp")) == []


def test_interrupted_twice(cli: Cli, tiny_corpus: TinyCorpus, interrupt: Interrupt):
    cli(*words(tiny_corpus, "whole"))
    command = words(tiny_corpus, "parts")
    interrupt(command, 2)
    assert states("parts") == []
    interrupt((*command, "-a"), 4)  # nothing to go on from: from the start
    interrupt((*command, "-a"), 8)
    assert states("parts") == ["states-6.ckpt"]
    cli(*command, "-a")
    assert different(outcome_of("whole"), outcome_of("parts")) == []


def test_longer_training_goes_on_exactly(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*words(tiny_corpus, "whole"))
    cli(*words(tiny_corpus, "parts", **{"runner.total_steps": 6}))
    cli("-m", "train", "-e", "parts", "-o", "config.runner.total_steps=9")
    assert different(outcome_of("whole"), outcome_of("parts")) == []


def test_resuming_a_finished_run_changes_nothing(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*words(tiny_corpus, "exp"))
    before = {path.name: path.read_bytes() for path in Path("exp").iterdir()}
    outcome = cli(*words(tiny_corpus, "exp"), "-a")
    after = {path.name: path.read_bytes() for path in Path("exp").iterdir()}
    notes = ("args_", "config_", "events.out")
    assert {name: after[name] for name in before if not name.startswith(notes)} == {
        name: content for name, content in before.items() if not name.startswith(notes)
    }
    assert all(name.startswith(notes) for name in after.keys() - before.keys())
    assert "dev-best.ckpt" in outcome.out  # the scores are shown again


def test_checkpoint_of_the_hosts_own_runner_can_be_resumed(cli: Cli, tiny_corpus: TinyCorpus):
    """It lacks what an exact resume needs, but not what training needs."""
    cli(*words(tiny_corpus, "exp", **{"runner.max_keep": 9}))
    state = load_checkpoint("exp/states-6.ckpt")
    for name in ("Rng", "Batch", "Records", "BatchIds"):
        del state[name]
    torch.save(state, "exp/states-6.ckpt")
    cli("-m", "train", "-e", "exp/states-6.ckpt")
    assert load_checkpoint("exp/states-9.ckpt")["Step"] == 9


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "states-6.ckpt: could not be written"),
        (RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos"), 1, "resume with -a"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_crash_while_a_checkpoint_is_written(
    cli: Cli,
    tiny_corpus: TinyCorpus,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
    said: str,
):
    cli(*words(tiny_corpus, "whole"))
    save = torch.save

    def dying(state: dict[str, Any], file: Any) -> None:
        if state["Step"] == 6:
            file.write(b"half of a checkpoint")
            raise failure
        save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dying)
        assert said in cli(*words(tiny_corpus, "parts"), code=code).error
    assert states("parts") == ["states-3.ckpt"]
    assert load_checkpoint("parts/states-3.ckpt")["Step"] == 3
    assert not [path.name for path in Path("parts").iterdir() if "partial" in path.name]
    cli(*words(tiny_corpus, "parts"), "-a")
    assert different(outcome_of("whole"), outcome_of("parts")) == []


@pytest.mark.full
@pytest.mark.parametrize("keep", [1, 2, 20])
def test_never_without_a_checkpoint(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, keep: int):
    """Also between two lines: what is kept is counted at every removal, after the new one is in place."""
    unlink, counts = Path.unlink, []

    def counted(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok=missing_ok)
        if self.name.startswith("states-"):
            counts.append(len(states("exp")))

    monkeypatch.setattr(Path, "unlink", counted)
    cli(*words(tiny_corpus, "exp", **{"runner.save_step": 1, "runner.max_keep": keep, "runner.total_steps": 12}))
    expected = [f"states-{step}.ckpt" for step in range(1, 13)][-keep:]
    assert states("exp") == sorted(expected)  # by number, not by name: 10 comes behind 9
    assert counts == [keep] * max(0, 12 - keep)


# --- reading -----------------------------------------------------------------------------------------------------


class Malicious:
    """Runs a command when unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("mode", ["train", "evaluate", "inference"])
@pytest.mark.parametrize("flag", ["-e", "-i"])
@pytest.mark.parametrize("form", ["zip", "pickle", "in the arguments"])
def test_checkpoint_with_code_is_refused(cli: Cli, tiny_corpus: TinyCorpus, mode: str, flag: str, form: str):
    arguments = argparse.Namespace(downstream="emotion_corr_attn", upstream="fbank_no_cmvn", expdir="exp", seed=0)
    state: dict[str, Any] = {"Args": arguments, "Config": {}, "Step": 1}
    if form == "in the arguments":
        arguments.seed = Malicious()
    else:
        state["Optimizer"] = Malicious()
    if form == "pickle":
        Path("bad.ckpt").write_bytes(pickle.dumps(state, protocol=2))
    else:
        torch.save(state, "bad.ckpt")
    audio = tiny_corpus.root / "s0_ang_0.wav"
    command = ("-m", mode, *HEAD, "-p", "exp", flag, "bad.ckpt", "-o", tiny_corpus.overrides())
    error = cli(*command, *(("-t", audio) if mode == "inference" else ()), code=1).error
    assert "bad.ckpt: " in error
    assert ("refused" in error) or (form == "pickle" and "not a checkpoint" in error)
    assert not Path("ran").exists()
    assert not Path("exp").exists()


def test_auto_resume_of_a_checkpoint_with_code_is_refused(cli: Cli, tiny_corpus: TinyCorpus):
    cli(*words(tiny_corpus, "exp", **{"runner.total_steps": 3}))
    torch.save({**load_checkpoint("exp/states-3.ckpt"), "Records": Malicious()}, "exp/states-6.ckpt")
    assert "states-6.ckpt: refused" in cli(*words(tiny_corpus, "exp"), "-a", code=1).error
    assert not Path("ran").exists()


def test_recipe_of_a_checkpoint_cannot_bring_code(cli: Cli, tiny_corpus: TinyCorpus):
    """The host evaluates the optimizer's name."""
    cli(*words(tiny_corpus, "exp", **{"runner.total_steps": 3}))
    state = load_checkpoint("exp/states-3.ckpt")
    state["Config"]["optimizer"]["name"] = "Adam if open('ran', 'w') else get_Adam"
    torch.save(state, "exp/states-3.ckpt")
    for mode in ("train", "evaluate"):
        assert "optimizer.name" in cli("-m", mode, "-e", "exp", code=1).error
    assert not Path("ran").exists()


# --- processes that die ------------------------------------------------------------------------------------------


@pytest.mark.full
def test_killed_process(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    """``kill -9`` as soon as there is a checkpoint, twice; whatever it hits, resuming comes to the same end."""
    steps = {"runner.total_steps": 90, "runner.save_step": 3, "runner.eval_step": 20}
    cli(*words(tiny_corpus, "whole", **steps))
    command = [sys.executable, *LAUNCHER, *words(tiny_corpus, "parts", **steps), "-a"]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    known: list[str] = []
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while states("parts") == known and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL
        assert len(states("parts")) >= 1
        known = states("parts")
        assert load_checkpoint(Path("parts") / known[-1])["Step"] < 90
    cli(*words(tiny_corpus, "parts", **steps), "-a")
    assert different(outcome_of("whole"), outcome_of("parts")) == []
