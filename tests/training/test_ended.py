"""A training that is asked to end keeps its last whole step, and goes on from there bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus
from kills import MARK, QUIET, born, left_behind
from test_resume import DATA, HEAD, different, outcome_of, states, words

from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.training.loop import Training

pytestmark = pytest.mark.full
Sending = Callable[..., str]


@pytest.fixture
def ended(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Sending:
    """``ended(command, step=5)`` or ``ended(command, batch=3)``: send a signal during a step's backward pass.

    Or during the evaluation of that batch, counted over the evaluated splits; what the command said.
    """
    from s3prl_emotion.training.runner import SuiteRunner  # after the fixture has patched the host

    backward, features = Training._backward, SuiteRunner.features

    def call(
        command: tuple[Any, ...],
        step: int = 0,
        batch: int = 0,
        number: signal.Signals = signal.SIGTERM,
        code: int = 143,
    ) -> str:
        evaluated = []

        def struck(self: Training, *given: Any) -> bool:
            if self.step + 1 == step:
                os.kill(os.getpid(), number)
            return backward(self, *given)

        def seen(self: SuiteRunner, *given: Any) -> Any:
            if not torch.is_grad_enabled():
                evaluated.append(1)
                if len(evaluated) == batch:
                    os.kill(os.getpid(), number)
            return features(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Training, "_backward", struck)
            patch.setattr(SuiteRunner, "features", seen)
            return cli(*command, code=code).error

    return call


@pytest.fixture
def whole(cli: Cli, tiny_corpus: TinyCorpus) -> dict[str, Any]:
    """What nine steps come to, with an epoch of six batches."""
    cli(*words(tiny_corpus, "whole"))
    return outcome_of("whole")


@pytest.mark.parametrize(
    ("step", "number", "code", "reason"),
    [
        (5, signal.SIGTERM, 143, "ended by SIGTERM"),
        (6, signal.SIGHUP, 129, "ended by SIGHUP"),
        (8, signal.SIGINT, 130, "interrupted"),
    ],
)
def test_amid_a_step(
    cli: Cli,
    tiny_corpus: TinyCorpus,
    whole: dict[str, Any],
    ended: Sending,
    step: int,
    number: signal.Signals,
    code: int,
    reason: str,
):
    command = words(tiny_corpus, "parts")
    said = ended(command, step=step, number=number, code=code)
    advice = f"the same command with -a goes on from step {step} (parts/states-{step}.ckpt)"
    assert said == f"run_downstream.py: error: {reason}; {advice}"
    assert states("parts") == [f"states-{step}.ckpt"]
    assert not [path.name for path in Path("parts").iterdir() if "partial" in path.name]
    cli(*command, "-a")
    assert different(whole, outcome_of("parts")) == []


@pytest.mark.parametrize("batch", [1, 3])
def test_amid_an_evaluation(cli: Cli, tiny_corpus: TinyCorpus, whole: dict[str, Any], ended: Sending, batch: int):
    """Of dev, which is evaluated first, or of test: what is left of it is made up for, and the best is the same."""
    command = words(tiny_corpus, "parts")
    assert "goes on from step 4 (parts/states-4.ckpt)" in ended(command, batch=batch)
    left = load_checkpoint("parts/states-4.ckpt")["Left"]
    assert left["splits"][-1] == "test"
    assert (len(left["splits"]) == 1) == (left["names"] == ["dev-best.ckpt"])
    cli(*command, "-a")
    assert different(whole, outcome_of("parts")) == []


def test_amid_accumulation(cli: Cli, tiny_corpus: TinyCorpus, ended: Sending):
    """The gradients of the first batches are in no checkpoint, so the step is made first."""
    options = {"runner.gradient_accumulate_steps": 3, f"{DATA}.train_batch_size": 2}
    cli(*words(tiny_corpus, "whole", **options))
    assert "goes on from step 5 " in ended(words(tiny_corpus, "parts", **options), step=5)
    cli(*words(tiny_corpus, "parts", **options), "-a")
    assert different(outcome_of("whole"), outcome_of("parts")) == []


def test_a_recipe_that_saves_nothing(tiny_corpus: TinyCorpus, ended: Sending):
    said = ended(words(tiny_corpus, "exp", **{"runner.save_step": 99, "runner.eval_step": 99}), step=5)
    assert "ended by SIGTERM; the recipe saves no checkpoints (runner.save_step), so the 5 steps are lost" in said
    assert states("exp") == []


def test_superbs_order(cli: Cli, superb_corpus: TinyCorpus, ended: Sending):
    """It does not go on exactly, but it goes on."""
    more = {"runner.seeding": "superb", "runner.save_step": 9, "runner.eval_step": 4}
    command = ("-m", "train", *HEAD, "-p", "exp", "-o", superb_corpus.overrides(**more, **{"runner.total_steps": 9}))
    assert "goes on from step 5 " in ended(command, step=5)
    cli(*command, "-a")
    assert states("exp") == ["states-9.ckpt"]


def test_loader_processes_end_too(cli: Cli, tiny_corpus: TinyCorpus, tmp_path: Path):
    """A process with loader processes of its own; nothing of it is left, and nothing half-written."""
    steps = {"runner.total_steps": 400, "runner.save_step": 400, "runner.eval_step": 7, f"{DATA}.num_workers": 2}
    command = ("run_downstream.py", *words(tiny_corpus, str(tmp_path / "exp"), **steps), "-a")
    with born() as nursery:
        pid = nursery.start(*command, to="output", env=QUIET | {MARK: str(tmp_path)})
        while not (tmp_path / "exp/log.log").exists():
            assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z", Path(
                "output"
            ).read_text()
        os.kill(pid, signal.SIGTERM)
        assert nursery.wait(pid) == 143, Path("output").read_text()
    said = [line for line in Path("output").read_text().splitlines() if "error" in line]
    assert len(said) == 1
    assert "error: ended by SIGTERM; the same command with -a goes on from step" in said[0]
    assert left_behind(str(tmp_path)) == []
    assert not [path.name for path in Path("exp").iterdir() if "partial" in path.name]
