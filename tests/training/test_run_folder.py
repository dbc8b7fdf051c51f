"""A folder belongs to one run: it is refused, set aside or locked; outputs go where the user says, or beside -e."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, TinyCorpus
from processes import command, together
from torch import nn

from s3prl_emotion import run_downstream
from s3prl_emotion.experts.categorical import CategoricalExpert
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.folders import recipes_folder
from s3prl_emotion.files.locks import lock, locked
from s3prl_emotion.training.loop import Training

HEAD = ("-u", "fbank_no_cmvn", "-d", "emotion_corr_attn", "--device", "cpu")
STEPS = {"runner.total_steps": 1, "runner.eval_step": 1, "runner.save_step": 1, "runner.log_step": 1}
NOTE = "args_2026-01-02-03-04-05.yaml"


def training(corpus: TinyCorpus, *words: object, **overrides: object) -> tuple[object, ...]:
    """Command line of a training of one step."""
    return ("-m", "train", *HEAD, *words, "-o", corpus.overrides(**STEPS | overrides))


def contents(folder: Path | str) -> dict[str, bytes]:
    """Bytes of the files of a folder, without the lock."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def original(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained experiment that its tests copy: its checkpoints name this folder, which must stay as it is."""
    folder = tmp_path_factory.mktemp("original") / "exp"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s3prl_emotion.training.summary.plot_confusion", lambda path, *others: path)
        patch.setattr("s3prl_emotion.training.summary.plot_split", lambda *others: [])
        assert run_downstream.main([str(word) for word in training(tiny_corpus, "-p", folder)]) == 0
    return folder


@pytest.fixture
def exp(original: Path, cli: Cli) -> Path:
    """A copy of the trained experiment, in the working directory."""
    return Path(shutil.copytree(original, "exp"))


# --- used folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left", ["states-3.ckpt", "dev-best.ckpt", "log.log", "events.out.tfevents.1.host", "test_fold1_metrics.json"]
)
@pytest.mark.parametrize("head", ["emotion_corr_attn", "emotion"])
def test_used_folder_is_refused(cli: Cli, left: str, head: str):
    Path("exp").mkdir()
    Path("exp", left).write_bytes(bytes(50))
    said = "exp: holds another run; resume that with -a, choose another folder with -n or -p, or set the old one aside"
    error = cli("-m", "train", "-u", "fbank_no_cmvn", "-d", head, "-p", "exp", code=1).error
    assert error.endswith(f"{said} as exp.1 with --overwrite")
    assert contents("exp") == {left: bytes(50)}


def test_folder_of_a_start_that_failed_is_free(cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    """It holds the host's notes and an empty file of curves; what the user put there does not matter."""
    Path("exp").mkdir()
    for name in (NOTE, "upstream_2026-01-02-03-04-05.yaml", ".lock", "slurm-1.out"):
        Path("exp", name).write_text("x" * 50)
    Path("exp/events.out.tfevents.1.host").write_bytes(bytes(40))
    cli(*training(tiny_corpus, "-p", "exp"))
    assert Path("exp/states-1.ckpt").is_file()
    assert not Path("exp.1").exists()


def test_overwrite_sets_aside_what_was_there(
    cli: Cli, tiny_corpus: TinyCorpus, exp: Path, caplog: pytest.LogCaptureFixture
):
    before = contents(exp)
    Path("linked").symlink_to(exp)
    for number in (1, 2):
        cli(*training(tiny_corpus, "-p", "linked" if number == 2 else "exp", "--overwrite"))
        assert f"set aside as {exp.resolve()}.{number}" in caplog.text
    assert contents("exp.1") == before
    assert {"states-1.ckpt", "log.log"} <= set(contents("exp.2")) & set(contents("linked"))
    assert Path("linked").is_symlink()
    assert load_checkpoint("exp/states-1.ckpt")["Args"].expdir == "linked"


def test_nothing_is_lost_where_the_new_run_cannot_be_built(cli: Cli, tiny_corpus: TinyCorpus, exp: Path):
    before = contents(exp)
    cli(*training(tiny_corpus, "-p", "exp", "--overwrite", **{"optimizer.no_such_option": 1}), code=1)
    assert contents(exp) == before
    assert not Path("exp.1").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "train", "-a"), "-a needs the folder of the run to resume: name it with -n NAME or -p DIR"),
        (("-m", "train", "-a", "-p", "exp", "--overwrite"), "--overwrite sets the old run aside, -a resumes it; omit"),
        (("-m", "evaluate", "-e", "exp", "--overwrite"), "--overwrite: is for -m train"),
        (("-m", "train", "-e", "exp", "--overwrite"), "--overwrite: exp/states-1.ckpt is resumed in its own folder"),
        (("-m", "train", *HEAD, "-i", "exp/dev-best.ckpt", "-p", "exp", "--overwrite"),
         "exp: cannot be set aside with -i exp/dev-best.ckpt in it; choose another folder with -n or -p"),
        (("-m", "train", *HEAD, "-p", ".", "--overwrite"), ".: cannot be set aside with the working directory in it"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit_together(cli: Cli, exp: Path, words: tuple[str, ...], said: str):
    Path("log.log").touch()
    before = contents(exp)
    assert said in cli(*words, code=1).error
    assert contents(exp) == before


def test_auto_resume_starts_an_unfinished_run_without_states_again(cli: Cli, tiny_corpus: TinyCorpus):
    """Neither its log nor its best checkpoint, perhaps of another recipe, is taken for those of the new run."""
    Path("exp").mkdir()
    for name in ("dev-best.ckpt", "log.log", NOTE):
        Path("exp", name).write_text("of the first start")
    cli(*training(tiny_corpus, "-p", "exp", "-a"))
    assert set(contents("exp.1")) == {"dev-best.ckpt", "log.log", NOTE}
    assert load_checkpoint("exp/dev-best.ckpt")["Step"] == 1


def test_resuming_an_older_checkpoint_sets_later_ones_aside(cli: Cli, exp: Path):
    """Else training deletes its own checkpoints, and -a resumes from those of before."""
    later = load_checkpoint(exp / "states-1.ckpt") | {"Step": 9}
    for name in ("states-9.ckpt", "dev-best.ckpt"):
        torch.save(later, exp / name)
    cli("-m", "train", "-e", "exp/states-1.ckpt", "-o", "config.runner.total_steps=2")
    names = {path.name for path in exp.glob("*.ckpt*")}
    assert names == {"states-2.ckpt", "dev-best.ckpt", "states-9.ckpt.1", "dev-best.ckpt.1"}
    assert load_checkpoint("exp/dev-best.ckpt")["Step"] == 2


# --- one training at a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("-a",), ("--overwrite",)])
def test_folder_of_a_running_training_is_refused(
    cli: Cli, tiny_corpus: TinyCorpus, exp: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
):
    before = contents(exp)
    with locked(exp / ".lock", ""):
        error = cli(*training(tiny_corpus, "-p", "exp", *more), code=1).error
        cli("-m", "evaluate", "-e", "exp", "-p", "other")
    assert f"exp: another training is running in this folder (process {os.getpid()}); wait for it or end it" in error
    assert contents(exp) == before


def holds(descriptors: Path) -> bool:
    """Whether a process has the lock file open."""
    return any(os.readlink(link).endswith("exp/.lock") for link in descriptors.iterdir() if link.exists())


def test_training_holds_its_lock_and_its_workers_do_not(
    cli: Cli, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
):
    run, seen = Training.run, {}

    def watched(self: Training) -> None:
        with Path("exp/.lock").open() as file:
            seen["training"] = lock(file)
        loader = iter(self._loader())  # starts a worker
        next(loader)
        seen["worker"] = holds(Path(f"/proc/{loader.workers[0].pid}/fd"))
        del loader
        run(self)

    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(os.getpid()))
    monkeypatch.setattr(Training, "run", watched)
    options = {"downstream_expert.datarc.num_workers": 1, "downstream_expert.datarc.pre_load": False}
    cli(*training(tiny_corpus, "-p", "exp", **options))
    with Path("exp/.lock").open() as file:
        assert lock(file)  # released at the end
    assert seen == {"training": False, "worker": False}
    assert not forks, "a fork of a process with threads may wait for ever for a lock that one of them held"


def test_lock_ends_with_a_killed_process_whatever_its_children_do(tmp_path: Path):
    read, write = os.pipe()
    holder = os.fork()
    if not holder:
        try:  # whatever happens, this process must not go on as the tests
            with locked(tmp_path / ".lock", ""):
                child = os.fork()
                if child:
                    os.write(write, b"%d" % child)
                time.sleep(60)
        finally:
            os._exit(0)
    os.close(write)
    child = int(os.read(read, 20))
    try:
        with (tmp_path / ".lock").open() as file:
            assert not lock(file)
            time.sleep(0.5)  # until the child has closed its copy
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
            assert lock(file)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(read)


def test_only_the_first_process_of_torchrun_claims_the_folder(monkeypatch: pytest.MonkeyPatch):
    from s3prl_emotion.distributed import is_first

    assert is_first(Namespace(local_rank=None))
    for rank, first in (("0", True), ("1", False), ("8", False)):
        monkeypatch.setenv("RANK", rank)
        assert is_first(Namespace(local_rank=int(rank) % 8)) is first


@pytest.mark.full
def test_processes_of_one_training_share_its_folder(tmp_path: Path, tiny_corpus: TinyCorpus):
    for more in ((), ("--overwrite",), ("-a",)):
        left = together(tmp_path, 2, command, training(tiny_corpus, "-p", "exp", *more))
        assert [process.value for process in left] == [0, 0], left
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("exp")} == {"exp", "exp.1"}
    assert load_checkpoint(tmp_path / "exp/states-1.ckpt")["WorldSize"] == 2


# --- the first evaluation is the best ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "best", "seeding"),
    [
        ((0.0, 0.0), 1, "seed"),
        ((0.0, 0.0), 1, "superb"),
        ((-0.5, -0.7), 1, "seed"),
        ((-0.5, 0.0), 2, "seed"),
        ((None, None), 1, "seed"),
        ((math.nan, -1.0), 2, "seed"),
    ],
)
def test_first_evaluation_is_the_best_so_far(
    cli: Cli, superb_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    scores: tuple[float | None, ...], best: int, seeding: str,
):  # fmt: skip
    left = list(scores)
    monkeypatch.setattr(CategoricalExpert, "selection_score", lambda *others: left.pop(0) if left else 0.0)
    recipe = ("-c", recipes_folder() / "superb/emotion_corr_attn.yaml") if seeding == "superb" else ()
    options = {"runner.total_steps": 2, "runner.eval_dataloaders": ["dev"], "runner.gradient_accumulate_steps": 1}
    cli(*training(superb_corpus, "-p", "exp", *recipe, **options))
    assert load_checkpoint("exp/dev-best.ckpt")["Step"] == best
    assert "never evaluated" not in caplog.text
    assert ("is undefined" in caplog.text) is (scores[0] is None or math.isnan(scores[0]))


def test_stock_task_keeps_a_first_score_of_zero(cli: Cli, superb_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch):
    from s3prl.downstream.emotion.expert import DownstreamExpert

    log_records, steps = DownstreamExpert.log_records, []

    def nothing_right(self: Any, mode: str, records: Any, logger: Any, global_step: int, **more: Any) -> Any:
        records["acc"] = [0.0] * len(records["acc"])
        names = log_records(self, mode, records, logger, global_step, **more)
        steps.extend([global_step] * len(names))
        return names

    monkeypatch.setattr(DownstreamExpert, "log_records", nothing_right)
    text = superb_corpus.overrides(**STEPS | {"runner.total_steps": 2, "runner.gradient_accumulate_steps": 1})
    text = text.replace("datarc.labels", "datarc.meta_data").replace(
        ",,config.downstream_expert.modelrc.projector_dim=8", ""
    )
    cli("-m", "train", "-u", "fbank_no_cmvn", "-d", "emotion", "-p", "exp", "-o", text)
    assert steps == [1]
    assert load_checkpoint("exp/dev-best.ckpt")["Step"] == 1


@pytest.mark.parametrize(
    ("begins", "worst"), [(0.0, -torch.inf), (-1e4, -torch.inf), (100.0, torch.inf), (2.0**31, torch.inf)]
)
def test_best_score_of_other_weights_is_forgotten(tmp_path: Path, begins: float, worst: float):
    """Unless the folder has their checkpoint; in the host's tasks the first value shows the direction."""
    from s3prl_emotion.training.best import first_is_best

    expert: Any = nn.Module()
    expert.register_buffer("best_score", torch.full((1,), begins))
    expert.best = defaultdict(int)
    with first_is_best(expert, tmp_path):
        expert.load_state_dict({"best_score": torch.full((1,), 0.4)})
    assert expert.best_score.item() == worst
    assert expert.best["dev"] == -torch.inf
    (tmp_path / "dev-best.ckpt").touch()
    with first_is_best(expert, tmp_path):
        expert.load_state_dict({"best_score": torch.full((1,), 0.4)})
    assert expert.best_score.item() == pytest.approx(0.4)


# --- where outputs go --------------------------------------------------------------------------------------------


def hostile(path: Path, **arguments: object) -> None:
    """Change the arguments in a checkpoint."""
    state = load_checkpoint(path)
    vars(state["Args"]).update(arguments)
    state["Config"]["downstream_expert"]["attention_dir"] = str(arguments["expdir"])
    torch.save(state, path)


@pytest.mark.parametrize(
    ("words", "folder"),
    [((), "exp"), (("-p", "given/there"), "given/there"), (("-n", "named"), "result/downstream/named")],
)
def test_evaluation_writes_beside_the_named_checkpoint_or_where_the_user_says(
    cli: Cli, exp: Path, original: Path, words: tuple[str, ...], folder: str
):
    before = contents(original)
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt", "-t", "train", *words)
    assert Path(folder, "train_fold1_metrics.json").is_file()
    assert list(Path.cwd().rglob("train_fold1_metrics.json")) == [Path.cwd() / folder / "train_fold1_metrics.json"]
    assert contents(original) == before


def test_init_ckpt_is_evaluated_beside_it(cli: Cli, tiny_corpus: TinyCorpus, exp: Path):
    cli("-m", "evaluate", *HEAD, "-i", "exp/dev-best.ckpt", "-t", "train", "-o", tiny_corpus.overrides())
    assert Path("exp/train_fold1_metrics.json").is_file()
    assert not Path("result").exists()


@pytest.mark.parametrize("words", [("-a", "-p", "exp"), ("-e", "exp")])
def test_copied_experiment_goes_on_in_the_copy(cli: Cli, exp: Path, original: Path, words: tuple[str, ...]):
    before = contents(original)
    cli("-m", "train", *words, "-o", "config.runner.total_steps=2")
    assert load_checkpoint("exp/states-2.ckpt")["Args"].expdir == "exp"
    assert contents(original) == before


def test_checkpoint_does_not_choose_where_files_go(
    cli: Cli, tiny_corpus: TinyCorpus, exp: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    evil = tmp_path / "evil"
    for name in ("dev-best.ckpt", "states-1.ckpt"):
        hostile(exp / name, expdir=str(evil), feature_store=str(evil), cache_dir=str(evil), push_to_hf_hub=True)
    hub = torch.hub.get_dir()
    cli("-m", "evaluate", "-e", "exp/dev-best.ckpt")
    assert "its --cache_dir" in caplog.text
    assert "its --push_to_hf_hub" in caplog.text
    assert "attention weights go to exp/attention, not to " in caplog.text
    assert Path("exp/attention/test_fold1_attention.npz").is_file()
    cli("-m", "inference", "-e", "exp/dev-best.ckpt", "-t", tiny_corpus.root / "s0_ang_0.wav")
    cli("-m", "train", "-a", "-p", "exp", "-o", "config.runner.total_steps=2")
    assert torch.hub.get_dir() == hub
    assert not evil.exists()
